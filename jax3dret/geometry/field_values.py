"""The values of any field at any number of points, asked for in few sizes and checked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import DataError

# From points of the domain [-1, 1]^3, float32[P, 3], to values, float32[P]: an INR, or anything
# that can be asked.
FieldCallable = Callable[[np.ndarray], np.ndarray]
# Points that a field is asked for at once: a compiled one is compiled for each of these sizes, so
# there are few. The last is also what bounds the memory.
SIZES = (1 << 10, 1 << 13, 1 << 16)


def field_values(field: FieldCallable, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, " P"]:
    """The field at points, float32.

    Points are handed over in float32 blocks of SIZES, the last filled up with copies of its first
    point, whose values are dropped.

    Raises:
        DataError: the field gave another shape than one value a point, or a value that is not
            finite.
    """
    points = np.asarray(points, np.float32)
    found = np.empty(len(points), np.float32)
    begin = 0
    while begin < len(points):
        left = len(points) - begin
        size = next((s for s in SIZES if left <= s), SIZES[-1])
        # A size four times too large is better asked for in smaller blocks.
        if left < size // 4 and size > SIZES[0]:
            size = SIZES[SIZES.index(size) - 1]
        block = points[begin : begin + size]
        filled = np.concatenate([block, np.repeat(block[:1], size - len(block), 0)])
        values = np.asarray(field(filled))
        if values.shape != (size,):
            raise DataError(
                f"the field gave values of shape {values.shape} for points of shape "
                f"{filled.shape}; expected ({size},), one number a point"
            )
        values = values[: len(block)]
        finite = np.isfinite(values)
        if not finite.all():
            at = int(np.argmin(finite))
            raise DataError(
                f"the field gave {values[at]} at {block[at].tolist()}, and "
                f"{int((~finite).sum())} of {len(block)} values are not finite; a diverged fit?"
            )
        found[begin : begin + len(block)] = values
        begin += len(block)
    return found
