"""Furniture other than seats, in centimetres: tables, shelves, cabinets, beds.

Pieces are put together with their front along -y and handed over with it along +x.
"""

from __future__ import annotations

import numpy as np
from manifold3d import Manifold

from data_pipelines.parametric_shapes.solids import (
    SMALL,
    at,
    box,
    corners,
    cut,
    cylinder,
    pillow,
    rod,
    rounded_rectangle,
    slab,
    union,
)
from data_pipelines.parametric_shapes.underframes import LEG_STYLES, facing_x, four_legs, pedestal


def table(rng: np.random.Generator) -> Manifold:
    """Dining, coffee or side table: top rectangular, round or oval; legs, trestles, pedestal or
    panels; apron, lower shelf.
    """
    low = rng.random() < 0.3
    height = rng.uniform(36, 52) if low else rng.uniform(64, 78)
    shape = rng.choice(["rectangular", "round", "oval"], p=[0.6, 0.25, 0.15])
    y = rng.uniform(50, 95)
    x = y if shape == "round" else y * rng.uniform(1.0, 2.3)
    thick, leg = rng.uniform(2, 5.5), rng.uniform(4, 8)
    if shape == "rectangular":
        top = slab(x, y, thick, rng.choice([0.5, 3.0, 0.12 * y]))
        fx, fy = x * rng.uniform(0.84, 0.99), y * rng.uniform(0.84, 0.99)
    else:
        top = cylinder(thick, y / 2, segments=48).scale((x / y, 1, 1))
        fx, fy = 0.66 * x, 0.66 * y
    parts = [top.translate((0, 0, height))]
    bases = ["legs", "trestle", "pedestal", "panels"]
    base = rng.choice(
        bases, p=[0.55, 0.17, 0.13, 0.15] if shape == "rectangular" else [0.45, 0.1, 0.45, 0.0]
    )
    if base == "legs":
        lower = rng.random() < 0.3
        # A lower shelf rests on legs that stay within the frame all the way down.
        parts += four_legs(
            rng, fx, fy, height + 0.5, leg, styles=LEG_STYLES[:3] if lower else LEG_STYLES
        )
        if rng.random() < 0.55:
            deep = rng.uniform(4, 11)
            frame = cut(
                box(fx - leg, fy - leg, deep),
                box(fx - leg - 4, fy - leg - 4, 3 * deep).translate((0, 0, -deep)),
            )
            parts.append(frame.translate((0, 0, height + 0.5 - deep)))
        if lower:
            parts.append(
                box(fx - 0.8 * leg, fy - 0.8 * leg, 2.0).translate(
                    (0, 0, height * rng.uniform(0.15, 0.4))
                )
            )
    elif base == "trestle":
        lean = rng.uniform(0.5, 0.9)
        for sx in (-1, 1):
            px = sx * 0.36 * fx
            parts += [
                rod(
                    (px, sy * 0.45 * lean * fy, 0),
                    (px, -sy * 0.3 * fy * (lean > 0.7), height + 1),
                    0.4 * leg,
                    segments=10,
                )
                for sy in (-1, 1)
            ]
            parts.append(box(0.7 * leg, 0.8 * fy, 3).translate((px, 0, height - 2.5)))
        parts.append(
            rod(
                (-0.36 * fx, 0, 0.45 * height),
                (0.36 * fx, 0, 0.45 * height),
                0.3 * leg,
                segments=10,
            )
        )
        if lean > 0.7:
            parts += [
                rod(
                    (sx * 0.36 * fx, -0.3 * fy, 0.45 * height),
                    (sx * 0.36 * fx, 0.3 * fy, 0.45 * height),
                    0.3 * leg,
                    segments=10,
                )
                for sx in (-1, 1)
            ]
        else:
            parts += [
                rod(
                    (sx * 0.36 * fx, -0.16 * fy, 0.45 * height),
                    (sx * 0.36 * fx, 0.16 * fy, 0.45 * height),
                    0.3 * leg,
                    segments=10,
                )
                for sx in (-1, 1)
            ]
    elif base == "pedestal":
        parts += pedestal(rng, height + 0.5, 0.45 * fy + 6)
    else:
        wall = rng.uniform(2.5, 5)
        parts += [
            box(wall, fy, height + 0.5).translate((sx * (fx - wall) / 2, 0, 0)) for sx in (-1, 1)
        ]
        if rng.random() < 0.6:
            parts.append(
                box(fx - wall, wall, height * rng.uniform(0.3, 0.6)).translate(
                    (0, rng.uniform(0, 0.4) * fy, 0.35 * height)
                )
            )
    return union(*parts)


