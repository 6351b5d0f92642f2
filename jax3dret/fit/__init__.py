"""Stores of INRs made of folders: of meshes by fits, of other INRs by distillation."""
