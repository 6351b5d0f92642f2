"""One file for each paper: the only place where models, losses, data and evaluators meet."""
