"""Losses: pure functions of arrays, float32 whatever comes in."""
