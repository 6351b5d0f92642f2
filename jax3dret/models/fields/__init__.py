"""Implicit neural representations (INRs) as pure functions: one architecture a file, and the fit of
many at once.
"""
