"""Things about the house: lamps, hammers, keys, umbrellas. Unit: centimetres."""

from __future__ import annotations

import numpy as np
from manifold3d import CrossSection, Manifold

from data_pipelines.parametric_shapes.solids import (
    SMALL,
    around,
    box,
    cut,
    cylinder,
    disc,
    lathe,
    on_floor,
    rod,
    rounded_rectangle,
    section,
    slab,
    smooth,
    sweep,
    union,
)


def _shade(bottom: float, top: float, height: float, sides: int) -> Manifold:
    """A lamp shade, open above and below, as a thin wall with a bar across its top that carries it."""
    wall = 0.05 * bottom
    outer = Manifold.cylinder(height, bottom, top, sides)
    inner = Manifold.cylinder(1.02 * height, bottom - wall, top - wall, sides).translate(
        (0, 0, -0.01 * height)
    )
    reach = bottom + 0.86 * (top - bottom)  # a corner of the shade points along x
    bar = box(2 * reach - wall, 0.9, 0.9).translate((0, 0, 0.86 * height))
    return union(cut(outer, inner), bar)


def lamp(rng: np.random.Generator) -> Manifold:
    """Lamp on a foot: table lamp with a turned or plain body, standing lamp, or desk lamp with a
    jointed arm.
    """
    style = rng.choice(["table", "standing", "desk"], p=[0.5, 0.25, 0.25])
    foot = rng.uniform(7, 12)
    if style == "desk":
        lower, upper = rng.uniform(18, 30), rng.uniform(16, 26)
        lean, fold = np.radians(rng.uniform(5, 35)), np.radians(rng.uniform(40, 80))
        knee = np.array([-lower * np.sin(lean), 0, 2 + lower * np.cos(lean)])
        tip = knee + upper * np.array([np.sin(fold), 0, np.cos(fold)])
        size, deep = rng.uniform(5, 8.5), rng.uniform(8, 13)
        cone = lathe(
            [
                (0, 0),
                (0.35 * size, 0),
                (0.4 * size, -0.35 * deep),
                (size, -deep),
                (0.92 * size, -deep),
                (0.32 * size, -0.4 * deep),
                (0, -0.4 * deep),
            ],
            28,
        )
        aim = rng.uniform(10, 45)
        head = cone.rotate((0, -aim, 0)).translate(tuple(tip + np.array([0, 0, 1.5])))
        base = (
            cylinder(2.5, foot, 0.94 * foot)
            if rng.random() < 0.7
            else slab(1.8 * foot, 1.5 * foot, 2.5, 2)
        )
        joints = [Manifold.sphere(1.3, 12).translate(tuple(p)) for p in (knee, tip)]
        return union(
            base,
            rod((0, 0, 1), knee, 0.75, segments=10),
            rod(knee, tip, 0.7, segments=10),
            *joints,
            head,
        )

    standing = style == "standing"
    height = rng.uniform(115, 160) if standing else rng.uniform(22, 40)
    bottom = rng.uniform(16, 26) if standing else rng.uniform(11, 19)
    top = bottom * rng.uniform(0.4, 0.95)
    deep = bottom * rng.uniform(0.8, 1.5)
    sides = int(rng.choice([36, 4, 6, 8], p=[0.7, 0.12, 0.09, 0.09]))
    shade = (
        _shade(bottom, top, deep, sides).rotate((0, 0, 45)).translate((0, 0, height - 0.3 * deep))
    )
    stem = cylinder(height + 0.58 * deep, 1.3 if standing else 0.9, segments=14)
    parts = [stem, shade]
    if standing:
        if rng.random() < 0.4:
            spread = rng.uniform(18, 30)
            parts += around(
                rod((spread, 0, 0), (0.5, 0, height * rng.uniform(0.35, 0.75)), 1.1, 1.3, 10),
                3,
                0.0,
                90.0,
            )
        else:
            parts.append(cylinder(3, 1.5 * foot, 1.4 * foot))
        return union(*parts)
    body = rng.choice(["turned", "block", "rod", "ball"], p=[0.45, 0.15, 0.2, 0.2])
    parts.append(cylinder(1.8, 0.9 * foot, 0.8 * foot))
    tall = height - 0.35 * deep
    if body == "turned":
        wide, neck = foot * rng.uniform(0.5, 0.95), foot * rng.uniform(0.15, 0.3)
        curve = smooth(
            [
                (0.45 * foot, 1),
                (wide, tall * rng.uniform(0.25, 0.5)),
                (neck, 0.85 * tall),
                (neck * 0.8, tall),
            ],
            6,
        )
        parts.append(lathe(np.concatenate([[(0, 1)], curve, [(0, tall)]]), 28))
    elif body == "block":
        side = foot * rng.uniform(0.6, 1.0)
        parts.append(slab(side, side, tall - 1, 0.8).translate((0, 0, 1)))
    elif body == "ball":
        count = int(rng.integers(1, 4))
        size = tall / (2 * count) * 0.98
        parts += [
            Manifold.sphere(size, 24).translate((0, 0, 1 + size * (0.98 + 1.9 * i)))
            for i in range(count)
        ]
    return union(*parts)


