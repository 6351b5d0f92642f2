"""Meshes, sampling, rendering, distance fields and cameras: geometry without learning, in NumPy."""
