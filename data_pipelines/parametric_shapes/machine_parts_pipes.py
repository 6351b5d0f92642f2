"""Parts of a pipeline: flanges, elbows, tees. Unit: roughly millimetres."""

from __future__ import annotations

import numpy as np
from manifold3d import CrossSection, Manifold

from data_pipelines.parametric_shapes.solids import (
    around,
    at,
    corners,
    cut,
    cylinder,
    disc,
    lathe,
    rounded_rectangle,
    sweep,
    union,
)


def flange(rng: np.random.Generator) -> Manifold:
    """Pipe flange lying flat: round, square or two-bolt oval; neck tapered, straight or none; bored
    or blind.
    """
    outer = 40.0
    thick = outer * rng.uniform(0.12, 0.32)
    bore = outer * rng.uniform(0.22, 0.5)
    outline = rng.choice(["round", "square", "oval"], p=[0.66, 0.2, 0.14])
    neck = rng.choice(["weld", "slip", "blind", "plate"], p=[0.4, 0.25, 0.15, 0.2])
    hole = outer * rng.uniform(0.06, 0.1)
    circle = 0.5 * (outer + bore * 1.25)
    if outline == "round":
        count = int(rng.choice([4, 6, 8, 12], p=[0.3, 0.25, 0.3, 0.15]))
        shape = disc(outer, 48)
        holes = around(cylinder(9 * thick, hole, segments=14), count, circle)
    elif outline == "square":
        side = outer * rng.uniform(1.6, 1.9)
        shape = rounded_rectangle(side, side, outer * rng.uniform(0.12, 0.45))
        holes = at(cylinder(9 * thick, hole, segments=14), corners(0.76 * side, 0.76 * side))
    else:
        reach = outer * rng.uniform(1.15, 1.5)
        ear = disc(2.6 * hole, 24)
        shape = CrossSection.batch_hull(
            [disc(1.45 * bore, 40), ear.translate((reach, 0)), ear.translate((-reach, 0))]
        )
        holes = at(cylinder(9 * thick, hole, segments=14), [(reach, 0), (-reach, 0)])
    solid = shape.extrude(thick)
    wall = bore * rng.uniform(1.16, 1.4)
    height = outer * rng.uniform(0.3, 0.9)
    if neck == "weld":
        foot = min(wall * rng.uniform(1.15, 1.4), 1.42 * bore)
        outer_wall = [
            (0, 0.5 * thick),
            (foot, 0.5 * thick),
            (foot, thick),
            (wall, thick + 0.7 * height),
            (wall, thick + height),
            (0, thick + height),
        ]
        solid = union(solid, lathe(outer_wall))
    elif neck == "slip":
        solid = union(solid, cylinder(thick + 0.45 * height, wall))
    if rng.random() < 0.5:  # the raised sealing face
        solid = union(
            solid,
            cylinder(1.0 + 0.12 * thick, min(1.45 * bore, circle - 1.3 * hole)).translate(
                (0, 0, -0.12 * thick)
            ),
        )
    tools = [h.translate((0, 0, -4 * thick)) for h in holes]
    if neck != "blind":
        tools.append(cylinder(9 * outer, bore).translate((0, 0, -outer)))
    return cut(solid, *tools)


class _Ending:
    """How the ends of a fitting look: one choice for all the ends of one shape."""

    def __init__(self, rng: np.random.Generator, radius: float):
        self.style = str(
            rng.choice(["plain", "flange", "socket", "bead"], p=[0.25, 0.35, 0.25, 0.15])
        )
        self.thick = radius * rng.uniform(0.2, 0.4)
        self.reach = rng.uniform(1.55, 1.95)
        self.bolts = int(rng.choice([4, 6, 8]))
        self.depth = radius * rng.uniform(0.5, 0.9)

    def make(self, radius: float) -> Manifold | None:
        """The added ring for a pipe that ends at z = 0 coming from below; bored later with the pipe
        itself.
        """
        if self.style == "flange":
            plate = cylinder(self.thick, self.reach * radius)
            hole = cylinder(4 * self.thick, 0.14 * radius, segments=10).translate(
                (0, 0, -self.thick)
            )
            return cut(plate, *around(hole, self.bolts, (self.reach + 1) / 2 * radius)).translate(
                (0, 0, -self.thick)
            )
        if self.style == "socket":
            return cylinder(self.depth, 1.22 * radius).translate((0, 0, -self.depth))
        if self.style == "bead":
            angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
            ring = np.stack(
                [radius + 0.16 * radius * np.cos(angle), 0.16 * radius * np.sin(angle)], axis=1
            )
            return lathe(ring).translate((0, 0, -0.17 * radius))
        return None


