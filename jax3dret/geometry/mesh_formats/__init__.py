"""One file a mesh format: what its bytes say, whole, or the reason why not."""
