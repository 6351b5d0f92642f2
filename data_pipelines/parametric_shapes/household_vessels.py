"""Vessels, in centimetres: mugs, bottles, vases, goblets. All are open or capped shells with a real
inside.
"""

from __future__ import annotations

import numpy as np
from manifold3d import Manifold

from data_pipelines.parametric_shapes.solids import (
    cut,
    cylinder,
    lathe,
    polygon,
    rounded_rectangle,
    smooth,
    sweep,
    union,
    vessel,
)


def _ear(reach: float, low: float, high: float, radius: float, square: bool) -> np.ndarray:
    """The path of a handle in the xz plane between two heights of a wall at x = `radius`, `reach`
    wide.
    """
    if square:
        points = [
            (radius - 0.4, 0, high),
            (radius + 0.75 * reach, 0, high),
            (radius + reach, 0, high - 0.2 * reach),
            (radius + reach, 0, low + 0.2 * reach),
            (radius + 0.75 * reach, 0, low),
            (radius - 0.4, 0, low),
        ]
    else:
        middle, half = (low + high) / 2, (high - low) / 2
        points = [
            (radius - 0.4, 0, high - 0.05 * half),
            (radius + 0.6 * reach, 0, high),
            (radius + reach, 0, middle + 0.25 * half),
            (radius + 0.8 * reach, 0, middle - 0.6 * half),
            (radius - 0.4, 0, low),
        ]
    return smooth(points, 5)


def mug(rng: np.random.Generator) -> Manifold:
    """Cup with a handle: straight, tapered, bellied or footed; ear round or square; espresso cup to
    tall tankard.
    """
    radius, height = rng.uniform(3.2, 5.2), rng.uniform(6, 15)
    wall = rng.uniform(0.25, 0.6)
    style = rng.choice(["straight", "tapered", "belly", "footed"], p=[0.4, 0.25, 0.2, 0.15])
    swell = rng.uniform(0.08, 0.28)
    if style == "straight":
        outside = np.array([(radius - 0.3, 0), (radius, 0.3), (radius, height)])
    elif style == "tapered":
        lean = rng.choice([-1, 1], p=[0.3, 0.7]) * swell * radius
        outside = np.array([(radius - max(lean, 0.0), 0), (radius + min(lean, 0.0), height)])
    elif style == "belly":
        outside = smooth(
            [
                (radius * (1 - swell), 0),
                (radius * (1 + 0.4 * swell), 0.35 * height),
                (radius, 0.75 * height),
                (radius * (1 - 0.3 * swell), height),
            ],
            5,
        )
    else:
        foot = radius * rng.uniform(0.45, 0.65)
        outside = np.concatenate(
            [
                [(foot, 0), (foot, 0.08 * height)],
                smooth(
                    [(foot * 1.05, 0.1 * height), (0.95 * radius, 0.4 * height), (radius, height)],
                    5,
                ),
            ]
        )
    body = vessel(outside, wall, rng.uniform(0.4, 0.9), 40)
    low, high = height * rng.uniform(0.14, 0.26), height * rng.uniform(0.74, 0.9)
    reach = rng.uniform(0.5, 0.95) * radius
    wall_at = float(np.interp([low, high], outside[:, 1], outside[:, 0]).min())
    thick = rng.uniform(0.3, 0.55) * (0.6 + 0.05 * height)
    handle = sweep(_ear(reach, low, high, wall_at, square=rng.random() < 0.3), thick, 10)
    if rng.random() < 0.4:
        handle = handle.scale((1, rng.uniform(1.4, 2.0), 1))
    inside = cut(
        cylinder(4 * height, wall_at - wall * 0.98, segments=40),
        cylinder(1, 0.1).translate((0, 0, -9)),
    )
    solid = union(body, cut(handle, inside))
    if rng.random() < 0.12:  # served on a saucer
        plate = vessel(np.array([(0.9 * radius, 0), (1.9 * radius, 1.4)]), 0.5, 0.4, 40)
        solid = union(solid.translate((0, 0, 0.35)), plate)
    return solid


