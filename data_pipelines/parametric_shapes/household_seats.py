"""Seats, in centimetres: chairs, stools, benches, sofas.

Pieces are put together with their front along -y and handed over with it along +x.
"""

from __future__ import annotations

import numpy as np
from manifold3d import Manifold

from data_pipelines.parametric_shapes.solids import (
    around,
    at,
    box,
    corners,
    cylinder,
    pillow,
    rod,
    slab,
    sweep,
    tube,
    union,
)
from data_pipelines.parametric_shapes.underframes import facing_x, four_legs, pedestal


def chair(rng: np.random.Generator) -> Manifold:
    """Seat with a back: four legs, star pedestal or sled; back solid, slatted, laddered or framed;
    with or without arms.
    """
    x, y = rng.uniform(38, 52), rng.uniform(38, 50)
    height, thick = rng.uniform(38, 50), rng.uniform(2.5, 7)
    back, tilt = rng.uniform(32, 62), rng.uniform(2, 16)
    leg = rng.uniform(2.8, 5)
    round_seat = rng.random() < 0.2
    base = rng.choice(
        ["legs", "pedestal", "sled"], p=[0.7, 0.3, 0.0] if round_seat else [0.6, 0.2, 0.2]
    )
    if round_seat:
        y = x
        seat = cylinder(thick, x / 2, segments=36)
    elif rng.random() < 0.4:
        seat = pillow(x, y, thick + 2, 0.4 * thick)
    else:
        seat = slab(x, y, thick, rng.uniform(0.5, 9))
    parts = [seat.translate((0, 0, height))]

    if base == "legs":
        within = 0.8 if round_seat else 1.0
        rails = rng.uniform(0.25, 0.5) if rng.random() < 0.4 else 0.0
        parts += four_legs(rng, within * x, within * y, height + 1, leg, rails)
    elif base == "pedestal":
        parts += pedestal(rng, height + 1, 0.52 * x)
    else:
        inset = x / 2 - leg / 2
        for sx in (-inset, inset):
            loop = [
                (sx, -y / 2 + 3, height + 1),
                (sx, -y / 2 + 2, 3.0),
                (sx, -y / 2 + 3, 1.3),
                (sx, -y / 2 + 5, 1.2),
                (sx, y / 2 - 5, 1.2),
                (sx, y / 2 - 3, 1.3),
                (sx, y / 2 - 2, 3.0),
                (sx, y / 2 - 3, height + 1),
            ]
            parts.append(sweep(loop, 1.2, 8))
        parts.append(rod((-inset, y / 2 - 6, 1.2), (inset, y / 2 - 6, 1.2), 1.1, segments=8))

    style = rng.choice(["solid", "slats", "ladder", "frame", "shell"])
    width = x * rng.uniform(0.86, 1.0) if not round_seat else 0.72 * x
    bar = rng.uniform(2.2, 3.6)
    posts = [box(bar, bar, back).translate((sx * (width - bar) / 2, 0, 0)) for sx in (-1, 1)]
    rail = back * rng.uniform(0.1, 0.2)
    top = box(width, bar, rail).translate((0, 0, back - rail))
    if style == "solid":
        gap = 0.0 if rng.random() < 0.5 else 0.3 * back
        panel = (
            slab(width, back - gap, bar, 0.12 * width)
            .rotate((90, 0, 0))
            .translate((0, bar / 2, gap + (back - gap) / 2))
        )
        rear = (
            [panel]
            if gap == 0.0
            else [
                panel,
                *(
                    p.translate((-np.sign(p.bounding_box()[0]) * 0.15 * width, 0, 0)).trim_by_plane(
                        (0, 0, -1), -0.6 * back
                    )
                    for p in posts
                ),
            ]
        )
    elif style == "slats":
        count = int(rng.integers(3, 7))
        rear = [
            *posts,
            top,
            *(
                box(0.45 * width / count, 0.5 * bar, back - 0.5 * rail).translate((s, 0, 0))
                for s in np.linspace(-0.5, 0.5, count + 2)[1:-1] * width
            ),
        ]
    elif style == "ladder":
        rungs = int(rng.integers(2, 5))
        rear = [
            *posts,
            top,
            *(
                box(width - 0.5 * bar, 0.6 * bar, 0.55 * back / rungs).translate((0, 0, z * back))
                for z in np.linspace(0.22, 0.72, rungs)
            ),
        ]
    elif style == "frame":
        rear = [*posts, top, box(width - 0.5 * bar, bar, rail).translate((0, 0, 0.25 * back))]
    else:  # a piece of a cylinder wall, bent round the sitter
        bow = 0.62 * width
        keep = box(4 * bow, bow, 4 * back).translate((0, bow * 0.5 + 0.42 * bow, 0))
        rear = [
            (tube(0.6 * back, bow, bow - bar, 40) ^ keep).translate(
                (0, -bow + bar / 2, 0.4 * back)
            ),
            *(box(bar, bar, 0.55 * back).translate((sx * 0.25 * width, -0.3, 0)) for sx in (-1, 1)),
        ]
    hold = 0.3 * y if round_seat else y / 2 - bar / 2
    parts.append(
        union(*rear)
        .translate((0, 0, -1))
        .rotate((-tilt, 0, 0))
        .translate((0, hold, height + thick))
    )

    if rng.random() < 0.35:
        rise, wide = rng.uniform(17, 25), rng.uniform(3, 6)
        for sx in (-1, 1):
            px = sx * (x / 2 - wide / 2)
            parts.append(box(wide, 0.92 * y, 2.6).translate((px, 0.06 * y, height + thick + rise)))
            parts.append(box(2.6, 2.6, rise + 2).translate((px, -0.3 * y, height + thick - 1)))
            if round_seat or style in ("shell", "solid"):
                parts.append(box(2.6, 2.6, rise + 2).translate((px, 0.35 * y, height + thick - 1)))
            if round_seat:
                parts.append(box(0.3 * x, 2.6, thick).translate((sx * 0.36 * x, -0.3 * y, height)))
                parts.append(box(0.3 * x, 2.6, thick).translate((sx * 0.36 * x, 0.35 * y, height)))
    return facing_x(parts)


