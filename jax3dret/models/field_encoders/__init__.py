"""Encoders of implicit neural representations (INRs): rows of their weights and features of their
grids to one embedding, and the decoder that trains them.
"""
