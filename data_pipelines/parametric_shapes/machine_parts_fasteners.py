"""Parts that hold things together: bolts, nuts, washers, springs, brackets, hinges. Unit: roughly
millimetres.
"""

from __future__ import annotations

import numpy as np
from manifold3d import CrossSection, Manifold

from data_pipelines.parametric_shapes.solids import (
    SMALL,
    around,
    at,
    box,
    cut,
    cylinder,
    disc,
    lathe,
    on_floor,
    polygon,
    rounded_rectangle,
    section,
    sweep,
    tube,
    union,
)


def _thread(radius: float, pitch: float, start: float, end: float) -> list[tuple[float, float]]:
    """Ridges of a thread as an outline (radius, z) from `start` to `end`; crests at `radius`."""
    count = max(2, round((end - start) / pitch))
    heights = np.linspace(start, end, 2 * count + 1)
    return [
        (radius - (0.55 * pitch if i % 2 == 0 else 0.0), float(z)) for i, z in enumerate(heights)
    ]


def _chamfered_prism(sides: int, inradius: float, height: float, both: bool = False) -> Manifold:
    """A prism whose corners are turned off by a cone at the top, and at the bottom too if asked."""
    outer = inradius / np.cos(np.pi / sides)
    cone = 0.6 * (outer - inradius)
    low = cone if both else 0.0
    turned = lathe(
        [
            (0, 0),
            (outer - 1.5 * low, 0),
            (outer * 1.01, low),
            (outer * 1.01, height - cone),
            (outer - 1.5 * cone, height),
            (0, height),
        ],
        48,
    )
    return polygon(sides, inradius).extrude(height) ^ turned


def bolt(rng: np.random.Generator) -> Manifold:
    """Bolt standing on its tip: hex, flanged hex, socket, dome or square head; thread part of the
    way or all of it.
    """
    radius = 5.0
    length = radius * rng.uniform(4, 13)
    pitch = radius * rng.uniform(0.26, 0.42)
    threaded = length * (0.98 if rng.random() < 0.35 else rng.uniform(0.35, 0.75))
    tip = 0.5 * radius
    ridges = _thread(radius, pitch, tip, max(threaded, tip + 3 * pitch))
    shank = lathe(
        [
            (0, 0),
            (0.62 * radius, 0),
            *ridges,
            (radius, ridges[-1][1]),
            (radius, length + 0.5),
            (0, length + 0.5),
        ],
        24,
    )

    style = rng.choice(
        ["hex", "flanged", "socket", "dome", "square"], p=[0.35, 0.2, 0.2, 0.15, 0.1]
    )
    size, height = radius * rng.uniform(1.55, 1.95), radius * rng.uniform(1.1, 1.6)
    if style in ("hex", "flanged"):
        head = _chamfered_prism(6, size, height)
        if style == "flanged":
            head = union(head, cylinder(0.5 * height, size * rng.uniform(1.35, 1.6), 1.1 * size))
    elif style == "socket":
        height = radius * rng.uniform(1.7, 2.3)
        drive = polygon(6, 0.8 * radius).extrude(height).translate((0, 0, 0.45 * height))
        head = cut(cylinder(height, size), drive)
    elif style == "dome":
        size *= rng.uniform(1.1, 1.4)
        angle = np.linspace(0, np.pi / 2, 7)
        dome = np.stack([size * np.cos(angle[:-1]), height * np.sin(angle[:-1])], axis=1)
        head = lathe(np.concatenate([[(0, 0)], dome, [(0, height)]]))
        if rng.random() < 0.6:
            slot = box(3 * size, 0.28 * size, height).translate((0, 0, 0.6 * height))
            head = cut(head, slot)
    else:
        head = _chamfered_prism(4, 0.95 * size, height)
    return union(shank, head.translate((0, 0, length)))


