"""What furniture stands on: legs or a pedestal."""

from __future__ import annotations

import numpy as np
from manifold3d import Manifold

from data_pipelines.parametric_shapes.solids import around, at, box, corners, cylinder, rod, union

LEG_STYLES = ("square", "round", "tapered", "splayed")


def facing_x(parts: list[Manifold]) -> Manifold:
    """The piece put together from its parts and turned so that what looked along -y looks along +x."""
    return union(*parts).rotate((0, 0, 90))


def four_legs(
    rng: np.random.Generator,
    x: float,
    y: float,
    height: float,
    thick: float,
    rails: float = 0.0,
    styles: tuple[str, ...] = LEG_STYLES,
) -> list[Manifold]:
    """Four legs below a rectangle x by y, in one of the styles: splayed ones reach outwards to the
    floor.

    With `rails`, a share of the height, a bar joins front and rear leg on either side at that
    height.
    """
    style = rng.choice(styles)
    spread, inset = 0.0, 1.3 * thick
    if style == "square":
        inset = thick
        legs = at(box(thick, thick, height), corners(x - inset, y - inset))
    elif style == "splayed":
        spread, inset = height * rng.uniform(0.06, 0.2), 2.8 * thick
        legs = [
            rod(
                (px + np.sign(px) * spread, py + np.sign(py) * spread, 0),
                (px, py, height),
                0.35 * thick,
                0.6 * thick,
                12,
            )
            for px, py in corners(x - inset, y - inset)
        ]
    else:
        low = 0.5 * thick if style == "round" else 0.3 * thick
        legs = at(cylinder(height, low, 0.55 * thick, 14), corners(x - inset, y - inset))
    if rails > 0.0:
        out = spread * (1 - rails)
        px, py, z = (x - inset) / 2 + out, (y - inset) / 2 + out, rails * height
        legs += [
            rod((sx * px, -py, z), (sx * px, py, z), 0.32 * thick, segments=10) for sx in (-1, 1)
        ]
    return legs


def pedestal(rng: np.random.Generator, height: float, spread: float) -> list[Manifold]:
    """One column on a disc, or on a star of feet, within `spread` of the axis."""
    column = cylinder(height, spread * rng.uniform(0.09, 0.2), segments=20)
    if rng.random() < 0.5:
        foot = cylinder(
            0.04 * height + 1.0, spread * rng.uniform(0.75, 1.0), spread * rng.uniform(0.55, 0.75)
        )
        return [column, foot]
    count = int(rng.choice([3, 4, 5], p=[0.2, 0.4, 0.4]))
    lift = height * rng.uniform(0.08, 0.25)
    return [column, *around(rod((0, 0, lift), (spread, 0, 1.8), 2.6, 1.8, 10), count, 0.0, 90.0)]
