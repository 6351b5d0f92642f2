"""Why the bytes of a file give no mesh."""


class Unusable(Exception):
    """The reason alone; whoever knows the file puts its path before it."""
