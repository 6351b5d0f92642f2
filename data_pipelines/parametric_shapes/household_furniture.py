"""Furniture, in centimetres: chairs, stools, tables, shelves, beds, sofas.

Pieces are put together with their front along -y and handed over with it along +x.
"""

from __future__ import annotations

import numpy as np
from manifold3d import Manifold

from data_pipelines.parametric_shapes.solids import (
    SMALL,
    around,
    at,
    box,
    corners,
    cut,
    cylinder,
    disc,
    pillow,
    rod,
    rounded_rectangle,
    slab,
    sweep,
    tube,
    union,
)


def _legs(rng: np.random.Generator, x: float, y: float, height: float, thick: float) -> list[Manifold]:
    """Four legs below a rectangle x by y: square or round, straight or splayed outwards to the floor."""
    style = rng.choice(["square", "round", "tapered", "splayed"])
    if style == "square":
        return at(box(thick, thick, height), corners(x - thick, y - thick))
    if style == "splayed":
        spread = height * rng.uniform(0.06, 0.2)
        inset = 1.4 * thick
        return [
            rod((px + np.sign(px) * spread, py + np.sign(py) * spread, 0), (px, py, height), 0.35 * thick, 0.6 * thick, 12)
            for px, py in corners(x - 2 * inset, y - 2 * inset)
        ]
    low = 0.5 * thick if style == "round" else 0.3 * thick
    return at(cylinder(height, low, 0.55 * thick, 14), corners(x - 1.3 * thick, y - 1.3 * thick))


def _pedestal(rng: np.random.Generator, height: float, spread: float) -> list[Manifold]:
    """One column on a disc, or on a star of feet, within `spread` of the axis."""
    column = cylinder(height, spread * rng.uniform(0.09, 0.2), segments=20)
    if rng.random() < 0.5:
        foot = cylinder(0.04 * height + 1.0, spread * rng.uniform(0.75, 1.0), spread * rng.uniform(0.55, 0.75))
        return [column, foot]
    count = int(rng.choice([3, 4, 5], p=[0.2, 0.4, 0.4]))
    lift = height * rng.uniform(0.08, 0.25)
    return [column, *around(rod((0, 0, lift), (spread, 0, 1.8), 2.6, 1.8, 10), count, 0.0, 90.0)]


def _facing_x(parts: list[Manifold]) -> Manifold:
    return union(*parts).rotate((0, 0, 90))