def nut(rng: np.random.Generator) -> Manifold:
    """Nut: hex, square, flanged, castle, cap or wing; height, width and thread vary."""
    bore = 5.0
    size, height = bore * rng.uniform(1.55, 2.1), bore * rng.uniform(0.9, 2.2)
    style = rng.choice(
        ["hex", "square", "flanged", "castle", "cap", "wing"], p=[0.34, 0.14, 0.18, 0.12, 0.12, 0.1]
    )
    drill = 20.0 * bore
    if style == "square":
        body = _chamfered_prism(4, size, height)
    elif style == "wing":
        size *= 0.85
        body = cylinder(height, 1.15 * size, 0.95 * size)
        span, rise = size * rng.uniform(1.9, 2.8), height * rng.uniform(1.2, 2.0)
        wing = section(
            [
                (0.5 * size, 0.15 * height),
                (span, rise * 0.75),
                (span * 1.05, rise * 1.1),
                (span * 0.8, rise * 1.25),
                (0.6 * size, 0.9 * height),
            ]
        ).offset(0.12 * size, circular_segments=12)
        flat = wing.extrude(0.5 * size).rotate((90, 0, 0)).translate((0, 0.25 * size, 0))
        body = union(body, flat, flat.rotate((0, 0, 180)))
    else:
        body = _chamfered_prism(6, size, height, both=style == "hex")
        if style == "flanged":
            body = union(
                body,
                cylinder(
                    height * rng.uniform(0.22, 0.4), size * rng.uniform(1.3, 1.6), 1.12 * size
                ),
            )
        elif style == "castle":
            crown = cylinder(height * rng.uniform(0.4, 0.6) + 0.2, 0.92 * size).translate(
                (0, 0, height - 0.2)
            )
            slot = box(4 * size, 0.32 * size, height).translate((0, 0, 1.05 * height))
            body = cut(union(body, crown), slot, slot.rotate((0, 0, 60)), slot.rotate((0, 0, 120)))
        elif style == "cap":
            dome = (
                Manifold.sphere(0.86 * size, 24)
                .scale((1, 1, rng.uniform(0.8, 1.3)))
                .translate((0, 0, 0.95 * height))
            )
            body = union(body, dome.trim_by_plane((0, 0, 1), 0.5 * height))
            drill = height
    pitch = bore * rng.uniform(0.2, 0.36)
    if rng.random() < 0.7:
        ridges = _thread(bore, pitch, -pitch, drill if style == "cap" else 2.2 * height)
        hole = lathe([(0, -pitch), *ridges, (0, ridges[-1][1])], 24)
    else:
        hole = cylinder(drill + bore, bore, segments=24).translate((0, 0, -bore))
    return cut(body, hole)


