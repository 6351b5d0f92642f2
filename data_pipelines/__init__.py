"""TFDS builders, one folder each: raw files become typed records, once."""