def shelf(rng: np.random.Generator) -> Manifold:
    """Shelf unit: side panels, corner posts or ladder frames; two to six boards; back panel,
    dividers, a plinth.
    """
    x, y, z = rng.uniform(45, 130), rng.uniform(22, 42), rng.uniform(70, 200)
    board, count = rng.uniform(1.8, 3.6), int(rng.integers(3, 7))
    style = rng.choice(["panels", "posts", "leaning"], p=[0.58, 0.3, 0.12])
    foot = 0.0 if rng.random() < 0.5 else z * rng.uniform(0.04, 0.1)
    levels = np.linspace(foot, z - board, count)
    parts = []
    if style == "leaning":  # boards grow deeper towards the floor
        for level in levels:
            deep = y * (1.35 - 0.75 * level / z)
            parts.append(box(x, deep, board).translate((0, y * 0.65 - deep / 2, level)))
        for sx in (-1, 1):
            parts.append(
                rod(
                    (sx * (x / 2 - 1.5), -0.68 * y, 0),
                    (sx * (x / 2 - 1.5), 0.06 * y, z + 5),
                    1.6,
                    segments=10,
                )
            )
            parts.append(
                rod(
                    (sx * (x / 2 - 1.5), 0.58 * y, 0),
                    (sx * (x / 2 - 1.5), 0.58 * y, z + 5),
                    1.6,
                    segments=10,
                )
            )
        return facing_x(parts)
    parts += [box(x - 0.5, y - 0.5, board).translate((0, 0, level)) for level in levels]
    if style == "panels":
        parts += [box(board, y, z).translate((sx * (x - board) / 2, 0, 0)) for sx in (-1, 1)]
        if rng.random() < 0.55:
            parts.append(box(x - 0.5, 1.2, z - foot).translate((0, y / 2 - 0.8, foot)))
        dividers = int(rng.integers(0, 3))
        for px in np.linspace(-x / 2, x / 2, dividers + 2)[1:-1]:
            parts.append(
                box(0.8 * board, y - 1, z - foot - board).translate((px, 0, foot + 0.5 * board))
            )
    else:
        parts += at(box(3, 3, z + 1), corners(x - 2, y - 2))
        if rng.random() < 0.4:
            parts += [
                rod(
                    (-x / 2 + 1, y / 2 - 1, foot + 2),
                    (x / 2 - 1, y / 2 - 1, z - 2),
                    0.8,
                    segments=8,
                ),
                rod(
                    (x / 2 - 1, y / 2 - 1, foot + 2),
                    (-x / 2 + 1, y / 2 - 1, z - 2),
                    0.8,
                    segments=8,
                ),
            ]
    return facing_x(parts)


def cabinet(rng: np.random.Generator) -> Manifold:
    """Closed or part open cupboard: doors, drawers or both, knobs or bars; on a plinth or on legs;
    wardrobe to chest.
    """
    x, y, z = rng.uniform(40, 150), rng.uniform(30, 60), rng.uniform(50, 200)
    wall, gap = rng.uniform(1.8, 3.2), 1.8
    lift = rng.uniform(3, 9) if rng.random() < 0.5 else rng.uniform(10, 28)
    body = box(x, y, z).translate((0, 0, lift))
    parts, tools = [], []
    columns = max(1, round(x / rng.uniform(38, 60)))
    wide = (x - 2 * wall) / columns
    drawers = int(rng.integers(0, 5)) if z < 110 else int(rng.integers(0, 3))
    tall = 0.0 if drawers == 0 else min((z - 2 * wall) * rng.uniform(0.3, 1.0), 26.0 * drawers)
    if drawers and z - 2 * wall - tall < 25:
        tall = z - 2 * wall
    open_part = rng.random() < 0.5 and 0 < tall < z - 2 * wall
    bars = rng.random() < 0.5
    front = -y / 2

    def fitting(px: float, pz: float, upright: bool) -> Manifold:
        if not bars:
            return Manifold.sphere(2.4, 12).translate((px, front - 1.6, pz))
        size = (1.4, 3.0, 12.0) if upright else (12.0, 3.0, 1.4)
        return Manifold.cube(size, True).translate((px, front - 1.0, pz))

    def panel(px: float, low: float, high: float) -> None:
        # A door or drawer front stands out from the carcass by its own edge.
        parts.append(
            box(wide - gap, 2.2, high - low - gap).translate((px, front - 0.6, low + gap / 2))
        )

    for i in range(columns):
        px = (i - (columns - 1) / 2) * wide
        base = lift + wall
        for j in range(drawers):
            low, high = base + j * tall / drawers, base + (j + 1) * tall / drawers
            panel(px, low, high)
            parts.append(fitting(px, (low + high) / 2, upright=False))
        low, high = base + tall, lift + z - wall
        if high - low < 5:
            continue
        if open_part:
            count = max(1, round((high - low) / 34))
            each = (high - low) / count
            tools += [
                box(wide - wall, 2 * y - 6, each - wall).translate(
                    (px, front, low + k * each + wall / 2)
                )
                for k in range(count)
            ]
        else:
            panel(px, low, high)
            parts.append(
                fitting(px + (0.4 if i % 2 == 0 else -0.4) * wide, (low + high) / 2, upright=True)
            )
    solid = cut(body, *tools)
    if rng.random() < 0.4:
        parts.append(box(x + 4, y + 3, 2.5).translate((0, -1, lift + z - 1)))
    if lift > 9:
        parts += four_legs(rng, x, y, lift + 1, rng.uniform(3, 6))
    else:
        parts.append(box(x - 4, y - 4, lift + 1).translate((0, 1, 0)))
    return facing_x([solid, *parts])


