"""Retrieval and classification metrics in NumPy float64; every convention is a named argument."""
