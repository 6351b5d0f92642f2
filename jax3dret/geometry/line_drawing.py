"""The lines that a person would draw of a mesh: outlines, sharp edges, and folds that are nearly
outlines. Hidden ones are left out.

Four kinds of lines (for all of them: Cole et al., "Where do people draw lines?", ACM Trans. Graph.
27(3), 2008):

    boundary      edges of one face
    crease        edges where the faces turn by more than an angle
    contour       where the surface turns away from the viewer, n . v = 0, as zero set of that function, linear in each face, with
                  smooth normals (Hertzmann and Zorin, "Illustrating smooth surfaces", SIGGRAPH 2000)
    suggestive    where it comes near to that: zeros of the radial curvature where it grows towards the viewer (DeCarlo, Finkelstein,
                  Rusinkiewicz and Santella, "Suggestive contours for conveying shape", SIGGRAPH 2003, section 3)

The segments are chained into strokes, through a junction along the straightest way; what lies
behind the depths of a rendered picture is cut away.
"""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.geometry.bounding import bounding_sphere
from jax3dret.geometry.cameras import Camera, project, z_up
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.raycast import RayScene
from jax3dret.geometry.smooth_surface import SmoothSurface, smooth_surface
from jax3dret.geometry.views import Renderer, choose_renderer
from jax3dret.geometry.zbuffer import ZScene

Kind = Literal["boundary", "crease", "contour", "suggestive"]

_STEP = 2.0  # pixels between the places of a stroke where it is tested for being seen
_NEAR = 0.01  # in the object's unit: what lies no farther behind the picture's depth is seen
_TURN = 40.0  # degrees; a sharper turn ends a stroke
_FLAT = 1e-4  # radial curvature below, per unit, is none: the rounding of planes and cylinders
_GROWTH = 0.5  # growth of the radial curvature towards the viewer, per unit squared
_LONGER = 4  # times the shortest line: a shorter suggestive contour is the noise of a coarse mesh
_HEAD_ON = (
    0.2  # sine of the angle between normal and view, below which "towards the viewer" means little
)


class Line(NamedTuple):
    """points: places of the picture, pixels as `cameras.project` gives them. Closed lines repeat
    their first point.
    """

    points: Float[np.ndarray, "n 2"]
    kind: Kind


class _Segments(NamedTuple):
    """Ends of segments as nodes, the nodes' places in space."""

    nodes: Int[np.ndarray, "S 2"]
    places: Float[np.ndarray, "N 3"]


def line_drawing(
    mesh: Mesh,
    eye: Camera,
    *,
    size: int = 448,
    up_axis: str = "z",
    crease: float = 50.0,
    suggestive: bool = True,
    shortest: float = 6.0,
    renderer: Renderer = "auto",
) -> list[Line]:
    """The visible lines of a mesh, as seen by one camera, longest of a kind first.

    Args: mesh: vertices in any unit; its smallest bounding sphere becomes the unit sphere. eye: of
        a camera set with `fit` "sphere". size: of the picture, pixels. up_axis: the mesh's own, "y"
        or "z". crease: degrees by which the faces turn at an edge that is drawn. suggestive: with
        suggestive contours. shortest: pixels; shorter lines are left out, suggestive contours if
        shorter than four times that. renderer: for the depths, see `views.choose_renderer`.

    Raises: MeshError: no faces, a face that names a missing vertex, a vertex that is not finite, or
        no area.
    """
    surface = smooth_surface(_placed(mesh, up_axis), crease=crease)
    view = _view(eye, surface.points)
    facing = np.einsum("pi,pi->p", surface.normals, view)
    parts = [*_sharp(surface, eye), ("contour", _contours(surface, facing))]
    if suggestive:
        parts.append(("suggestive", _suggestive(surface, view, facing)))
    kind = RayScene if choose_renderer(renderer) == "embree" else ZScene
    depths = kind(surface.points, surface.faces).centres(eye, size, depth=True).depth
    behind = _farthest_near(depths) + np.float32(_NEAR)
    lines: list[Line] = []
    for name, segments in parts:
        if not len(segments.nodes):
            continue
        screen = project(eye, segments.places, size)
        chains = _chains(segments.nodes, screen[:, :2])
        least = shortest * (_LONGER if name == "suggestive" else 1)
        seen = [
            Line(points, name) for points in _visible(chains, screen, behind, least, bool(eye.fov))
        ]
        lines += sorted(seen, key=lambda line: -_length(line.points))
    return lines


