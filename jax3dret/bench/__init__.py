"""Measurements against plain implementations: each module has `cases(repeats) -> list of results`."""