def chair(rng: np.random.Generator) -> Manifold:
    """Seat with a back: four legs, star pedestal or sled; back solid, slatted, laddered or framed; with or without arms."""
    x, y = rng.uniform(38, 52), rng.uniform(38, 50)
    height, thick = rng.uniform(38, 50), rng.uniform(2.5, 7)
    back, tilt = rng.uniform(32, 62), rng.uniform(2, 16)
    leg = rng.uniform(2.8, 5)
    base = rng.choice(["legs", "pedestal", "sled"], p=[0.62, 0.22, 0.16])
    round_seat = rng.random() < 0.2
    if round_seat:
        y = x
        seat = cylinder(thick, x / 2, segments=36)
    elif rng.random() < 0.4:
        seat = pillow(x, y, thick + 2, 0.4 * thick)
    else:
        seat = slab(x, y, thick, rng.uniform(0.5, 9))
    parts = [seat.translate((0, 0, height))]

    if base == "legs":
        parts += _legs(rng, 0.8 * x if round_seat else x, 0.8 * y if round_seat else y, height + 1, leg)
        if rng.random() < 0.4:
            level = height * rng.uniform(0.25, 0.5)
            inset = x - 2 * leg if not round_seat else 0.7 * x
            parts += [rod((sx * inset / 2, -y / 2 + leg, level), (sx * inset / 2, y / 2 - leg, level), 1.2, segments=10) for sx in (-1, 1)]
    elif base == "pedestal":
        parts += _pedestal(rng, height + 1, 0.52 * x)
    else:
        inset = x / 2 - leg / 2
        for sx in (-inset, inset):
            loop = [(sx, -y / 2 + 3, height + 1), (sx, -y / 2 + 2, 3.0), (sx, -y / 2 + 3, 1.3), (sx, -y / 2 + 5, 1.2), (sx, y / 2 - 5, 1.2),
                    (sx, y / 2 - 3, 1.3), (sx, y / 2 - 2, 3.0), (sx, y / 2 - 3, height + 1)]  # fmt: skip
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
        panel = slab(width, back - gap, bar, 0.12 * width).rotate((90, 0, 0)).translate((0, bar / 2, gap + (back - gap) / 2))
        rear = [panel] if gap == 0.0 else [panel, *(p.translate((-np.sign(p.bounding_box()[0]) * 0.15 * width, 0, 0)).trim_by_plane((0, 0, -1), -0.6 * back) for p in posts)]
    elif style == "slats":
        count = int(rng.integers(3, 7))
        rear = [*posts, top, *(box(0.45 * width / count, 0.5 * bar, back - 0.5 * rail).translate((s, 0, 0)) for s in np.linspace(-0.5, 0.5, count + 2)[1:-1] * width)]
    elif style == "ladder":
        rungs = int(rng.integers(2, 5))
        rear = [*posts, top, *(box(width - 0.5 * bar, 0.6 * bar, 0.55 * back / rungs).translate((0, 0, z * back)) for z in np.linspace(0.22, 0.72, rungs))]
    elif style == "frame":
        rear = [*posts, top, box(width - 0.5 * bar, bar, rail).translate((0, 0, 0.25 * back))]
    else:  # a piece of a cylinder wall, bent round the sitter
        bow = 0.62 * width
        keep = box(4 * bow, bow, 4 * back).translate((0, bow * 0.5 + 0.42 * bow, 0))
        rear = [(tube(0.6 * back, bow, bow - bar, 40) ^ keep).translate((0, -bow + bar / 2, 0.4 * back)),
                *(box(bar, bar, 0.55 * back).translate((sx * 0.25 * width, -0.3, 0)) for sx in (-1, 1))]  # fmt: skip
    hold = 0.42 * y if round_seat else y / 2 - bar / 2
    parts.append(union(*rear).translate((0, 0, -1)).rotate((-tilt, 0, 0)).translate((0, hold, height + thick)))

    if rng.random() < 0.35:
        rise, wide = rng.uniform(17, 25), rng.uniform(3, 6)
        for sx in (-1, 1):
            px = sx * (x / 2 - wide / 2)
            parts.append(box(wide, 0.92 * y, 2.6).translate((px, 0.06 * y, height + thick + rise)))
            parts.append(box(2.6, 2.6, rise + 2).translate((px, -0.3 * y, height + thick - 1)))
            if round_seat or style in ("shell", "solid"):
                parts.append(box(2.6, 2.6, rise + 2).translate((px, 0.35 * y, height + thick - 1)))
            if round_seat:
                parts.append(box(0.3 * x, 2.6, 2.6).translate((sx * 0.36 * x, -0.3 * y, height)))
                parts.append(box(0.3 * x, 2.6, 2.6).translate((sx * 0.36 * x, 0.35 * y, height)))
    return _facing_x(parts)


