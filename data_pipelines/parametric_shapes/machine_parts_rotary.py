"""Parts that turn: gears, bearings, pulleys, shafts, cams. Unit: roughly millimetres, axis along z
unless said.
"""

from __future__ import annotations

import numpy as np
from manifold3d import CrossSection, Manifold

from data_pipelines.parametric_shapes.solids import (
    ROUND,
    SMALL,
    around,
    box,
    cut,
    cylinder,
    disc,
    lathe,
    rod,
    section,
    tube,
    union,
)


def _bore(radius: float, height: float, keyed: bool) -> Manifold:
    """The tool that drills a hole through everything, with a keyway on the +x side if asked."""
    hole = cylinder(height, radius, segments=24)
    if keyed:
        hole = union(hole, box(radius, 0.55 * radius, height).translate((0.85 * radius, 0, 0)))
    return hole.translate((0, 0, -height / 2))


def _lightening(
    rng: np.random.Generator, style: str, hub: float, rim: float, height: float
) -> list[Manifold]:
    """The tools that take material out between hub and rim: round holes, or all but a few spokes."""
    middle, gap = (hub + rim) / 2, rim - hub
    if style == "holes":
        count = int(rng.integers(4, 8))
        radius = min(0.36 * gap, 0.7 * middle * np.sin(np.pi / count))
        return around(
            cylinder(height, radius, segments=SMALL).translate((0, 0, -height / 2)), count, middle
        )
    count = int(rng.integers(3, 7))
    width = rng.uniform(0.16, 0.3) * rim
    ring = disc(rim) - disc(hub)
    for i in range(count):
        ring = ring - CrossSection.square((rim, width)).translate((0, -width / 2)).rotate(
            360.0 * i / count + 90.0
        )
    return [ring.extrude(height).translate((0, 0, -height / 2))]


def gear(rng: np.random.Generator) -> Manifold:
    """Spur, helical or bevel gear; disc solid, recessed, drilled or spoked; with or without a hub."""
    radius, teeth = 30.0, int(rng.integers(11, 34))
    module = 2 * radius / teeth
    form = rng.choice(["spur", "helical", "bevel"], p=[0.6, 0.25, 0.15])
    thick = radius * rng.uniform(0.18, 0.6)
    pitch = 2 * np.pi / teeth
    outline = np.array(
        [
            (r, pitch * (i + share))
            for i in range(teeth)
            for share, r in (
                (-0.31, radius - 1.25 * module),
                (-0.23, radius),
                (-0.1, radius + module),
                (0.1, radius + module),
                (0.23, radius),
                (0.31, radius - 1.25 * module),
            )
        ]
    )
    profile = section(
        outline[:, :1] * np.stack([np.cos(outline[:, 1]), np.sin(outline[:, 1])], axis=1)
    )
    if form == "helical":
        solid = profile.extrude(thick, 5, float(rng.choice([-1, 1]) * rng.uniform(10, 24)))
    elif form == "bevel":
        thick = radius * rng.uniform(0.25, 0.45)
        taper = rng.uniform(0.6, 0.78)
        solid = profile.extrude(thick, 0, 0.0, (taper, taper))
    else:
        solid = profile.extrude(thick)

    bore = radius * rng.uniform(0.12, 0.27)
    hub = bore * rng.uniform(1.5, 1.9)
    rim = (radius - 1.25 * module) * rng.uniform(0.78, 0.88)
    style = rng.choice(["plain", "recessed", "holes", "spokes"]) if form != "bevel" else "plain"
    if style != "plain" and rim - hub > 0.2 * radius:
        web = thick * rng.uniform(0.25, 0.5)
        recess = tube(thick, rim, hub)
        solid = cut(
            solid,
            recess.translate((0, 0, (thick + web) / 2)),
            recess.translate((0, 0, -(thick + web) / 2)),
        )
        if style != "recessed":
            solid = cut(solid, *_lightening(rng, str(style), hub, rim, 3 * thick))
    if rng.random() < 0.45:
        length = thick * rng.uniform(0.4, 1.1)
        solid = union(
            solid,
            cylinder(length + 0.5 * thick, hub, segments=ROUND).translate((0, 0, 0.5 * thick)),
        )
    return cut(solid, _bore(bore, 8 * radius, keyed=rng.random() < 0.6))


