"""Data on its way to a batch: readers of prepared data sets and the transforms of their records."""
