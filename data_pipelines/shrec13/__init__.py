"""SHREC'13 Sketch-Based Retrieval, and a benchmark laid out like it."""