def bearing(rng: np.random.Generator) -> Manifold:
    """Rolling bearing: balls or rollers in a cage between two rings, or closed by shields; outer
    ring plain or flanged.
    """
    outer = 30.0
    bore = outer * rng.uniform(0.32, 0.66)
    width = outer * rng.uniform(0.26, 0.62)
    style = rng.choice(["ball", "roller", "shielded"], p=[0.5, 0.3, 0.2])
    gap = outer - bore
    pitch = bore + 0.5 * gap
    land = gap * rng.uniform(0.24, 0.32)  # radial thickness of either ring at its edge
    chamfer = 0.06 * gap
    rings = [
        lathe(
            [
                (outer - land, 0),
                (outer - chamfer, 0),
                (outer, chamfer),
                (outer, width - chamfer),
                (outer - chamfer, width),
                (outer - land, width),
            ],
            40,
        ),
        lathe(
            [
                (bore, chamfer),
                (bore + chamfer, 0),
                (bore + land, 0),
                (bore + land, width),
                (bore + chamfer, width),
                (bore, width - chamfer),
            ],
            40,
        ),
    ]
    middle = width / 2
    if style == "roller":
        size = 0.5 * (gap - 2 * land) + 0.05 * gap
        roll = cylinder(0.72 * width, size, segments=14).translate((0, 0, 0.14 * width))
        groove = tube(0.76 * width, pitch + 1.06 * size, pitch - 1.06 * size, 40).translate(
            (0, 0, 0.12 * width)
        )
    else:
        size = min(0.27 * gap, 0.42 * width)
        roll = Manifold.sphere(size, 16).translate((0, 0, middle))
        angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        ring = np.stack(
            [pitch + 1.06 * size * np.cos(angle), middle + 1.06 * size * np.sin(angle)], axis=1
        )
        groove = lathe(ring, 40)
    count = max(6, int(2 * np.pi * pitch / (2 * size * rng.uniform(1.12, 1.5))))
    solid = cut(union(*rings), groove)
    if style == "shielded":
        plate = tube(0.08 * width, outer - 0.8 * land, bore + 0.8 * land, 40)
        solid = union(
            solid, plate.translate((0, 0, 0.08 * width)), plate.translate((0, 0, 0.84 * width))
        )
    else:
        cage = tube(0.3 * width, pitch + 0.3 * size, pitch - 0.3 * size, 40).translate(
            (0, 0, 0.35 * width)
        )
        solid = union(solid, cage, *around(roll, count, pitch))
    if rng.random() < 0.25:
        lip = tube(
            width * rng.uniform(0.14, 0.24), outer * rng.uniform(1.1, 1.2), outer - 0.5 * land, 40
        )
        solid = union(solid, lip)
    return solid