def stool(rng: np.random.Generator) -> Manifold:
    """Seat without a back, low or bar height: three or four legs or a pedestal; foot ring or rungs; flat or padded."""
    size, height = rng.uniform(28, 44), rng.uniform(36, 82)
    thick = rng.uniform(2.5, 8)
    shape = rng.choice(["round", "square", "padded"], p=[0.5, 0.25, 0.25])
    if shape == "round":
        seat = cylinder(thick, 0.5 * size, 0.5 * size * rng.uniform(0.9, 1.05), 36)
    elif shape == "square":
        seat = slab(size, size * rng.uniform(0.7, 1.0), thick, rng.uniform(0.5, 8))
    else:
        edge = 0.4 * thick
        seat = union(cylinder(thick - edge, size / 2, segments=36).translate((0, 0, 0.3)), cylinder(thick + 1, size / 2 - edge, segments=36)).hull()
    parts = [seat.translate((0, 0, height))]
    base = rng.choice(["three", "four", "pedestal"], p=[0.3, 0.45, 0.25])
    if base == "pedestal":
        parts += _pedestal(rng, height + 1, size * rng.uniform(0.5, 0.62))
        if height > 55 and rng.random() < 0.6:
            level, reach = 0.3 * height, 0.36 * size
            parts += [tube(2, reach, reach - 2).translate((0, 0, level)), rod((-reach + 1, 0, level + 1), (reach - 1, 0, level + 1), 0.9, segments=8)]
        return union(*parts)
    count = 3 if base == "three" else 4
    top, spread = 0.33 * size, size * rng.uniform(0.4, 0.62)
    thin, thick_leg = rng.uniform(1.0, 1.6), rng.uniform(1.6, 2.4)
    phase = 90.0 if count == 3 else 45.0
    parts += around(rod((spread, 0, 0), (top, 0, height + 1), thin, thick_leg, 12), count, 0.0, phase)
    level = rng.uniform(0.25, 0.45)
    reach = spread + (top - spread) * level
    stay = rng.choice(["none", "ring", "rungs"], p=[0.25, 0.35, 0.4])
    if stay == "ring":
        parts.append(tube(1.8, reach + 0.4, reach - 1.4).translate((0, 0, level * height)))
    elif stay == "rungs":
        angle = np.radians(phase) + 2 * np.pi * np.arange(count) / count
        ends = np.stack([reach * np.cos(angle), reach * np.sin(angle), np.full(count, level * height)], axis=1)
        parts += [rod(ends[i], ends[(i + 1) % count], 0.9, segments=8) for i in range(count)]
    return union(*parts)


def table(rng: np.random.Generator) -> Manifold:
    """Dining, coffee or side table: top rectangular, round or oval; legs, trestles, pedestal or panels; apron, lower shelf."""
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
    base = rng.choice(bases, p=[0.55, 0.17, 0.13, 0.15] if shape == "rectangular" else [0.45, 0.1, 0.45, 0.0])
    if base == "legs":
        parts += _legs(rng, fx, fy, height + 0.5, leg)
        if rng.random() < 0.55:
            deep = rng.uniform(4, 11)
            frame = cut(box(fx - leg, fy - leg, deep), box(fx - leg - 4, fy - leg - 4, 3 * deep).translate((0, 0, -deep)))
            parts.append(frame.translate((0, 0, height + 0.5 - deep)))
        if rng.random() < 0.3:
            parts.append(box(fx - 0.8 * leg, fy - 0.8 * leg, 2.0).translate((0, 0, height * rng.uniform(0.15, 0.4))))
    elif base == "trestle":
        lean = rng.uniform(0.5, 0.9)
        for sx in (-1, 1):
            px = sx * 0.36 * fx
            parts += [rod((px, sy * 0.45 * lean * fy, 0), (px, -sy * 0.3 * fy * (lean > 0.7), height + 1), 0.4 * leg, segments=10) for sy in (-1, 1)]
            parts.append(box(0.7 * leg, 0.8 * fy, 3).translate((px, 0, height - 2.5)))
        parts.append(rod((-0.36 * fx, 0, 0.45 * height), (0.36 * fx, 0, 0.45 * height), 0.3 * leg, segments=10))
        if lean > 0.7:
            parts += [rod((sx * 0.36 * fx, -0.3 * fy, 0.45 * height), (sx * 0.36 * fx, 0.3 * fy, 0.45 * height), 0.3 * leg, segments=10) for sx in (-1, 1)]
        else:
            parts += [rod((sx * 0.36 * fx, -0.16 * fy, 0.45 * height), (sx * 0.36 * fx, 0.16 * fy, 0.45 * height), 0.3 * leg, segments=10) for sx in (-1, 1)]
    elif base == "pedestal":
        parts += _pedestal(rng, height + 0.5, 0.45 * fy + 6)
    else:
        wall = rng.uniform(2.5, 5)
        parts += [box(wall, fy, height + 0.5).translate((sx * (fx - wall) / 2, 0, 0)) for sx in (-1, 1)]
        if rng.random() < 0.6:
            parts.append(box(fx - wall, wall, height * rng.uniform(0.3, 0.6)).translate((0, rng.uniform(0, 0.4) * fy, 0.35 * height)))
    return union(*parts)