def _headboard(
    rng: np.random.Generator, x: float, height: float, thick: float, style: str
) -> Manifold:
    """The upright end of a bed, x wide, from the floor up."""
    if style == "panel":
        return box(x, thick, height)
    if style == "arched":
        bow = (
            cylinder(thick, x / 2, segments=40)
            .scale((1, 0.35, 1))
            .rotate((90, 0, 0))
            .translate((0, thick / 2, height - 2))
        )
        return union(
            box(x, thick, height), bow ^ box(2 * x, 2 * thick, x).translate((0, 0, 0.5 * height))
        )
    post = 0.05 * x + 2
    count = int(rng.integers(5, 10))
    bars = [
        box(0.35 * x / count, 0.5 * thick, 0.95 * height).translate((px, 0, 0))
        for px in np.linspace(-0.5, 0.5, count + 2)[1:-1] * x
    ]
    rails = [
        box(x, 0.8 * thick, 0.09 * height + 2).translate((0, 0, z * height)) for z in (0.35, 0.88)
    ]
    posts = at(box(post, thick + 1, height * 1.06), [(-(x - post) / 2, 0), ((x - post) / 2, 0)])
    return union(*posts, *rails, *bars)


def bed(rng: np.random.Generator) -> Manifold:
    """Bed, single to double: headboard panel, arch or bars; footboard or none; legs or box; posts,
    bunk; pillows, blanket.
    """
    x, y = rng.uniform(85, 185), rng.uniform(185, 215)
    rail, mattress = rng.uniform(8, 22), rng.uniform(14, 28)
    lift = 0.0 if rng.random() < 0.3 else rng.uniform(10, 28)
    head = lift + rail + mattress + rng.uniform(15, 70)
    style = str(rng.choice(["panel", "arched", "bars"]))
    kind = rng.choice(["plain", "posts", "bunk"], p=[0.7, 0.14, 0.16])
    if kind == "bunk":
        x, rail, mattress, lift = rng.uniform(85, 110), 9.0, 14.0, rng.uniform(18, 30)
    thick = rng.uniform(4, 9)
    deck = union(
        box(x, y, rail).translate((0, 0, lift)),
        pillow(x - 4, y - 4, mattress + 2, 4).translate((0, 0, lift + rail - 2)),
    )
    pillows = 1 if x < 125 else 2
    wide = 0.8 * (x - 4) / pillows
    heads = [
        (px, y / 2 - 26) for px in (np.arange(pillows) - (pillows - 1) / 2) * (x - 4) / pillows
    ]
    deck = union(
        deck, *at(pillow(wide, 38, 13, 5).translate((0, 0, lift + rail + mattress - 4)), heads)
    )
    if rng.random() < 0.5:
        cover = y * rng.uniform(0.5, 0.7)
        deck = union(
            deck,
            pillow(x + 1, cover, mattress + 1, 4).translate(
                (0, -(y - cover) / 2 - 0.5, lift + rail + 2)
            ),
        )
    parts = [deck]
    if kind == "bunk":
        storey = rng.uniform(85, 105)
        parts.append(deck.translate((0, 0, storey)))
        parts += at(box(6, 6, storey + lift + rail + mattress + 25), corners(x + 2, y + 2))
        guard = lift + storey + rail + mattress + 12
        parts += [
            rod((-x / 2, sy * y / 2, guard), (x / 2, sy * y / 2, guard), 2.2, segments=10)
            for sy in (-1, 1)
        ]
        parts.append(rod((x / 2, -y / 2, guard), (x / 2, y / 2, guard), 2.2, segments=10))
        ladder = [
            rod((-x / 2 - 1, py, 0), (-x / 2 - 1, py, guard), 2, segments=8)
            for py in (-y / 2 + 15, -y / 2 + 55)
        ]
        rungs = [
            rod((-x / 2 - 1, -y / 2 + 15, z), (-x / 2 - 1, -y / 2 + 55, z), 1.6, segments=8)
            for z in np.linspace(20, guard - 20, 5)
        ]
        return facing_x([*parts, *ladder, *rungs])
    parts.append(_headboard(rng, x + 2, head, thick, style).translate((0, y / 2 + 0.3 * thick, 0)))
    if rng.random() < 0.55:
        end = lift + rail + mattress + rng.uniform(-8, 18)
        parts.append(
            _headboard(rng, x + 2, end, thick, style if style != "arched" else "panel").translate(
                (0, -y / 2 - 0.3 * thick, 0)
            )
        )
    elif lift > 0:
        parts += at(box(7, 7, lift + 1), [(-x / 2 + 5, -y / 2 + 5), (x / 2 - 5, -y / 2 + 5)])
    if kind == "posts":
        tall = rng.uniform(150, 200)
        parts += at(cylinder(tall, 4, 3, SMALL), corners(x, y))
        if rng.random() < 0.6:
            parts.append(
                (rounded_rectangle(x + 6, y + 6) - rounded_rectangle(x - 3, y - 3))
                .extrude(5)
                .translate((0, 0, tall - 4))
            )
    return facing_x(parts)


PROGRAMS = (table, shelf, cabinet, bed)