def bottle(rng: np.random.Generator) -> Manifold:
    """Bottle: sloping, round or square shoulder; section round, square or hexagonal; open or closed
    by a cap or cork.
    """
    radius, height = rng.uniform(3, 5), rng.uniform(17, 34)
    neck = radius * rng.uniform(0.26, 0.45)
    body = height * rng.uniform(0.45, 0.7)
    shoulder = min(height - body - 2.5, radius * rng.uniform(0.5, 2.4))
    if rng.random() < 0.12:  # a wide-mouthed jar
        neck, height, body = (
            radius * rng.uniform(0.7, 0.85),
            rng.uniform(11, 17),
            rng.uniform(8, 9.5),
        )
        shoulder = 1.0
    bow = rng.choice(["round", "slope", "ogee"])
    t = np.linspace(0, 1, 8)
    share = {
        "round": np.sqrt(np.clip(1 - t**2, 0, 1)),
        "slope": 1 - t,
        "ogee": 0.5 + 0.5 * np.cos(np.pi * t),
    }[str(bow)]
    curve = np.stack([neck + (radius - neck) * share, body + shoulder * t], axis=1)
    lip = neck * rng.uniform(1.1, 1.3)
    rim = height - 0.9
    outside = np.concatenate(
        [
            [(0.86 * radius, 0), (radius, 0.14 * radius)],
            curve,
            [(neck, rim), (lip, rim), (lip, height)],
        ]
    )
    if rng.random() < 0.3:  # a waist to hold it by
        dent = radius * rng.uniform(0.08, 0.2)
        waist = smooth(
            [(radius, 0.28 * body), (radius - dent, 0.5 * body), (radius, 0.72 * body)], 4
        )
        outside = np.concatenate([outside[:2], waist, outside[2:]])
    kind = rng.choice(["round", "square", "hexagonal"], p=[0.68, 0.2, 0.12])
    solid = lathe(np.concatenate([[(0, 0)], outside, [(0, height)]]), 36)
    if kind != "round":
        # The round body is cut down to a prism that leaves the neck alone.
        side = radius * (0.8 if kind == "square" else 0.9)
        prism = (
            rounded_rectangle(2 * side, 2 * side, 0.35 * side)
            if kind == "square"
            else polygon(6, side)
        )
        solid = solid ^ union(
            prism.extrude(body + shoulder), cylinder(3 * height, max(neck, lip) * 1.02)
        )
    capped = rng.choice(["open", "cap", "cork"], p=[0.5, 0.32, 0.18])
    if capped == "open":
        bore = 0.72 * neck
        inner = [
            (0, 0.8),
            (0.72 * radius, 0.8),
            (0.72 * radius, body),
            *zip(
                np.minimum(0.85 * curve[:, 0] - 0.13 * neck, 0.72 * radius),
                curve[:, 1],
                strict=True,
            ),
            (bore, height + 1),
            (0, height + 1),
        ]
        return cut(solid, lathe(np.array(inner, dtype=np.float64), 32))
    top = (
        cylinder(2.6, 1.18 * lip, 1.12 * lip, 24)
        if capped == "cap"
        else cylinder(2.2, 0.75 * neck, 0.95 * neck, 20)
    )
    return union(solid, top.translate((0, 0, height - (1.2 if capped == "cap" else 0.5))))


def vase(rng: np.random.Generator) -> Manifold:
    """Vase: a free profile from foot to flared or narrow rim; round, fluted, or a twisted prism;
    with or without handles.
    """
    height, radius = rng.uniform(16, 36), rng.uniform(5, 9)
    foot = radius * rng.uniform(0.4, 0.85)
    belly, where = radius * rng.uniform(0.95, 1.35), rng.uniform(0.25, 0.62)
    neck = radius * rng.uniform(0.3, 0.7)
    rim = neck * rng.uniform(1.05, 1.9)
    wall = rng.uniform(0.35, 0.7)
    style = rng.choice(["round", "fluted", "prism", "amphora"], p=[0.45, 0.2, 0.17, 0.18])
    outside = smooth([(foot, 0), (belly, where * height), (neck, 0.86 * height), (rim, height)], 8)
    if style == "prism":
        sides = int(rng.integers(3, 7))
        grow, twist = rng.uniform(0.9, 1.5), float(rng.uniform(-70, 70))
        outer = polygon(sides, 0.8 * radius).offset(0.1 * radius, circular_segments=8)
        inner = outer.offset(-wall * 1.5)
        shell = outer.extrude(height, 10, twist, (grow, grow))
        hole = inner.extrude(height * 1.02, 10, twist * 1.02, (grow, grow)).translate(
            (0, 0, 0.05 * height)
        )
        return cut(shell, hole)
    solid = vessel(outside, wall, 0.06 * height, 40)
    if style == "fluted":
        count, deep = int(rng.choice([5, 8, 10])), rng.uniform(0.05, 0.12)

        def flute(vertices: np.ndarray) -> np.ndarray:
            angle = np.arctan2(vertices[:, 1], vertices[:, 0])
            scale = 1 + deep * np.cos(count * angle) * np.clip(
                vertices[:, 2] / (0.15 * height), 0, 1
            )
            return vertices * np.stack([scale, scale, np.ones_like(scale)], axis=1)

        solid = vessel(outside, wall, 0.06 * height, 80).warp_batch(flute)
    if style == "amphora":
        low, high = (where + 0.1) * height, 0.9 * height
        at_low, at_high = np.interp([low, high], outside[:, 1], outside[:, 0])
        reach = max(at_low, at_high) + rng.uniform(0.1, 0.5) * radius
        path = smooth(
            [
                (at_high - 0.5 * wall, 0, high),
                (reach, 0, high + 0.01 * height),
                (reach * 1.04, 0, 0.6 * high + 0.4 * low),
                (at_low - 0.5 * wall, 0, low),
            ],
            5,
        )
        ear = sweep(path, rng.uniform(0.35, 0.6), 8)
        solid = union(solid, ear, ear.rotate((0, 0, 180)))
    return solid