def _placed(mesh: Mesh, up_axis: str) -> Mesh:
    vertices, faces = (
        np.asarray(mesh.vertices, np.float64).reshape(-1, 3),
        np.asarray(mesh.faces).reshape(-1, 3),
    )
    inside = len(faces) and faces.min() >= 0 and faces.max() < len(vertices)
    used = vertices[np.unique(faces)] if inside else vertices[:0]
    if not len(used) or not np.isfinite(used).all():
        return mesh  # refused by what comes next, with its reason
    centre, radius = bounding_sphere(used)
    return Mesh(z_up((vertices - centre) / (radius or 1.0), up_axis), faces)


def _view(eye: Camera, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
    """Unit vectors to the viewer."""
    if not eye.fov:
        return np.broadcast_to(eye.axes[2], points.shape)
    toward = eye.position - points
    return toward / np.sqrt((toward * toward).sum(1, keepdims=True))


# ------------------------------------------------------------------------------------------------------------------ lines


def _sharp(surface: SmoothSurface, eye: Camera) -> list[tuple[Kind, _Segments]]:
    """Sharp edges; those between faces that all look away are hidden if the mesh is closed."""
    boundary = surface.sharp_faces[:, 1] < 0
    keep = np.ones(len(surface.sharp), bool)
    if surface.closed and len(surface.sharp):
        toward = _view(eye, surface.places[surface.sharp].mean(1))
        facing = np.einsum("efi,ei->ef", surface.face_normals[surface.sharp_faces], toward)
        keep = facing.max(1) > 0.01
    return [
        ("boundary", _Segments(surface.sharp[boundary & keep], surface.places)),
        ("crease", _Segments(surface.sharp[~boundary & keep], surface.places)),
    ]


def _contours(surface: SmoothSurface, facing: Float[np.ndarray, " P"]) -> _Segments:
    return _zeros(surface, np.where(np.abs(facing) < 1e-9, 0.0, facing))


def _suggestive(
    surface: SmoothSurface, view: Float[np.ndarray, "P 3"], facing: Float[np.ndarray, " P"]
) -> _Segments:
    """Zeros of the radial curvature k = w . C w / w . w, w the part of the view along the surface,
    where its derivative along w exceeds a threshold, on what faces the viewer.
    """
    along = view - facing[:, None] * surface.normals
    sine = np.sqrt((along * along).sum(1))
    radial = np.einsum("pi,pij,pj->p", along, surface.curvature, along) / np.maximum(
        sine * sine, 1e-12
    )
    radial[sine < 1e-3] = 0.0
    # Strictly on both sides of zero: a plane beside a hollow is no fold.
    clear = np.where(np.abs(radial) < _FLAT, 0.0, radial)[surface.faces]
    crossed = (clear.min(1) < 0) & (clear.max(1) > 0)
    corners = surface.points[surface.faces]
    slope = _gradient(corners, radial[surface.faces])
    middle = along[surface.faces].mean(1)
    length = np.sqrt((middle * middle).sum(1))
    growth = np.einsum("fi,fi->f", slope, middle) / np.maximum(length, 1e-9)
    crossed &= (growth > _GROWTH) & (length > _HEAD_ON) & (facing[surface.faces].min(1) > 0)
    return _zeros(surface, radial, crossed)


def _gradient(
    corners: Float[np.ndarray, "F 3 3"], values: Float[np.ndarray, "F 3"]
) -> Float[np.ndarray, "F 3"]:
    """Of the function that is linear in each face."""
    sides = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]
    normal = np.cross(sides[:, 0], sides[:, 1])
    squared = (normal * normal).sum(1)
    total = sum(values[:, i, None] * np.cross(normal, sides[:, i]) for i in range(3))
    return total / np.maximum(squared, 1e-18)[:, None]