def hammer(rng: np.random.Generator) -> Manifold:
    """Hammer standing on its handle: claw, ball peen, cross peen, sledge or wooden mallet."""
    length = rng.uniform(20, 32)
    grip = rng.uniform(1.2, 1.9)
    style = rng.choice(
        ["claw", "ball", "cross", "sledge", "mallet"], p=[0.3, 0.2, 0.18, 0.17, 0.15]
    )
    waist = grip * rng.uniform(0.55, 0.8)
    curve = smooth(
        [
            (0.85 * grip, 0),
            (grip, 0.12 * length),
            (0.92 * grip, 0.35 * length),
            (waist, 0.6 * length),
            (waist * 1.05, length),
        ],
        5,
    )
    handle = lathe(np.concatenate([[(0, 0)], curve, [(0, length)]]), 18).scale(
        (1, rng.uniform(0.65, 0.9), 1)
    )
    face, reach = rng.uniform(1.5, 2.4), rng.uniform(4.5, 7.5)
    # The head lies along x about the origin: its striking face at +reach.
    if style == "mallet":
        size, long = rng.uniform(2.6, 4.2), rng.uniform(9, 15)
        head = (
            cylinder(long, size, segments=28).translate((0, 0, -long / 2)).rotate((0, 90, 0))
            if rng.random() < 0.55
            else box(long, 1.6 * size, 2 * size).translate((0, 0, -size))
        )
    elif style == "sledge":
        long = rng.uniform(9, 14)
        block = rounded_rectangle(2.1 * face * 1.3, 2.1 * face * 1.3, 0.9 * face, 8).extrude(long)
        head = block.translate((0, 0, -long / 2)).rotate((0, 90, 0))
    else:
        striker = union(
            rod((0, 0, 0), (reach, 0, 0), 0.75 * face, segments=20),
            rod((reach - 0.35 * reach, 0, 0), (reach, 0, 0), face, segments=24),
            box(3.0 * grip, 1.8 * face, 2.0 * face).translate((0, 0, -face)),
        )
        if style == "ball":
            back = union(
                rod((0, 0, 0), (-0.8 * reach, 0, 0), 0.6 * face, segments=20),
                Manifold.sphere(0.95 * face, 20).translate((-0.85 * reach, 0, 0)),
            )
        elif style == "cross":
            wedge = section(
                [(0, -0.8 * face), (0, 0.8 * face), (-reach, 0.16 * face), (-reach, -0.16 * face)]
            )
            back = wedge.extrude(1.8 * face).translate((0, 0, -0.9 * face))
            if rng.random() < 0.7:
                back = back.rotate((90, 0, 0))
        else:
            long, droop = reach * rng.uniform(0.9, 1.35), rng.uniform(0.25, 0.5)
            upper = smooth(
                [
                    (0, 0.75 * face),
                    (-0.5 * long, 0.75 * face - 0.12 * droop * long),
                    (-long, -droop * long),
                ],
                6,
            )
            lower = smooth(
                [
                    (-long, -droop * long - 0.12),
                    (-0.5 * long, -0.15 * face - 0.25 * droop * long),
                    (0, -0.8 * face),
                ],
                6,
            )
            claw = (
                section(np.concatenate([upper, lower]))
                .extrude(2.4 * face)
                .rotate((90, 0, 0))
                .translate((0, 1.2 * face, 0))
            )
            slot = section(
                [(-0.35 * long, 0.0), (-1.2 * long, 0.5 * face), (-1.2 * long, -0.5 * face)]
            ).extrude(9 * face)
            back = cut(claw, slot.translate((0, 0, -4.5 * face)))
        head = union(striker, back)
    return union(handle, head.translate((0, 0, length - 1.0)))


