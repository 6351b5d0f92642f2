"""The index, the report a person reads, and the everyday commands built on them."""