def washer(rng: np.random.Generator) -> Manifold:
    """Ring between two parts: flat, spacer, split spring washer, toothed lock washer, cone, or
    square plate.
    """
    outer = 15.0
    inner = outer * rng.uniform(0.34, 0.68)
    thick = outer * rng.uniform(0.06, 0.2)
    style = rng.choice(
        ["flat", "spacer", "split", "toothed", "cone", "square"],
        p=[0.28, 0.2, 0.16, 0.14, 0.12, 0.1],
    )
    if style == "spacer":
        thick = outer * rng.uniform(0.3, 1.1)
    if style == "square":
        plate = rounded_rectangle(
            2 * outer, 2 * outer * rng.uniform(0.8, 1.0), outer * rng.uniform(0.02, 0.3)
        )
        return cut(plate.extrude(thick), cylinder(9 * thick, inner).translate((0, 0, -thick)))
    if style == "cone":
        rise = outer * rng.uniform(0.15, 0.4)
        return lathe([(outer, 0), (outer, thick), (inner, thick + rise), (inner, rise)], 40)
    if style == "toothed":
        count = int(rng.integers(8, 15))
        tip = rng.uniform(0.3, 0.6) * (outer - inner)
        tooth = section(
            [
                (-tip, -3.3 * outer / count / 2),
                (tip, -1.2 * outer / count),
                (tip, 1.2 * outer / count),
                (-tip, 3.3 * outer / count / 2),
            ]
        ).extrude(thick)
        ring = tube(thick, outer - 0.7 * tip, inner, 40)
        teeth = [
            t.translate((0, 0, thick / 2))
            for t in around(
                tooth.translate((0, 0, -thick / 2)).rotate((18, 0, 0)), count, outer - tip
            )
        ]
        return cut(
            union(ring, *teeth),
            cylinder(9 * thick, inner, segments=40).translate((0, 0, -4 * thick)),
        )
    edge = min(0.25 * thick, 0.1 * (outer - inner))
    ring = lathe(
        [
            (inner, 0),
            (outer - edge, 0),
            (outer, edge),
            (outer, thick - edge),
            (outer - edge, thick),
            (inner, thick),
        ],
        40,
    )
    if style == "split":
        # Cut open, then wound up so that the two ends part in height.
        gap = box(3 * outer, outer * rng.uniform(0.1, 0.22), 9 * thick).translate(
            (1.5 * outer, 0, -4 * thick)
        )
        pitch = thick * rng.uniform(0.8, 2.0)

        def wind(vertices: np.ndarray) -> np.ndarray:
            turn = np.mod(np.arctan2(vertices[:, 1], vertices[:, 0]), 2 * np.pi) / (2 * np.pi)
            return vertices + np.stack([0 * turn, 0 * turn, pitch * turn], axis=1)

        ring = cut(ring, gap).warp_batch(wind)
    return ring


def spring(rng: np.random.Generator) -> Manifold:
    """Coil of round wire: straight, conical, waisted or bellied; ends closed, hooked, or bent to
    legs.
    """
    radius = 10.0
    wire = radius * rng.uniform(0.1, 0.24)
    turns = rng.uniform(3.5, 8.5)
    pitch = wire * rng.uniform(2.5, 5.0)
    ending = rng.choice(["closed", "open", "hooks", "legs"], p=[0.4, 0.2, 0.22, 0.18])
    if ending in ("hooks", "legs"):
        pitch = wire * rng.uniform(2.15, 2.7)
    t = np.linspace(0, turns, int(22 * turns))
    rate = np.ones_like(t)
    if ending == "closed":
        rate = np.clip(np.minimum(t, turns - t) / 0.9, 2.08 * wire / pitch, 1.0)
    height = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(t))]) * pitch
    share = t / turns
    bulge = rng.uniform(0.2, 0.45)
    form = rng.choice(["straight", "conical", "waisted", "bellied"], p=[0.55, 0.2, 0.1, 0.15])
    width = {
        "straight": np.ones_like(t),
        "conical": 1 - 1.2 * bulge * share,
        "waisted": 1 - bulge * np.sin(np.pi * share),
        "bellied": 1 - 1.2 * bulge + 1.2 * bulge * np.sin(np.pi * share),
    }[str(form)]
    angle = 2 * np.pi * t
    path = np.stack(
        [radius * width * np.cos(angle), radius * width * np.sin(angle), height], axis=1
    )
    if ending == "hooks":
        path = np.concatenate([_hook(path[0], -1, wire)[::-1], path, _hook(path[-1], 1, wire)])
    elif ending == "legs":
        leg = radius * rng.uniform(0.9, 1.8)
        reach = np.linspace(0.15, 1, 5)[:, None] * leg
        first, last = path[0] - path[1], path[-1] - path[-2]
        path = np.concatenate(
            [
                (path[0] + reach * first / np.linalg.norm(first))[::-1],
                path,
                path[-1] + reach * last / np.linalg.norm(last),
            ]
        )
    return on_floor(sweep(path, wire, 8))


