"""The training loop and what it stands on; knows no model and no data set."""
