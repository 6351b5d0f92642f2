"""One module for each family of reference outputs. A module's CHECKS maps a kind to the function
that checks a case.
"""