def _hook(end: np.ndarray, side: int, wire: float) -> np.ndarray:
    """From the end of a coil inwards to its axis and round a standing loop above (side 1) or below
    (side -1) it.
    """
    radius = float(np.hypot(end[0], end[1]))
    inward = -np.array([end[0], end[1], 0.0]) / radius
    loop = np.radians(np.linspace(-150, 130, 18))[:, None]
    size = 0.62 * radius
    centre = np.array([0.0, 0.0, end[2] + side * (size + 1.5 * wire)])
    return centre + size * (
        np.cos(loop + np.pi / 2) * -inward + np.sin(loop + np.pi / 2) * np.array([0.0, 0.0, side])
    )


def bracket(rng: np.random.Generator) -> Manifold:
    """Angle bracket, one leg on the floor and one upright: holes or slots, square or round ends,
    with or without ribs.
    """
    foot, rise = rng.uniform(28, 60), rng.uniform(28, 70)
    width, thick = rng.uniform(16, 52), rng.uniform(2.2, 6.5)
    corner = rng.choice([0.0, 0.18, 0.45]) * width
    # Each leg reaches past the bend, so only its outer corners are seen rounded.
    reach = CrossSection.square((foot + width, width)).translate((-width, -width / 2))
    flat = (rounded_rectangle(2 * foot, width, corner) ^ reach).translate((0, 0))
    keep = CrossSection.square((foot, width)).translate((0, -width / 2))
    leg = (flat ^ keep).extrude(thick)
    tall = (
        rounded_rectangle(2 * rise, width, corner)
        ^ CrossSection.square((rise, width)).translate((0, -width / 2))
    ).extrude(thick)
    upright = tall.rotate((0, -90, 0)).translate((thick, 0, 0))
    parts = [leg, upright]
    rib = rng.choice(
        ["none", "middle", "sides"], p=[0.5, 0.25, 0.25] if width > 24 else [0.7, 0.3, 0.0]
    )
    size = rng.uniform(0.5, 0.85)
    if rib != "none":
        triangle = section(
            [
                (0.5 * thick, 0.5 * thick),
                (size * foot, 0.5 * thick),
                (size * foot, thick),
                (thick, size * rise),
                (0.5 * thick, size * rise),
            ]
        )
        plate = triangle.extrude(thick).rotate((90, 0, 0)).translate((0, thick / 2, 0))
        places = (
            [0.0] if rib == "middle" else [-(width - thick) / 2 + 0.01, (width - thick) / 2 - 0.01]
        )
        parts += [plate.translate((0, y, 0)) for y in places]
    elif rng.random() < 0.4:  # a fillet in the bend
        fillet = rng.uniform(1.0, 2.2) * thick
        block = cut(
            box(fillet, width, fillet).translate((fillet / 2, 0, 0)),
            cylinder(2 * width, fillet, segments=40)
            .rotate((90, 0, 0))
            .translate((fillet, width, fillet)),
        )
        parts.append(block.translate((0.98 * thick, 0, 0.98 * thick)))
    solid = union(*parts)

    hole = rng.uniform(0.1, 0.17) * min(width, foot, rise)
    rows = 2 if rib == "middle" or (width > 32 and rng.random() < 0.6) else 1
    across = [0.0] if rows == 1 else [-0.27 * width, 0.27 * width]
    slotted = rng.random() < 0.35
    if rows == 2:
        hole = min(hole, 0.14 * width)
    if slotted:
        hole = min(hole, 0.13 * min(foot, rise))
    drill = disc(hole, SMALL)
    if slotted:
        drill = CrossSection.batch_hull(
            [drill.translate((-1.4 * hole, 0)), drill.translate((1.4 * hole, 0))]
        )
    tool = drill.extrude(4 * thick).translate((0, 0, -2 * thick))
    tools = []
    for length, standing in ((foot, False), (rise, True)):
        places = [0.62] if slotted or rng.random() < 0.4 else [0.45, 0.8]
        for share in places:
            for y in across:
                if standing:
                    tools.append(tool.rotate((0, -90, 0)).translate((0, y, share * length)))
                else:
                    tools.append(tool.translate((share * length, y, 0)))
    return cut(solid, *tools).translate((-foot / 2, 0, 0))


