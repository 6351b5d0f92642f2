"""Drawings of the Quick, Draw! data set."""
