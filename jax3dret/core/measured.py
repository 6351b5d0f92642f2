"""What an evaluator gives: one number for each name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import ConfigError, EmbedFn, Evaluator

# Fields of an event in metrics.jsonl, beside the numbers.
RESERVED = ("step", "split", "time")


def numbers(given: Any, *, where: str) -> dict[str, float]:
    """The numbers by name, as Python has them; NaN and the infinities stay.

    given: a mapping of names to Python, NumPy or JAX numbers. where: the evaluator, for the error.

    Raises:
        ConfigError: it is no such mapping, or a name is "step", "split" or "time".
    """
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{where}: the evaluator gives {type(given).__name__}; give numbers by name, such as "
            "{'accuracy': 0.5}"
        )
    found: dict[str, float] = {}
    for name, value in given.items():
        if not isinstance(name, str) or name in RESERVED:
            raise ConfigError(
                f"{where}: the evaluator calls a number {name!r}; give it another name, a text "
                f"other than {', '.join(RESERVED)}"
            )
        array = np.asarray(value)
        is_real = array.dtype.kind in "biu" or np.issubdtype(array.dtype, np.floating)
        if array.ndim or not (is_real or array.dtype.name == "bfloat16"):
            raise ConfigError(
                f"{where}: '{name}' is {type(value).__name__} of shape {array.shape}; give one "
                "real number for each name"
            )
        found[name] = array.item() if array.dtype.kind in "biu" else float(array)
    return found


def checked(evaluator: Any, *, where: str) -> Evaluator:
    """The evaluator, whose numbers are read by `numbers`.

    Raises ConfigError for what cannot be called.
    """
    if not callable(evaluator):
        raise ConfigError(
            f"{where}: make gives {type(evaluator).__name__}; give a function evaluate(embed, "
            "folder)"
        )

    def evaluate(embed: EmbedFn, folder: Any) -> Mapping[str, float]:
        return numbers(evaluator(embed, folder), where=where)

    return evaluate
