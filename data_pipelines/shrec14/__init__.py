"""SHREC'14 Extended Large Scale Sketch-Based Retrieval."""