def shelf(rng: np.random.Generator) -> Manifold:
    """Shelf unit: side panels, corner posts or ladder frames; two to six boards; back panel, dividers, a plinth."""
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
            parts.append(rod((sx * (x / 2 - 1.5), -0.68 * y, 0), (sx * (x / 2 - 1.5), 0.06 * y, z + 5), 1.6, segments=10))
            parts.append(rod((sx * (x / 2 - 1.5), 0.58 * y, 0), (sx * (x / 2 - 1.5), 0.58 * y, z + 5), 1.6, segments=10))
        return _facing_x(parts)
    parts += [box(x - 0.5, y - 0.5, board).translate((0, 0, level)) for level in levels]
    if style == "panels":
        parts += [box(board, y, z).translate((sx * (x - board) / 2, 0, 0)) for sx in (-1, 1)]
        if rng.random() < 0.55:
            parts.append(box(x - 0.5, 1.2, z - foot).translate((0, y / 2 - 0.8, foot)))
        dividers = int(rng.integers(0, 3))
        for px in np.linspace(-x / 2, x / 2, dividers + 2)[1:-1]:
            parts.append(box(0.8 * board, y - 1, z - foot - board).translate((px, 0, foot + 0.5 * board)))
    else:
        parts += at(box(3, 3, z + 1), corners(x - 2, y - 2))
        if rng.random() < 0.4:
            parts += [rod((-x / 2 + 1, y / 2 - 1, foot + 2), (x / 2 - 1, y / 2 - 1, z - 2), 0.8, segments=8),
                      rod((x / 2 - 1, y / 2 - 1, foot + 2), (-x / 2 + 1, y / 2 - 1, z - 2), 0.8, segments=8)]  # fmt: skip
    return _facing_x(parts)


def _headboard(rng: np.random.Generator, x: float, height: float, thick: float, style: str) -> Manifold:
    """The upright end of a bed, x wide, from the floor up."""
    if style == "panel":
        return box(x, thick, height)
    if style == "arched":
        bow = cylinder(thick, x / 2, segments=40).scale((1, 0.35, 1)).rotate((90, 0, 0)).translate((0, thick / 2, height - 2))
        return union(box(x, thick, height), bow ^ box(2 * x, 2 * thick, x).translate((0, 0, 0.5 * height)))
    post = 0.05 * x + 2
    count = int(rng.integers(5, 10))
    bars = [box(0.35 * x / count, 0.5 * thick, 0.95 * height).translate((px, 0, 0)) for px in np.linspace(-0.5, 0.5, count + 2)[1:-1] * x]
    rails = [box(x, 0.8 * thick, 0.09 * height + 2).translate((0, 0, z * height)) for z in (0.35, 0.88)]
    posts = at(box(post, thick + 1, height * 1.06), [(-(x - post) / 2, 0), ((x - post) / 2, 0)])
    return union(*posts, *rails, *bars)


