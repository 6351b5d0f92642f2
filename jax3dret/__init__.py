"""Find 3D things: retrieval of meshes, point clouds, sketches, photos and implicit representations
on JAX and Flax.
"""

__version__ = "0.1.0"