def stool(rng: np.random.Generator) -> Manifold:
    """Seat without a back, low or bar height: three or four legs or a pedestal; foot ring or rungs;
    flat or padded.
    """
    size, height = rng.uniform(28, 44), rng.uniform(36, 82)
    thick = rng.uniform(2.5, 8)
    shape = rng.choice(["round", "square", "padded"], p=[0.5, 0.25, 0.25])
    if shape == "round":
        seat = cylinder(thick, 0.5 * size, 0.5 * size * rng.uniform(0.9, 1.05), 36)
    elif shape == "square":
        seat = slab(size, size * rng.uniform(0.7, 1.0), thick, rng.uniform(0.5, 8))
    else:
        edge = 0.4 * thick
        seat = union(
            cylinder(thick - edge, size / 2, segments=36).translate((0, 0, 0.3)),
            cylinder(thick + 1, size / 2 - edge, segments=36),
        ).hull()
    parts = [seat.translate((0, 0, height))]
    base = rng.choice(["three", "four", "pedestal"], p=[0.3, 0.45, 0.25])
    if base == "pedestal":
        parts += pedestal(rng, height + 1, size * rng.uniform(0.5, 0.62))
        if height > 55 and rng.random() < 0.6:
            level, reach = 0.3 * height, 0.36 * size
            parts += [
                tube(2, reach, reach - 2).translate((0, 0, level)),
                rod((-reach + 1, 0, level + 1), (reach - 1, 0, level + 1), 0.9, segments=8),
            ]
        return union(*parts)
    count = 3 if base == "three" else 4
    top, spread = 0.33 * size, size * rng.uniform(0.4, 0.62)
    thin, thick_leg = rng.uniform(1.0, 1.6), rng.uniform(1.6, 2.4)
    phase = 90.0 if count == 3 else 45.0
    parts += around(
        rod((spread, 0, 0), (top, 0, height + 1), thin, thick_leg, 12), count, 0.0, phase
    )
    level = rng.uniform(0.25, 0.45)
    reach = spread + (top - spread) * level
    stay = rng.choice(["none", "ring", "rungs"], p=[0.25, 0.35, 0.4])
    if stay == "ring":
        parts.append(tube(1.8, reach + 0.4, reach - 1.4).translate((0, 0, level * height)))
    elif stay == "rungs":
        angle = np.radians(phase) + 2 * np.pi * np.arange(count) / count
        ends = np.stack(
            [reach * np.cos(angle), reach * np.sin(angle), np.full(count, level * height)], axis=1
        )
        parts += [rod(ends[i], ends[(i + 1) % count], 0.9, segments=8) for i in range(count)]
    return union(*parts)