def bed(rng: np.random.Generator) -> Manifold:
    """Bed, single to double: headboard panel, arch or bars; footboard or none; legs or box; posts, bunk; pillows, blanket."""
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
    heads = [(px, y / 2 - 26) for px in (np.arange(pillows) - (pillows - 1) / 2) * (x - 4) / pillows]
    deck = union(deck, *at(pillow(wide, 38, 13, 5).translate((0, 0, lift + rail + mattress - 4)), heads))
    if rng.random() < 0.5:
        cover = y * rng.uniform(0.5, 0.7)
        deck = union(deck, pillow(x + 1, cover, mattress + 1, 4).translate((0, -(y - cover) / 2 - 0.5, lift + rail + 2)))
    parts = [deck]
    if kind == "bunk":
        storey = rng.uniform(85, 105)
        parts.append(deck.translate((0, 0, storey)))
        parts += at(box(6, 6, storey + lift + rail + mattress + 25), corners(x + 2, y + 2))
        guard = lift + storey + rail + mattress + 12
        parts += [rod((-x / 2, sy * y / 2, guard), (x / 2, sy * y / 2, guard), 2.2, segments=10) for sy in (-1, 1)]
        parts.append(rod((x / 2, -y / 2, guard), (x / 2, y / 2, guard), 2.2, segments=10))
        ladder = [rod((-x / 2 - 2, py, 0), (-x / 2 - 2, py, guard), 2, segments=8) for py in (-y / 2 + 15, -y / 2 + 55)]
        rungs = [rod((-x / 2 - 2, -y / 2 + 15, z), (-x / 2 - 2, -y / 2 + 55, z), 1.6, segments=8) for z in np.linspace(20, guard - 20, 5)]
        return _facing_x([*parts, *ladder, *rungs])
    parts.append(_headboard(rng, x + 2, head, thick, style).translate((0, y / 2 + 0.3 * thick, 0)))
    if rng.random() < 0.55:
        end = lift + rail + mattress + rng.uniform(-8, 18)
        parts.append(_headboard(rng, x + 2, end, thick, style if style != "arched" else "panel").translate((0, -y / 2 - 0.3 * thick, 0)))
    elif lift > 0:
        parts += at(box(7, 7, lift + 1), [(-x / 2 + 5, -y / 2 + 5), (x / 2 - 5, -y / 2 + 5)])
    if kind == "posts":
        tall = rng.uniform(150, 200)
        parts += at(cylinder(tall, 4, 3, SMALL), corners(x, y))
        if rng.random() < 0.6:
            parts.append((rounded_rectangle(x + 6, y + 6) - rounded_rectangle(x - 3, y - 3)).extrude(5).translate((0, 0, tall - 4)))
    return _facing_x(parts)


def sofa(rng: np.random.Generator) -> Manifold:
    """Sofa for one to three: arms square, rolled or none; loose cushions; feet; a chaise on one side."""
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
    rear = pillow(x, deep, back + cushion, 5).rotate((-lean, 0, 0)).translate((0, (y - deep) / 2, top - 2))
    parts.append(rear)
    span = seats * each if arms != "none" else x
    gap = 1.2
    for i in range(seats):
        px = (i - (seats - 1) / 2) * span / seats
        parts.append(pillow(span / seats - gap, y - deep + 4, cushion + 2, 3.5).translate((px, -deep / 2 - 1, top - 2)))
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
            roll = cylinder(y, 0.62 * arm, segments=20).rotate((90, 0, 0)).translate((px, y / 2, lift + base + rise))
            parts.append(roll)
    if seats > 1 and rng.random() < 0.25:
        long = y * rng.uniform(0.5, 0.8)
        side = float(rng.choice([-1, 1])) * (span / 2 - each / 2)
        parts.append(pillow(each, long + 8, base, 2).translate((side, -y / 2 - long / 2 + 4, lift)))
        parts.append(pillow(each - gap, long + 6, cushion + 2, 3.5).translate((side, -y / 2 - long / 2 + 3, top - 2)))
        parts += at(cylinder(lift + 3, 2.5, segments=10), [(side - each / 2 + 6, -y / 2 - long + 6), (side + each / 2 - 6, -y / 2 - long + 6)])
    if lift > 6:
        parts += at(cylinder(lift + 3, 1.8, 3.0, 10), corners(x - 12, y - 12))
    else:
        parts.append(box(x - 8, y - 8, lift + 3))
    return _facing_x(parts)


PROGRAMS = (chair, stool, table, shelf, bed, sofa)