def goblet(rng: np.random.Generator) -> Manifold:
    """Glass on a stem: wine, flute, martini, coupe or chalice; stem thick or thin, plain or with a
    knop.
    """
    radius = rng.uniform(3, 5)
    stem, foot = rng.uniform(4, 11), radius * rng.uniform(0.75, 1.1)
    thin = rng.uniform(0.35, 0.75)
    wall = rng.uniform(0.22, 0.45)
    style = rng.choice(
        ["wine", "flute", "martini", "coupe", "chalice"], p=[0.36, 0.16, 0.16, 0.14, 0.18]
    )
    deep = (
        radius
        * {
            "wine": rng.uniform(1.7, 2.5),
            "flute": rng.uniform(3, 4.2),
            "martini": rng.uniform(0.9, 1.4),
            "coupe": rng.uniform(0.7, 1.0),
            "chalice": rng.uniform(1.5, 2.1),
        }[str(style)]
    )
    if style == "flute":
        radius *= 0.7
        deep *= 0.85
    mouth = rng.uniform(0.72, 1.0)
    bowl = {
        "wine": [
            (thin, 0),
            (0.72 * radius, 0.14 * deep),
            (radius, 0.45 * deep),
            (mouth * radius, deep),
        ],
        "flute": [
            (thin, 0),
            (0.75 * radius, 0.2 * deep),
            (radius, 0.6 * deep),
            (mouth * radius, deep),
        ],
        "martini": [(thin, 0), (0.5 * radius * 1.2, 0.5 * deep), (1.25 * radius, deep)],
        "coupe": [
            (thin, 0),
            (0.8 * radius, 0.25 * deep),
            (1.15 * radius, 0.75 * deep),
            (1.2 * radius, deep),
        ],
        "chalice": [
            (thin * 1.5, 0),
            (0.85 * radius, 0.2 * deep),
            (0.95 * radius, 0.7 * deep),
            (1.1 * radius, deep),
        ],
    }[str(style)]
    top = smooth(bowl, 6)
    shaft = [(thin, 0.55), (thin, stem)]
    if style == "chalice" or rng.random() < 0.25:
        knob, at_z = thin * rng.uniform(1.8, 2.8), stem * rng.uniform(0.35, 0.65)
        shaft = [
            (thin, 0.55),
            *smooth([(thin, at_z - knob), (knob, at_z), (thin, at_z + knob)], 4),
            (thin, stem),
        ]
        shaft = [p for p in shaft if 0.5 < p[1] <= stem]
    flare = rng.uniform(0.08, 0.4) if style != "chalice" else rng.uniform(0.3, 0.8)
    base = [
        (foot, 0),
        (foot, 0.2),
        (0.4 * foot, 0.2 + flare),
        (max(1.2 * thin, 0.2 * foot), 0.5 + 1.2 * flare),
    ]
    shaft = [p for p in shaft if p[1] > 0.55 + 1.2 * flare]
    outside = np.concatenate([base, np.reshape(shaft, (-1, 2)), top + np.array([0.0, stem])])
    keep = np.concatenate([[True], np.diff(outside[:, 1]) > 1e-6])
    keep[1] = True
    return vessel(outside[keep], wall, stem + 0.35 + wall, 36)


PROGRAMS = (mug, bottle, vase, goblet)