def key(rng: np.random.Generator) -> Manifold:
    """Key standing on its tip: flat cylinder-lock key or round warded key; bow round, oval, square
    or clover.
    """
    flat = rng.random() < 0.55
    bow = rng.uniform(9, 14)
    style = rng.choice(["round", "oval", "square", "clover"])
    wide = rng.uniform(1.15, 1.5)
    rim = bow * rng.uniform(0.3, 0.5) if not flat else bow * rng.uniform(0.45, 0.72)
    if style == "round":
        outline, hole = disc(bow, 36), disc(bow - rim, 28)
    elif style == "oval":
        outline, hole = disc(bow, 36).scale((wide, 0.9)), disc(bow - rim, 28).scale((wide, 0.85))
    elif style == "square":
        outline, hole = (
            rounded_rectangle(1.9 * bow, 1.8 * bow, 0.35 * bow),
            rounded_rectangle(1.9 * bow - 2 * rim, 1.8 * bow - 2 * rim, 0.15 * bow),
        )
    else:
        leaf = disc(0.62 * bow, 24)
        places = [(0.62 * bow, -0.1 * bow), (-0.62 * bow, -0.1 * bow), (0, 0.75 * bow)]
        outline = (
            CrossSection.batch_hull([disc(0.3 * bow, 12).translate(p) for p in places])
            + leaf.translate(places[0])
            + leaf.translate(places[1])
            + leaf.translate(places[2])
        )
        pierce = disc(0.62 * bow - 0.55 * rim, 20)
        hole = (
            pierce.translate(places[0]) + pierce.translate(places[1]) + pierce.translate(places[2])
        )
    length = bow * rng.uniform(2.2, 3.6)
    if flat:
        thick = bow * rng.uniform(0.16, 0.28)
        if rng.random() < 0.7:  # one small hole for the ring instead of an open bow
            hole = disc(0.22 * bow, 16).translate((0, 0.5 * bow))
        blade = bow * rng.uniform(0.36, 0.52)
        count = int(rng.integers(4, 8))
        cuts = rng.uniform(0.15, 0.85, count) * blade
        step = 0.72 * length / count
        edge = [
            (-blade, -0.4 * bow),
            (-blade, -bow - length + 0.5 * blade),
            (-0.3 * blade, -bow - length),
        ]
        for i in range(count):
            z = -bow - length + (i + 0.5) * step
            edge += [
                (blade - cuts[i], z),
                (blade - cuts[i], z + 0.35 * step),
                (0.97 * blade, z + 0.7 * step),
            ]
        edge.append((0.97 * blade, -0.4 * bow))
        profile = outline - hole + section(edge)
        solid = profile.extrude(thick).translate((0, 0, -thick / 2))
    else:
        thick = bow * rng.uniform(0.3, 0.45)
        ring = (outline - hole).extrude(thick).translate((0, 0, -thick / 2))
        radius = bow * rng.uniform(0.17, 0.26)
        end = -bow - length
        shank = rod(
            (0, -bow + 0.6 * rim if style != "clover" else -0.3 * bow, 0),
            (0, end, 0),
            radius,
            segments=SMALL,
        )
        collar = rod(
            (0, -bow - 0.14 * length, 0), (0, -bow - 0.06 * length, 0), 1.6 * radius, segments=SMALL
        )
        deep, tall = bow * rng.uniform(0.7, 1.15), length * rng.uniform(0.2, 0.36)
        bit = CrossSection.square((deep, tall)).translate((0, end + 0.06 * length))
        for _ in range(int(rng.integers(1, 4))):
            notch = CrossSection.square((rng.uniform(0.3, 0.6) * deep, 0.16 * tall))
            bit = bit - notch.translate(
                (
                    rng.uniform(0.45, 0.75) * deep,
                    end + 0.06 * length + rng.uniform(0.1, 0.75) * tall,
                )
            )
        web = bit.extrude(0.8 * radius).translate((0, 0, -0.4 * radius))
        parts = [ring, shank, collar, web]
        if rng.random() < 0.3:
            parts.append(web.mirror((1, 0, 0)))
        solid = union(*parts)
    return on_floor(solid.rotate((90, 0, 0)))