def elbow(rng: np.random.Generator) -> Manifold:
    """Bent pipe that rises from the floor and turns towards +x: 45, 90 or 180 degrees; ends plain,
    flanged or socketed.
    """
    radius = 12.0
    inner = radius * rng.uniform(0.68, 0.88)
    bend = radius * rng.uniform(1.6, 3.6)
    turn = float(rng.choice([45, 60, 90, 180], p=[0.2, 0.12, 0.5, 0.18]))
    ending = _Ending(rng, radius)
    first, last = radius * rng.uniform(0.5, 2.2, 2)
    if turn == 180.0:
        bend = max(bend, 2.1 * radius)

    def path(past: float) -> np.ndarray:
        # Points stay close to the corners between straight and bend, so that the tube keeps its
        # width there.
        angle = np.radians(np.linspace(0, turn, max(5, int(turn / 7.5))))
        arc = np.stack(
            [bend * (1 - np.cos(angle)), 0 * angle, first + bend * np.sin(angle)], axis=1
        )
        ahead = np.array([np.sin(angle[-1]), 0.0, np.cos(angle[-1])])
        return np.concatenate([[[0, 0, -past]], arc, [arc[-1] + (last + past) * ahead]])

    line = path(0.0)
    parts = [sweep(line, radius, 28)]
    cap = ending.make(radius)
    if cap is not None:
        parts.append(cap.rotate((180, 0, 0)))
        parts.append(cap.rotate((0, turn, 0)).translate(tuple(line[-1])))
    solid = cut(union(*parts), sweep(path(2.0 * radius), inner, 28))
    lowest = solid.bounding_box()[2]
    return solid.translate((-float(line[:, 0].mean()), 0, -lowest))


def tee(rng: np.random.Generator) -> Manifold:
    """Branching pipe with its run along x: tee, slanted branch or cross; branch as wide as the run
    or narrower.
    """
    radius = 12.0
    wall = rng.uniform(0.68, 0.88)
    half = radius * rng.uniform(2.0, 3.4)
    branch = radius * (1.0 if rng.random() < 0.45 else rng.uniform(0.5, 0.85))
    rise = max(radius * rng.uniform(1.7, 3.0), 1.6 * radius)
    style = rng.choice(["tee", "slanted", "cross"], p=[0.68, 0.17, 0.15])
    tilt = rng.uniform(35, 50) if style == "slanted" else 0.0
    if style == "slanted":
        rise = radius * rng.uniform(2.7, 3.6)
    ending = _Ending(rng, radius)

    arms = [
        (radius, half, (0.0, 90.0, 0.0)),
        (radius, half, (0.0, -90.0, 0.0)),
        (branch, rise, (0.0, tilt, 0.0)),
    ]
    if style == "cross":
        arms.append((branch, rise, (180.0, 0.0, 0.0)))
    parts, tools = [], []
    for size, length, turn in arms:
        pipe = cylinder(length, size)
        cap = ending.make(size)
        if cap is not None:
            pipe = union(pipe, cap.translate((0, 0, length)))
        parts.append(pipe.rotate(turn))
        tools.append(cylinder(2 * length, wall * size).rotate(turn))
    if rng.random() < 0.35:
        parts.append(Manifold.sphere(1.12 * radius, 24))
    solid = cut(union(*parts), *tools)
    return solid.translate((0, 0, -solid.bounding_box()[2]))


PROGRAMS = (flange, elbow, tee)