def pulley(rng: np.random.Generator) -> Manifold:
    """Belt pulley: one or more V grooves, a crowned face, or teeth between two flanges; solid,
    drilled or spoked.
    """
    radius = 30.0
    width = radius * rng.uniform(0.28, 0.8)
    style = rng.choice(["vee", "crowned", "toothed"], p=[0.6, 0.2, 0.2])
    depth = radius * rng.uniform(0.14, 0.24)
    rim = radius - depth - radius * rng.uniform(0.08, 0.14)
    outline = [(rim, 0.0), (radius, 0.0)]
    if style == "vee":
        count = max(1, round(width / (radius * rng.uniform(0.22, 0.4))))
        each = width / count
        for i in range(count):
            outline += [
                (radius, (i + 0.14) * each),
                (radius - depth, (i + 0.4) * each),
                (radius - depth, (i + 0.6) * each),
                (radius, (i + 0.86) * each),
            ]
    elif style == "crowned":
        outline += [
            (radius * 1.025, 0.25 * width),
            (radius * 1.035, 0.5 * width),
            (radius * 1.025, 0.75 * width),
        ]
    else:
        edge = 0.1 * width
        outline += [
            (radius, edge),
            (radius - depth, edge),
            (radius - depth, width - edge),
            (radius, width - edge),
        ]
    solid = lathe([*outline, (radius, width), (rim, width)], 40)
    if style == "toothed":
        teeth = int(rng.integers(16, 30))
        tooth = box(0.8 * depth, 2.7 * (radius - depth) / teeth, width).translate(
            (0.2 * depth, 0, 0)
        )
        solid = union(solid, *around(tooth, teeth, radius - depth))

    bore = radius * rng.uniform(0.12, 0.24)
    hub = bore * rng.uniform(1.5, 2.0)
    web = width * rng.uniform(0.2, 0.45)
    disc_ = cylinder(web, rim + 0.02 * radius).translate((0, 0, (width - web) / 2))
    body = rng.choice(["solid", "holes", "spokes"])
    if body != "solid":
        disc_ = cut(disc_, *_lightening(rng, str(body), hub * 0.95, rim * 0.98, 4 * width))
    length = width * rng.uniform(0.9, 1.5)
    offset = (width - length) / 2 if rng.random() < 0.5 else 0.0
    solid = union(solid, disc_, cylinder(length, hub).translate((0, 0, offset)))
    return cut(solid, _bore(bore, 10 * radius, keyed=rng.random() < 0.5))


def shaft(rng: np.random.Generator) -> Manifold:
    """Stepped shaft lying along x: shoulders, keyways, a ring groove; ends plain, flattened,
    splined or centre-drilled.
    """
    steps = int(rng.integers(3, 6))
    peak = rng.integers(1, steps - 1)
    length = rng.uniform(90, 150)
    spans = rng.uniform(0.5, 1.5, steps)
    edges = np.concatenate([[0.0], np.cumsum(spans / spans.sum()) * length])
    radii = rng.uniform(10, 15) * np.cumprod(
        np.concatenate([[1.0], rng.uniform(0.74, 0.92, steps - 1)])
    )
    order = np.abs(np.arange(steps) - peak)
    radii = radii[np.argsort(np.argsort(order, kind="stable"), kind="stable")]
    chamfer = 0.12 * radii.min()
    outline = [(0.0, 0.0), (radii[0] - chamfer, 0.0), (radii[0], chamfer)]
    for i in range(steps - 1):
        outline += [(radii[i], edges[i + 1]), (radii[i + 1], edges[i + 1])]
    outline += [(radii[-1], length - chamfer), (radii[-1] - chamfer, length), (0.0, length)]
    if rng.random() < 0.35:  # a flange forged onto the thickest step
        at_z = edges[peak] + rng.uniform(0.2, 0.5) * spans[peak] / spans.sum() * length
        collar = cylinder(rng.uniform(3, 7), radii.max() * rng.uniform(1.35, 1.9)).translate(
            (0, 0, at_z)
        )
        solid = union(lathe(outline), collar)
    else:
        solid = lathe(outline)

    tools = []
    for i in [0, steps - 1] if rng.random() < 0.5 else [steps - 1]:
        span = edges[i + 1] - edges[i]
        key = box(0.9 * radii[i], 0.5 * radii[i], span * rng.uniform(0.45, 0.75))
        tools.append(key.translate((1.05 * radii[i], 0, edges[i] + 0.15 * span)))
    ending = rng.choice(["plain", "flat", "spline", "drilled"])
    tip = (edges[1] - edges[0]) * rng.uniform(0.4, 0.8)
    if ending == "flat":
        tools.append(box(radii[0], 3 * radii[0], 2 * tip).translate((-1.1 * radii[0], 0, -tip)))
    elif ending == "spline":
        tools += around(
            box(0.5 * radii[0], 0.32 * radii[0], 2 * tip).translate((0, 0, -tip)), 8, 1.1 * radii[0]
        )
    elif ending == "drilled":
        tools.append(cylinder(2 * tip, 0.45 * radii[0], segments=SMALL).translate((0, 0, -tip)))
    if rng.random() < 0.5:
        where = edges[-1] - 0.12 * (edges[-1] - edges[-2])
        tools.append(tube(1.6, 1.5 * radii[-1], 0.84 * radii[-1]).translate((0, 0, where)))
    return cut(solid, *tools).rotate((0, 90, 0)).translate((-length / 2, 0, float(radii.max())))


