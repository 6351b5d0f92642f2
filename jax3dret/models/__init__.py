"""Encoders and heads: Flax Linen modules, one file per network."""
