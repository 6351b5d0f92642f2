"""Point operations: farthest-point sampling, nearest neighbours, ball query, gather. Pure JAX,
batched, jittable.
"""
