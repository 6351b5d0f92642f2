"""Solids the shape programs are put together from, on top of manifold3d.

Everything stands on z = 0 and is centred on the z axis unless said otherwise. Angles are degrees.
Curves are cut into few, fixed numbers of segments: a finished shape has some hundred to some
thousand triangles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from manifold3d import CrossSection, FillRule, JoinType, Manifold, Mesh, OpType

ROUND = 32  # segments of a circle that carries the look of a shape
SMALL = 16  # segments of a bolt hole, a leg, a rung

Point = Sequence[float] | np.ndarray


def union(*solids: Manifold) -> Manifold:
    """What lies in any of the solids. Parts that shall hold together should overlap, not just
    touch.
    """
    return Manifold.batch_boolean(list(solids), OpType.Add)


def cut(base: Manifold, *tools: Manifold) -> Manifold:
    """`base` without what lies in any of the tools."""
    return Manifold.batch_boolean([base, *tools], OpType.Subtract) if tools else base


def section(outline: Sequence[Point] | np.ndarray) -> CrossSection:
    """The area inside one closed outline, whichever way round it runs."""
    return CrossSection([np.asarray(outline, dtype=np.float64)], FillRule.EvenOdd)


def disc(radius: float, segments: int = ROUND) -> CrossSection:
    return CrossSection.circle(radius, segments)


def rounded_rectangle(
    x: float, y: float, corner: float = 0.0, segments: int = SMALL
) -> CrossSection:
    """A rectangle x by y about the origin whose corners are rounded to radius `corner` (cut to what
    fits).
    """
    corner = min(corner, 0.499 * min(x, y))
    if corner <= 0.0:
        return CrossSection.square((x, y), True)
    return CrossSection.square((x - 2 * corner, y - 2 * corner), True).offset(
        corner, JoinType.Round, 2.0, segments
    )


def polygon(sides: int, inradius: float) -> CrossSection:
    """A regular polygon with the given distance from its centre to its sides; one corner points
    along +x.
    """
    angle = 2 * np.pi * np.arange(sides) / sides
    return section(
        inradius / np.cos(np.pi / sides) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    )


def box(x: float, y: float, z: float) -> Manifold:
    return Manifold.cube((x, y, z), True).translate((0, 0, z / 2))


def slab(x: float, y: float, z: float, corner: float) -> Manifold:
    """A box with its four upright edges rounded."""
    return rounded_rectangle(x, y, corner).extrude(z)


def pillow(x: float, y: float, z: float, edge: float) -> Manifold:
    """A box with every edge softened by a bevel of size `edge`: cushions, mattresses."""
    edge = min(edge, 0.45 * min(x, y, z))
    core = rounded_rectangle(x, y, 1.5 * edge, 12)
    inner = rounded_rectangle(x - 2 * edge, y - 2 * edge, edge, 12)
    return union(core.extrude(z - 2 * edge).translate((0, 0, edge)), inner.extrude(z)).hull()


def cylinder(
    height: float, radius: float, top: float | None = None, segments: int = ROUND
) -> Manifold:
    return Manifold.cylinder(height, radius, radius if top is None else top, segments)


def tube(height: float, outer: float, inner: float, segments: int = ROUND) -> Manifold:
    return (disc(outer, segments) - disc(inner, segments)).extrude(height)


def lathe(
    profile: Sequence[Point] | np.ndarray, segments: int = ROUND, degrees: float = 360.0
) -> Manifold:
    """The closed outline (radius, z) turned about the z axis."""
    return section(profile).revolve(segments, degrees)


def vessel(profile: np.ndarray, wall: float, floor: float, segments: int = ROUND) -> Manifold:
    """An open vessel whose outside runs along `profile` (radius, z) from the foot up to the rim.

    The inside keeps `wall` from the outside measured level, and begins `floor` above the foot.
    """
    outside = np.asarray(profile, dtype=np.float64)
    floor_z = outside[0, 1] + floor
    inside = outside[outside[:, 1] > floor_z]
    start = np.interp(floor_z, outside[:, 1], outside[:, 0])
    inside = np.concatenate([[[start, floor_z]], inside]) - [wall, 0.0]
    inside[:, 0] = np.maximum(inside[:, 0], 0.3 * wall)
    loop = np.concatenate([[[0.0, outside[0, 1]]], outside, inside[::-1], [[0.0, floor_z]]])
    return lathe(loop, segments)


def smooth(points: Sequence[Point], per_span: int = 6) -> np.ndarray:
    """A Catmull-Rom curve through the points, `per_span` samples for each stretch between two of
    them.
    """
    control = np.asarray(points, dtype=np.float64)
    padded = np.concatenate(
        [[2 * control[0] - control[1]], control, [2 * control[-1] - control[-2]]]
    )
    t = np.arange(per_span)[:, None] / per_span
    spans = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        linear, square, cube = p2 - p0, 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * p1 - p0 - 3 * p2 + p3
        spans.append(p1 + 0.5 * (linear * t + square * t**2 + cube * t**3))
    return np.concatenate([*spans, control[-1:]])


def rod(
    start: Point, end: Point, radius: float, top: float | None = None, segments: int = SMALL
) -> Manifold:
    """A round bar between two points, `top` being its radius at `end`."""
    origin, along = np.asarray(start, dtype=np.float64), np.subtract(end, start, dtype=np.float64)
    length = float(np.linalg.norm(along))
    tilt = np.degrees(np.arctan2(np.hypot(along[0], along[1]), along[2]))
    turn = np.degrees(np.arctan2(along[1], along[0]))
    return cylinder(length, radius, top, segments).rotate((0, tilt, turn)).translate(tuple(origin))


def sweep(
    path: Sequence[Point] | np.ndarray, radius: float | np.ndarray, segments: int = 10
) -> Manifold:
    """A round bar along a curve, closed by flat ends; `radius` may be given for each point of the
    path.

    The circle is carried along without twist. The path must not turn back on itself from one point
    to the next.
    """
    path = np.asarray(path, dtype=np.float64)
    radius = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(path))
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.zeros_like(path)
    side[0] = np.eye(3)[np.abs(tangent[0]).argmin()]
    for i in range(len(path)):
        carried = side[max(i - 1, 0)]
        carried = carried - tangent[i] * (carried @ tangent[i])
        side[i] = carried / np.linalg.norm(carried)
    other = np.cross(tangent, side)
    angle = 2 * np.pi * np.arange(segments) / segments
    ring = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * other[:, None]
    vertices = np.concatenate(
        [(path[:, None] + radius[:, None, None] * ring).reshape(-1, 3), path[[0, -1]]]
    )

    here = np.arange(segments)
    ahead = (here + 1) % segments
    level = segments * np.arange(len(path) - 1)[:, None]
    a, b, c, d = level + here, level + ahead, level + segments + here, level + segments + ahead
    last, first_centre, last_centre = (
        segments * (len(path) - 1),
        len(vertices) - 2,
        len(vertices) - 1,
    )
    faces = [
        np.stack([a, b, d], axis=-1).reshape(-1, 3),
        np.stack([a, d, c], axis=-1).reshape(-1, 3),
        np.stack([np.full(segments, first_centre), ahead, here], axis=-1),
        np.stack([np.full(segments, last_centre), last + here, last + ahead], axis=-1),
    ]
    return Manifold(Mesh(vertices.astype(np.float32), np.concatenate(faces).astype(np.uint32)))


def around(solid: Manifold, count: int, radius: float = 0.0, phase: float = 0.0) -> list[Manifold]:
    """`count` copies, moved out to `radius` along x and then turned evenly about the z axis."""
    moved = solid.translate((radius, 0, 0))
    return [moved.rotate((0, 0, phase + 360.0 * i / count)) for i in range(count)]


def at(solid: Manifold, places: Sequence[Point]) -> list[Manifold]:
    """A copy at each place (x, y) or (x, y, z)."""
    return [solid.translate((*place, 0.0)[:3]) for place in places]


def corners(x: float, y: float) -> list[tuple[float, float]]:
    """The four corners of a rectangle x by y about the origin."""
    return [(sx * x / 2, sy * y / 2) for sx in (-1, 1) for sy in (-1, 1)]


def on_floor(solid: Manifold) -> Manifold:
    """The solid lifted or lowered until its lowest point is at z = 0."""
    return solid.translate((0, 0, -solid.bounding_box()[2]))
