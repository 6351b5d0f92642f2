"""Where rays meet the surface of a distance field: sphere tracing (Hart 1996), damped where the
distance has no sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.geometry.field_values import FieldCallable, field_values


class Tracing(NamedTuple):
    """How rays are traced. step: the part of the distance that a ray moves at once. steps: most
    evaluations of a ray. hit: as near as this is on the surface. swing: of a signed distance, the
    mean of two successive values this near to 0 is the surface between them. damped: an unsigned
    distance, which does not tell that a ray has gone through: where it grows again from below
    `near`, its least value in the last two steps is looked for in `halvings`, and is the surface if
    it is below `least`.
    """

    step: float
    steps: int
    hit: float
    swing: float = 0.0
    damped: bool = False
    near: float = 0.0
    halvings: int = 0
    least: float = 0.0


# Kaolin Wisp's and NGLOD's settings; for unsigned distances after NDF's damped tracing (Chibane et
# al. 2020), whose constants are not published but for `least`: its clouds keep points to there.
SIGNED = Tracing(step=0.8, steps=256, hit=3e-4, swing=15e-4)
UNSIGNED = Tracing(step=0.5, steps=256, hit=3e-3, damped=True, near=0.02, halvings=8, least=9e-3)
# Half the distance of the two values that a normal is taken from (NGLOD).
NORMAL_STEP = 15e-4


class Traced(NamedTuple):
    """points: float64, where each ray ended. hit: whether that is on the surface. evaluations: how
    often the field was asked for a value."""

    points: Float[np.ndarray, "R 3"]
    hit: Bool[np.ndarray, " R"]
    evaluations: int


def trace(
    field: FieldCallable,
    origins: Float[np.ndarray, "R 3"],
    directions: Float[np.ndarray, "R 3"],
    tracing: Tracing = SIGNED,
) -> Traced:
    """Follows rays through the domain [-1, 1]^3 to the surface of a field.

    A ray starts where it enters the domain, or at its origin inside it, and ends without a hit
    where it leaves it or after `tracing.steps` steps. From a negative distance a ray goes back, to
    the surface behind it.

    field: distances, from float32[P, 3] to float32[P]. directions: of any length but 0.

    Raises DataError: values of another shape or that are not finite.
    """
    origins = np.asarray(origins, np.float64)
    directions = np.asarray(directions, np.float64)
    directions = directions / np.sqrt((directions * directions).sum(1, keepdims=True))
    first, last = _domain(origins, directions)

    def values(rays: Int[np.ndarray, " A"], along: Float[np.ndarray, " A"]) -> np.ndarray:
        return field_values(field, origins[rays] + along[:, None] * directions[rays])

    # Of each ray: where it is, and was one and two steps before, with the field there.
    place = np.where(first <= last, np.maximum(first, 0.0), 0.0)
    hit = np.zeros(len(origins), bool)
    active = np.flatnonzero((first <= last) & (last >= 0))
    value = np.zeros(len(origins))
    value[active] = values(active, place[active])
    asked = len(active)
    before, behind, earlier = value.copy(), place.copy(), place.copy()
    falling = np.zeros(len(origins), bool)
    for _ in range(tracing.steps):
        now = value[active]
        if tracing.damped:
            near = now < tracing.hit
            # The rest of the way is not damped: it is no farther than the distance.
            place[active[near]] += np.maximum(now[near], 0.0)
        else:
            near = np.abs(now) < tracing.hit
            near |= np.abs(now + before[active]) / 2 < tracing.swing
        hit[active[near]] = True
        active = active[~near]
        if tracing.damped:
            grows = value[active] > before[active]
            low = active[grows & falling[active] & (before[active] < tracing.near)]
            if len(low):
                found, least = _least(values, low, earlier[low], place[low], tracing.halvings)
                asked += len(low) * (tracing.halvings + 2)
                through = least < tracing.least
                place[low[through]] = found[through]
                hit[low[through]] = True
            falling[active] = ~grows
            active = active[~hit[active]]
        ahead = place[active] + tracing.step * value[active]
        stays = (ahead >= first[active]) & (ahead <= last[active])
        active, ahead = active[stays], ahead[stays]
        if not len(active):
            break
        before[active] = value[active]
        earlier[active], behind[active] = behind[active], place[active]
        place[active] = ahead
        value[active] = values(active, ahead)
        asked += len(active)
    return Traced(origins + place[:, None] * directions, hit, asked)


def normals_at(field: FieldCallable, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
    """Unit gradients of the field by central differences, float64; 0 where it has none."""
    points = np.asarray(points, np.float64)
    gradient = np.empty((len(points), 3))
    for axis in range(3):
        step = NORMAL_STEP * np.eye(3)[axis]
        gradient[:, axis] = field_values(field, points + step) - field_values(field, points - step)
    length = np.sqrt((gradient * gradient).sum(1, keepdims=True))
    return np.divide(gradient, length, out=np.zeros_like(gradient), where=length > 0)


def _domain(
    origins: Float[np.ndarray, "R 3"], directions: Float[np.ndarray, "R 3"]
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Where along the rays the cube [-1, 1]^3 begins and ends; the end comes first for a ray that
    misses it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = np.stack([(-1 - origins) / directions, (1 - origins) / directions])
    # Along an axis that a ray does not move in, it is within for ever or never.
    still = directions == 0
    within = np.abs(origins) <= 1
    low = np.where(still, np.where(within, -np.inf, np.inf), sides.min(0))
    high = np.where(still, np.where(within, np.inf, -np.inf), sides.max(0))
    return low.max(1), high.min(1)


def _least(
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rays: Int[np.ndarray, " A"],
    low: Float[np.ndarray, " A"],
    high: Float[np.ndarray, " A"],
    halvings: int,
) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, " A"]]:
    """Where along each ray, between two places, a distance is least, and that distance. It falls
    and grows alike on both sides of the surface, so the half with the smaller end is kept."""
    at_low, at_high = values(rays, low), values(rays, high)
    for _ in range(halvings):
        middle = (low + high) / 2
        at_middle = values(rays, middle)
        left = at_low < at_high
        low, at_low = np.where(left, low, middle), np.where(left, at_low, at_middle)
        high, at_high = np.where(left, middle, high), np.where(left, at_middle, at_high)
    return np.where(at_low < at_high, low, high), np.minimum(at_low, at_high)
