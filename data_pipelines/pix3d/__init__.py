"""The meshes of Pix3D with a seeded split by category."""