def bench(rng: np.random.Generator) -> Manifold:
    """Seat for several, with or without a back and arms: board or slats on legs, panels, trestles
    or a box.
    """
    x, y = rng.uniform(85, 180), rng.uniform(28, 50)
    height, thick = rng.uniform(36, 48), rng.uniform(3, 6)
    seat = rng.choice(["board", "slats", "padded"], p=[0.4, 0.35, 0.25])
    if seat == "board":
        parts = [slab(x, y, thick, rng.choice([0.3, 2.0, 6.0]))]
    elif seat == "padded":
        parts = [box(x - 2, y - 2, 2), pillow(x, y, thick + 5, 2).translate((0, 0, 1))]
    else:
        count = int(rng.integers(3, 6))
        wide = y / count * 0.8
        parts = [
            box(x, wide, thick).translate((0, py, 0))
            for py in np.linspace(-(y - wide) / 2, (y - wide) / 2, count)
        ]
        parts += [
            box(5, y - 1, thick).translate((sx * 0.38 * x, 0, -0.5 * thick)) for sx in (-1, 1)
        ]
    parts = [p.translate((0, 0, height)) for p in parts]
    base = rng.choice(["legs", "panels", "trestle", "box"], p=[0.45, 0.25, 0.2, 0.1])
    if base == "legs":
        parts += four_legs(
            rng, 0.94 * x, 0.94 * y, height + 1, rng.uniform(3.5, 7), rng.choice([0.0, 0.3])
        )
        parts.append(box(0.9 * x, 0.8 * y, 3).translate((0, 0, height - 2.5)))
    elif base == "panels":
        wall = rng.uniform(3, 8)
        inset = rng.uniform(0.7, 0.98) * x - wall
        parts += [
            box(wall, 0.9 * y, height + 0.5).translate((sx * inset / 2, 0, 0)) for sx in (-1, 1)
        ]
        parts.append(box(inset, 3, 9).translate((0, 0, height - 8.5)))
    elif base == "trestle":
        for px in (-0.36 * x, 0.36 * x):
            parts += [
                rod((px, sy * 0.5 * y, 0), (px, sy * 0.22 * y, height + 1), 2.4, segments=10)
                for sy in (-1, 1)
            ]
            parts.append(box(5, 0.8 * y, 3).translate((px, 0, height - 2.5)))
            parts.append(
                rod((px, -0.36 * y, 0.5 * height), (px, 0.36 * y, 0.5 * height), 1.8, segments=10)
            )
        parts.append(
            rod((-0.36 * x, 0, 0.5 * height), (0.36 * x, 0, 0.5 * height), 1.8, segments=10)
        )
    else:
        parts.append(box(0.96 * x, 0.92 * y, height + 1))
    if rng.random() < 0.45:
        rise, tilt = rng.uniform(28, 50), rng.uniform(4, 16)
        posts = [box(4, 3, rise + 2).translate((sx * 0.4 * x, 0, 0)) for sx in (-1, 0, 1)]
        if rng.random() < 0.6:
            rails = [
                box(x, 2.2, 0.2 * rise).translate((0, -1, z * rise))
                for z in np.linspace(0.25, 0.85, int(rng.integers(2, 4)))
            ]
        else:
            rails = [box(x, 2.5, 0.12 * rise).translate((0, -0.5, z * rise)) for z in (0.2, 0.93)]
            rails += [
                box(2.5, 1.6, 0.8 * rise).translate((px, -0.5, 0.2 * rise))
                for px in np.linspace(-0.46, 0.46, int(x / 11)) * x
            ]
        # The foot of the back reaches down past the seat, so that the two hold together at any
        # tilt.
        parts.append(
            union(*posts, *rails).rotate((-tilt, 0, 0)).translate((0, y / 2 - 3, height + 0.5))
        )
        if rng.random() < 0.5:
            arm = rng.uniform(18, 24)
            for sx in (-1, 1):
                parts.append(
                    box(4, 0.95 * y, 2.5).translate((sx * (x / 2 - 2.5), 1, height + thick + arm))
                )
                parts += [
                    box(3.5, 3.5, arm + thick + 1).translate((sx * (x / 2 - 2.5), py, height + 0.5))
                    for py in (-0.42 * y, 0.4 * y)
                ]
                if seat == "slats":
                    parts.append(
                        box(3.5, 0.9 * y, 2).translate((sx * (x / 2 - 2.5), 0, height + 0.5))
                    )
    return facing_x(parts)