def hinge(rng: np.random.Generator) -> Manifold:
    """Hinge with its pin upright, opened by some angle: leaves square, rounded or strap-shaped;
    knuckles and holes vary.
    """
    height, thick = rng.uniform(40, 90), rng.uniform(1.8, 3.6)
    leaf = height * rng.uniform(0.3, 0.75)
    pin = thick * rng.uniform(1.15, 1.7)
    knuckles = int(rng.choice([3, 5, 7]))
    opening = rng.uniform(70, 180)
    style = rng.choice(["square", "rounded", "strap"], p=[0.45, 0.25, 0.3])
    gap = 0.012 * height
    each = height / knuckles
    if style == "strap":
        leaf = height * rng.uniform(0.9, 1.6)
        end = height * rng.uniform(0.15, 0.35)
        outline = CrossSection.batch_hull(
            [
                CrossSection.square((0.06 * leaf, height)).translate((0, -height / 2)),
                disc(end / 2, SMALL).translate((leaf - end / 2, 0)),
            ]
        )
    else:
        corner = 0.0 if style == "square" else rng.uniform(0.12, 0.3) * height
        outline = rounded_rectangle(2 * leaf, height, corner) ^ CrossSection.square(
            (leaf, height)
        ).translate((0, -height / 2))
    count = int(rng.integers(2, 5))
    hole = rng.uniform(0.035, 0.055) * height
    if style == "strap":
        places = [(leaf * s, 0.0) for s in np.linspace(0.25, 0.85, count)]
    else:
        stagger = rng.uniform(0.0, 0.18) * leaf
        places = [
            (leaf * 0.6 + stagger * (-1) ** i, y)
            for i, y in enumerate(np.linspace(-0.36, 0.36, count) * height)
        ]
    sunk = union(
        *at(cylinder(4 * thick, hole, segments=14).translate((0, 0, -2 * thick)), places),
        *at(cylinder(thick, 0.9 * hole, 1.55 * hole, 14).translate((0, 0, 0.15 * thick)), places),
    )
    plate = (
        cut(outline.extrude(thick), sunk).rotate((90, 0, 0)).translate((0, thick / 2, height / 2))
    )
    plate = plate.translate((0, pin - thick / 2, 0))

    sides = []
    for side in (0, 1):
        own = [i for i in range(knuckles) if i % 2 == side]
        barrel = [
            cylinder(each - gap, pin, segments=20).translate((0, 0, i * each + gap / 2))
            for i in own
        ]
        room = [
            box(4.4 * pin, 4.4 * pin, each + gap).translate((0, 0, i * each - gap / 2))
            for i in range(knuckles)
            if i % 2 != side
        ]
        solid = union(cut(plate, *room), *barrel)
        sides.append(solid if side == 0 else solid.mirror((1, 0, 0)))
    swing = (180 - opening) / 2
    core = cylinder(height, 0.5 * pin, segments=SMALL)
    if rng.random() < 0.5:
        tip = rng.choice(["ball", "cap"])
        knob = (
            Manifold.sphere(1.05 * pin, SMALL)
            if tip == "ball"
            else cylinder(0.8 * pin, 1.2 * pin, 0.8 * pin, SMALL)
        )
        core = union(
            core,
            knob.translate((0, 0, height + 0.3 * pin * (tip == "ball"))),
            knob.mirror((0, 0, 1)).translate((0, 0, -0.3 * pin * (tip == "ball"))),
        )
    return on_floor(
        union(sides[0].rotate((0, 0, -swing)), sides[1].rotate((0, 0, swing)), core).rotate(
            (0, 0, 90)
        )
    )


PROGRAMS = (bolt, nut, washer, spring, bracket, hinge)
