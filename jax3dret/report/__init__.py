"""What a person reads: one page for each run, one for each table."""