def sofa(rng: np.random.Generator) -> Manifold:
    """Sofa for one to three: arms square, rolled or none; loose cushions; feet; a chaise on one
    side.
    """
    seats = int(rng.choice([1, 2, 3], p=[0.2, 0.4, 0.4]))
    each, y = rng.uniform(55, 72), rng.uniform(75, 100)
    arm = rng.uniform(10, 26)
    x = seats * each + 2 * arm
    base, lift = rng.uniform(20, 30), rng.uniform(3, 15)
    cushion, back = rng.uniform(10, 18), rng.uniform(32, 55)
    deep = rng.uniform(18, 28)
    arms = rng.choice(["square", "rolled", "none"], p=[0.5, 0.35, 0.15])
    top = lift + base
    parts = [pillow(x, y, base, 2).translate((0, 0, lift))]
    lean = rng.uniform(4, 14)
    rear = (
        pillow(x, deep, back + cushion, 5)
        .rotate((-lean, 0, 0))
        .translate((0, (y - deep) / 2, top - 2))
    )
    parts.append(rear)
    span = seats * each if arms != "none" else x
    gap = 1.2
    for i in range(seats):
        px = (i - (seats - 1) / 2) * span / seats
        parts.append(
            pillow(span / seats - gap, y - deep + 4, cushion + 2, 3.5).translate(
                (px, -deep / 2 - 1, top - 2)
            )
        )
        if rng.random() < 0.75:
            loose = pillow(span / seats - 3, 12, back * 0.85, 4).rotate((-lean - 4, 0, 0))
            parts.append(loose.translate((px, y / 2 - deep - 4, top + cushion - 3)))
    rise = cushion + rng.uniform(8, 20)
    for sx in (-1, 1):
        px = sx * (x - arm) / 2
        if arms == "square":
            parts.append(pillow(arm, y, base + rise, 2.5).translate((px, 0, lift)))
        elif arms == "rolled":
            parts.append(box(0.7 * arm, y - 2, base + rise).translate((px, 0, lift)))
            roll = (
                cylinder(y, 0.62 * arm, segments=20)
                .rotate((90, 0, 0))
                .translate((px, y / 2, lift + base + rise))
            )
            parts.append(roll)
    if seats > 1 and rng.random() < 0.25:
        long = y * rng.uniform(0.5, 0.8)
        side = float(rng.choice([-1, 1])) * (span / 2 - each / 2)
        parts.append(pillow(each, long + 8, base, 2).translate((side, -y / 2 - long / 2 + 4, lift)))
        parts.append(
            pillow(each - gap, long + 6, cushion + 2, 3.5).translate(
                (side, -y / 2 - long / 2 + 3, top - 2)
            )
        )
        parts += at(
            cylinder(lift + 3, 2.5, segments=10),
            [(side - each / 2 + 6, -y / 2 - long + 6), (side + each / 2 - 6, -y / 2 - long + 6)],
        )
    if lift > 6:
        parts += at(cylinder(lift + 3, 1.8, 3.0, 10), corners(x - 12, y - 12))
    else:
        parts.append(box(x - 8, y - 8, lift + 3))
    return facing_x(parts)


PROGRAMS = (chair, stool, bench, sofa)
