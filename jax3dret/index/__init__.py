"""Exact and ScaNN search over embeddings, and their storage."""