def _zeros(
    surface: SmoothSurface,
    values: Float[np.ndarray, " P"],
    where: Bool[np.ndarray, " F"] | None = None,
) -> _Segments:
    """The zero set of a function that is linear in each face: a segment for each face that it
    crosses, one node for each edge.

    Zero counts as positive.
    """
    negative = values < 0
    signs = negative[surface.faces]
    mixed = signs.any(1) & ~signs.all(1)
    chosen = np.flatnonzero(mixed if where is None else mixed & where)
    faces = surface.faces[chosen]
    ends = np.stack([faces, faces[:, [1, 2, 0]]], 2)  # [S, 3 edges, 2]
    crossed = signs[chosen] != signs[chosen][:, [1, 2, 0]]  # two of the three
    pairs = np.sort(ends[crossed], 1)
    keys, node = np.unique(pairs[:, 0] * len(values) + pairs[:, 1], return_inverse=True)
    a, b = np.divmod(keys, len(values))
    share = values[a] / np.where(values[a] == values[b], 1.0, values[a] - values[b])
    places = surface.points[a] + share[:, None] * (surface.points[b] - surface.points[a])
    return _Segments(node.reshape(-1, 2), places)


# ----------------------------------------------------------------------------------------------------------------- chains


def _chains(nodes: Int[np.ndarray, "S 2"], screen: Float[np.ndarray, "N 2"]) -> list[list[int]]:
    """Sequences of nodes. Where segments meet, those that continue each other most straightly are
    joined, two by two.
    """
    partner = _partners(nodes, screen)
    order = np.r_[
        np.flatnonzero(partner < 0), np.arange(2 * len(nodes))
    ]  # from loose ends first; what is left are rings
    link, flat, chains = partner.tolist(), nodes.ravel().tolist(), []
    done = [False] * len(nodes)
    for start in order.tolist():
        if done[start // 2]:
            continue
        chain, half = [flat[start]], start
        while half >= 0 and not done[half // 2]:
            done[half // 2] = True
            chain.append(flat[half ^ 1])
            half = link[half ^ 1]
        chains.append(chain)
    return chains


def _partners(
    nodes: Int[np.ndarray, "S 2"], screen: Float[np.ndarray, "N 2"]
) -> Int[np.ndarray, " H"]:
    """For each half segment (2 s + end) the one at the same node that continues it, -1: none."""
    flat = nodes.ravel()
    away = screen[nodes[:, ::-1].ravel()] - screen[flat]
    length = np.sqrt((away * away).sum(1))
    away = np.divide(away, length[:, None], out=np.zeros_like(away), where=length[:, None] > 0)
    order = np.argsort(flat, kind="stable")
    begins = (
        np.flatnonzero(np.r_[True, flat[order][1:] != flat[order][:-1]])
        if len(flat)
        else np.zeros(0, int)
    )
    counts = np.diff(np.r_[begins, len(flat)])
    partner = np.full(len(flat), -1)
    limit = -np.cos(np.deg2rad(_TURN))
    two = begins[counts == 2]
    a, b = order[two], order[two + 1]
    # A segment seen end on has no direction and goes with whatever it meets.
    joined = ((away[a] * away[b]).sum(1) < limit) | (length[a] < 0.5) | (length[b] < 0.5)
    partner[a[joined]], partner[b[joined]] = b[joined], a[joined]
    for begin, number in zip(begins[counts > 2], counts[counts > 2], strict=True):
        halves = order[begin : begin + number]
        straight = (away[halves][:, None] * away[halves]).sum(2)
        pairs = [
            (straight[i, j], i, j)
            for i, j in itertools.combinations(range(number), 2)
            if straight[i, j] < limit
        ]
        free = set(range(number))
        for _, i, j in sorted(pairs):
            if i in free and j in free:
                free -= {i, j}
                partner[halves[i]], partner[halves[j]] = halves[j], halves[i]
    return partner


# ------------------------------------------------------------------------------------------------------------- visibility


def _farthest_near(depths: Float[np.ndarray, "S S"]) -> Float[np.ndarray, "S S"]:
    """The largest depth at or beside each pixel: a line along an edge of the picture's surfaces is
    not hidden by the nearer side.
    """
    wide = np.pad(depths, 1, constant_values=np.inf)
    rows = np.maximum(np.maximum(wide[:-2], wide[1:-1]), wide[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _visible(
    chains: list[list[int]],
    screen: Float[np.ndarray, "N 3"],
    behind: Float[np.ndarray, "S S"],
    shortest: float,
    perspective: bool,
) -> list[Float[np.ndarray, "_ 2"]]:
    """The parts of the chains that lie before `behind`, sampled every few pixels; flickers of a few
    samples are taken for noise.
    """
    nodes = np.concatenate([np.asarray(chain) for chain in chains])
    owner = np.repeat(np.arange(len(chains)), [len(chain) for chain in chains])
    places = screen[nodes]
    if perspective:  # along a straight line on the screen 1 / depth is linear, depth is not
        places[:, 2] = 1 / places[:, 2]
    step = np.hypot(*np.diff(places[:, :2], axis=0).T)
    step[owner[1:] != owner[:-1]] = 0.0
    along = np.r_[0.0, np.cumsum(step)]
    first = np.searchsorted(owner, np.arange(len(chains)))
    last = np.r_[first[1:], len(nodes)] - 1
    lengths = along[last] - along[first]
    keep = lengths >= shortest
    number = np.maximum(np.ceil(lengths[keep] / _STEP).astype(np.int64), 1) + 1
    stroke = np.repeat(np.arange(len(number)), number)
    within = np.arange(len(stroke)) - np.repeat(np.cumsum(number) - number, number)
    share = within / (number[stroke] - 1)
    at = along[first[keep]][stroke] + share * lengths[keep][stroke]
    # Ends of neighbouring chains lie at the same length: a sample must be taken between nodes of
    # its own chain.
    right = np.clip(np.searchsorted(along, at), first[keep][stroke] + 1, last[keep][stroke])
    left = right - 1
    gap = along[right] - along[left]
    part = np.clip((at - along[left]) / np.where(gap > 0, gap, 1.0), 0, 1)[:, None]
    samples = places[left] + part * (places[right] - places[left])
    depth = 1 / samples[:, 2] if perspective else samples[:, 2]
    size = len(behind)
    column, row = np.floor(samples[:, :2]).astype(np.int64).T
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    seen = inside & (depth <= behind[row.clip(0, size - 1), column.clip(0, size - 1)])
    lines = []
    for start, count in zip(np.cumsum(number) - number, number, strict=True):
        for a, b in _runs(seen[start : start + count], int(np.ceil(shortest / _STEP))):
            lines.append(samples[start + a : start + b, :2])
    return lines


def _runs(seen: Bool[np.ndarray, " n"], least: int) -> list[tuple[int, int]]:
    """Runs of seen samples; gaps of up to two samples within are closed, then runs shorter than
    `least` left out.
    """
    change = np.flatnonzero(np.diff(np.r_[False, seen, False].astype(np.int8)))
    runs: list[list[int]] = []
    for a, b in change.reshape(-1, 2).tolist():
        if runs and a - runs[-1][1] <= 2:
            runs[-1][1] = b
        else:
            runs.append([a, b])
    return [(a, b) for a, b in runs if b - a > min(least, len(seen) - 1)]


def _length(points: Float[np.ndarray, "n 2"]) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())
