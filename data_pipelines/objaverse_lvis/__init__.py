"""Objaverse-LVIS: the classes with at least 100 samples."""
