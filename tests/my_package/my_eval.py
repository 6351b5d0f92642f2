"""An evaluator of a user's own, as the README describes one."""

from evaluators.outside import make

__all__ = ["make"]
