"""Evaluators: an embedding function in, metrics and the files a report is made from out."""