def umbrella(rng: np.random.Generator) -> Manifold:
    """Umbrella: open with a crook or knob handle, parasol on a foot, or furled; gores, dome height
    and scallops vary.
    """
    style = rng.choice(["open", "parasol", "furled"], p=[0.6, 0.25, 0.15])
    gores = int(rng.choice([6, 8, 10]))
    radius, dome = rng.uniform(42, 60), rng.uniform(0.28, 0.7)
    length = rng.uniform(70, 95)
    if style == "parasol":
        length = radius * rng.uniform(2.6, 3.8)
    if style == "furled":
        wide, low = rng.uniform(4, 7), length * rng.uniform(0.25, 0.35)
        profile = smooth(
            [(1.2, low - 3), (wide, low + 6), (0.7 * wide, 0.6 * length), (1.2, length)], 6
        )
        canopy = lathe(np.concatenate([[(0, low - 3)], profile, [(0, length)]]), 4 * gores)

        def pleat(vertices: np.ndarray) -> np.ndarray:
            turn = np.arctan2(vertices[:, 1], vertices[:, 0]) + 0.03 * vertices[:, 2]
            scale = 1 + 0.16 * np.cos(gores * turn)
            return vertices * np.stack([scale, scale, np.ones_like(scale)], axis=1)

        canopy = canopy.warp_batch(pleat)
    else:
        rise, wall = dome * radius, 0.012 * radius + 0.4
        angle = np.linspace(0, np.pi / 2 * rng.uniform(0.72, 1.0), 9)
        arc = np.stack(
            [
                np.sin(angle) / np.sin(angle[-1]) * radius,
                (np.cos(angle) - np.cos(angle[-1])) / (1 - np.cos(angle[-1])) * rise,
            ],
            axis=1,
        )
        under = arc[::-1] - [0, wall]
        under[0, 0] -= 0.3 * wall
        canopy = lathe(np.concatenate([arc, under]), 6 * gores)
        scallop = rng.uniform(0.3, 1.0)

        def gore(vertices: np.ndarray) -> np.ndarray:
            angle = np.arctan2(vertices[:, 1], vertices[:, 0])
            within = np.mod(angle, 2 * np.pi / gores) - np.pi / gores
            share = np.hypot(vertices[:, 0], vertices[:, 1]) / radius
            pull = np.cos(np.pi / gores) / np.cos(within)  # taut cloth: straight from rib to rib
            scale = 1 - (1 - pull) * share
            lift = scallop * (1 - np.abs(within) * gores / np.pi) ** 1.0 * share**3 * 0.16 * radius
            return np.stack(
                [vertices[:, 0] * scale, vertices[:, 1] * scale, vertices[:, 2] + lift], axis=1
            )

        canopy = canopy.warp_batch(gore).translate((0, 0, length - rise))
    pole = rng.uniform(0.9, 1.5)
    parts = [canopy, cylinder(length + rng.uniform(3, 9), pole, segments=12)]
    if style == "parasol":
        foot = radius * rng.uniform(0.35, 0.5)
        parts.append(
            cylinder(5, foot, 0.85 * foot) if rng.random() < 0.6 else box(1.7 * foot, 1.7 * foot, 5)
        )
        parts[1] = cylinder(length + 4, 1.5 * pole, segments=14)
    elif rng.random() < 0.7:
        crook = rng.uniform(5, 8)
        turn = np.radians(np.linspace(0, 200, 14))
        bend = np.stack([crook - crook * np.cos(turn), 0 * turn, -crook * np.sin(turn)], axis=1)
        parts.append(sweep(np.concatenate([[[0, 0, 9]], bend]), 1.5 * pole, 10))
    else:
        parts.append(cylinder(13, 2.2, 1.6, 16).translate((0, 0, -3)))
    return on_floor(union(*parts))


PROGRAMS = (lamp, hammer, key, umbrella)