def cam(rng: np.random.Generator) -> Manifold:
    """Plate cam: one lobe, an eccentric, a heart, a snail or two lobes; with or without a hub and a
    keyway.
    """
    base = 18.0
    lift = base * rng.uniform(0.3, 0.9)
    thick = base * rng.uniform(0.28, 0.8)
    style = rng.choice(
        ["lobe", "eccentric", "heart", "snail", "double"], p=[0.4, 0.15, 0.15, 0.15, 0.15]
    )
    angle = np.linspace(-np.pi, np.pi, 64, endpoint=False)
    if style == "lobe":
        nose = disc(base * rng.uniform(0.25, 0.6), 24).translate((base + lift - 0.25 * base, 0))
        profile = CrossSection.batch_hull([disc(base, 40), nose])
    elif style == "eccentric":
        profile = disc(base * rng.uniform(1.1, 1.4), 44).translate((0.5 * lift, 0))
    else:
        if style == "heart":
            radius = base + lift * np.abs(angle) / np.pi
        elif style == "snail":
            radius = base + lift * (angle + np.pi) / (2 * np.pi)
        else:
            width = rng.uniform(0.5, 0.8)
            radius = base + 0.8 * lift * (
                np.exp(-((angle / width) ** 2)) + np.exp(-(((np.abs(angle) - np.pi) / width) ** 2))
            )
        profile = section(radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    solid = profile.extrude(thick)
    bore = base * rng.uniform(0.25, 0.45)
    if rng.random() < 0.55:
        hub = min(bore * rng.uniform(1.5, 1.9), 0.92 * base)
        below = rng.random() < 0.4
        extra = thick * rng.uniform(0.5, 1.4)
        solid = union(
            solid, cylinder(thick + extra * (1 + below), hub).translate((0, 0, -extra * below))
        )
    if rng.random() < 0.3:  # a pin hole in the lobe
        hole = cylinder(9 * base, 0.14 * base, segments=12).translate((base * 1.05, 0, -4 * base))
        solid = cut(solid, hole)
    solid = cut(solid, _bore(bore, 20 * base, keyed=rng.random() < 0.6))
    return solid.rotate((0, 0, 90))


def handwheel(rng: np.random.Generator) -> Manifold:
    """Wheel turned by hand or rolled: rim round, flat or lobed; spokes straight or dished, or a
    disc; hub; a crank grip.
    """
    radius = 30.0
    thin = radius * rng.uniform(0.07, 0.17)
    style = rng.choice(["round", "flat", "lobed"], p=[0.5, 0.3, 0.2])
    if style == "round":
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        rim = lathe(np.stack([radius + thin * np.cos(angle), thin * np.sin(angle)], axis=1), 44)
    elif style == "flat":
        tall = radius * rng.uniform(0.15, 0.55)
        rim = tube(tall, radius + 0.6 * thin, radius - thin, 44).translate((0, 0, -tall / 2))
    else:
        count, tall = int(rng.integers(5, 9)), 1.6 * thin
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        edge = radius * (1 + 0.07 * np.cos(count * angle))
        outline = section(edge[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))
        rim = (outline - disc(0.8 * radius)).extrude(tall).translate((0, 0, -tall / 2))
    hub, bore = radius * rng.uniform(0.2, 0.34), radius * rng.uniform(0.08, 0.15)
    length = radius * rng.uniform(0.25, 0.75)
    drop = radius * rng.uniform(0.0, 0.4) if rng.random() < 0.5 else 0.0
    parts = [rim, cylinder(length, hub, 0.9 * hub, 28).translate((0, 0, -drop - length / 2))]
    reach = 0.88 * radius if style == "lobed" else radius
    if rng.random() < 0.8:
        count = int(rng.integers(3, 7))
        arm = rng.uniform(0.6, 0.9) * thin
        parts += around(
            rod((0.5 * hub, 0, -drop), (reach, 0, 0), 1.15 * arm, 0.85 * arm, 10), count
        )
    else:
        web = 0.7 * thin
        parts.append(
            lathe(
                [
                    (0.5 * hub, -drop - web / 2),
                    (reach, -web / 2),
                    (reach, web / 2),
                    (0.5 * hub, web / 2 - drop),
                ]
            )
        )
    if rng.random() < 0.35:
        grip = radius * rng.uniform(0.4, 0.75)
        knob = cylinder(grip, 0.9 * thin, 1.25 * thin, 16)
        parts.append(knob.translate((0.97 * reach, 0, 0)))
    return cut(union(*parts), _bore(bore, 8 * radius, keyed=rng.random() < 0.5))


def bushing(rng: np.random.Generator) -> Manifold:
    """Sleeve: plain, flanged at one end or both, split, grooved, or drilled for oil; from ring-like
    to long.
    """
    outer = 15.0
    inner = outer * rng.uniform(0.5, 0.84)
    length = outer * rng.uniform(0.5, 3.2)
    chamfer = 0.2 * (outer - inner)
    solid = lathe(
        [
            (inner, chamfer),
            (inner + chamfer, 0),
            (outer - chamfer, 0),
            (outer, chamfer),
            (outer, length - chamfer),
            (outer - chamfer, length),
            (inner + chamfer, length),
            (inner, length - chamfer),
        ],
        36,
    )
    collar = rng.choice(["plain", "one", "both"], p=[0.45, 0.45, 0.1])
    lip, reach = rng.uniform(0.08, 0.2) * outer, outer * rng.uniform(1.2, 1.7)
    if collar != "plain":
        ring = tube(lip, reach, (inner + outer) / 2, 36)
        solid = union(solid, ring)
        if collar == "both":
            solid = union(solid, ring.translate((0, 0, length - lip)))
        if rng.random() < 0.3:
            hole = cylinder(4 * lip, 0.3 * (reach - outer), segments=10).translate((0, 0, -lip))
            solid = cut(solid, *around(hole, 4, (reach + outer) / 2))
    extra = rng.choice(["none", "split", "groove", "oil"], p=[0.4, 0.2, 0.2, 0.2])
    if extra == "split":
        solid = cut(
            solid,
            box(4 * outer, rng.uniform(0.06, 0.25) * outer, 3 * length).translate(
                (2 * outer, 0, -length)
            ),
        )
    elif extra == "groove":
        deep = outer - 0.5 * (outer - inner)
        for share in (0.4, 0.65):
            solid = cut(
                solid, tube(0.1 * length, 2 * outer, deep, 36).translate((0, 0, share * length))
            )
    elif extra == "oil":
        hole = (
            cylinder(3 * outer, 0.12 * outer + 0.03 * length, segments=12)
            .rotate((0, 90, 0))
            .translate((0, 0, 0.55 * length))
        )
        solid = cut(solid, *around(hole, int(rng.choice([1, 2, 4]))))
    return solid


PROGRAMS = (gear, bearing, pulley, shaft, cam, handwheel, bushing)
