"""The Princeton Shape Benchmark with its base and coarse classifications."""
