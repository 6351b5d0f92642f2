"""A module of a user's own that fails when it is imported."""

HALF = 1 / 0
