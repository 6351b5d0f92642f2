"""What a model reads of a file, one kind of input a file."""
