"""Pictures of an object from a set of cameras: shaded, depth, normals, faces, silhouettes. No
display, no OpenGL.

Shading: a diffuse grey of 0.7 under a head light along the optical axis and 0.3 of ambient light,
whichever side of a face
shows: 0.7 (0.3 + |cos|), from 0.21 to 0.91, which stays apart from a white and from a black
background. Faces are flat.

The same input gives the same bytes in every process of a machine. "embree" (ray casting) and
"zbuffer" (NumPy) give the same pictures but for single pixels on the borders of faces.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.spatial import cKDTree

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry import raycast
from jax3dret.geometry.bounding import bounding_sphere
from jax3dret.geometry.cameras import Camera, Cameras, camera, project, z_up
from jax3dret.geometry.mesh import Mesh, MeshError, check_faces
from jax3dret.geometry.raycast import RayScene
from jax3dret.geometry.zbuffer import ZScene

# Counts up whenever the same object gives other pictures.
VERSION = 1
Renderer = Literal["auto", "embree", "zbuffer"]
WHAT = ("shaded", "depth", "normals", "face", "mask")
BACKGROUNDS = {"white": 1.0, "black": 0.0}
_GREY, _AMBIENT = 0.7, 0.3
# Neighbouring pixels that differ by more than this (of 1) mark an edge, where a pixel is drawn at
# finer resolution.
_EDGE = 32 / 255


class Views(NamedTuple):
    """V pictures of S x S pixels, first row at the top; what was not asked for is None.

    shaded: uint8[V, S, S] grey. depth: float32[V, S, S] along the optical axis from the camera, in
    the unit of the normalised object, inf on the background. normals: float32[V, S, S, 3], unit,
    turned to the camera, in the cameras' frame (z up), 0 on the background. face: int32[V, S, S],
    the face (or point) seen, -1 on the background. mask: bool[V, S, S], the silhouette.
    """

    shaded: UInt8[np.ndarray, "V S S"] | None = None
    depth: Float[np.ndarray, "V S S"] | None = None
    normals: Float[np.ndarray, "V S S 3"] | None = None
    face: Int[np.ndarray, "V S S"] | None = None
    mask: np.ndarray | None = None


def choose_renderer(renderer: Renderer = "auto") -> Literal["embree", "zbuffer"]:
    """ "auto" is "embree" where embreex is installed, else "zbuffer", which is several times
    slower.

    Raises:
        ConfigError: no such renderer, or "embree" without embreex.
    """
    if renderer not in ("auto", "embree", "zbuffer"):
        raise ConfigError(f"renderer '{renderer}': it is 'auto', 'embree' or 'zbuffer'")
    if renderer == "embree" and not raycast.available():
        raise ConfigError("renderer 'embree' needs embreex: pip install embreex, or take 'zbuffer'")
    return "embree" if renderer != "zbuffer" and raycast.available() else "zbuffer"


def render_views(
    mesh: Mesh,
    cameras: Cameras,
    *,
    size: int = 224,
    up_axis: str = "z",
    background: str = "white",
    supersample: int = 2,
    renderer: Renderer = "auto",
    what: Collection[str] = ("shaded",),
    fitted: bool = False,
) -> Views:
    """Pictures of a mesh from every camera of a set, the mesh brought to the size the set is made
    for.

    Args: mesh: vertices [V, 3] in any unit, faces [F, 3] of either winding. cameras: see
        `geometry.cameras`. size: side of the square pictures, pixels. up_axis: the mesh's own, "y"
        or "z". background: "white" or "black", of the shaded pictures. supersample: 2, pixels on
        edges are the mean of their centre and their four quarters; 1, every pixel is its centre.
        The other pictures are always of the centres. renderer: see `choose_renderer`. what: of
        "shaded", "depth", "normals", "face", "mask"; only these are computed. fitted: the mesh
        stands where the cameras look and has the size that they are made for, and stays so.

    Raises: MeshError: no faces, a face that names a missing vertex, a vertex that is not finite, or
        no extent. DataError: a camera stands inside the object. ConfigError: a setting that does
        not exist.
    """
    wanted = check_settings(size, background, supersample, what)
    kind = choose_renderer(renderer)
    vertices, faces = _checked(mesh)
    if not fitted:
        vertices = _normalised(vertices, faces, cameras.fit)
    vertices = z_up(vertices, up_axis)
    scene = RayScene(vertices, faces) if kind == "embree" else ZScene(vertices, faces)
    normals = _face_normals(vertices, faces)
    views = empty_views(wanted, len(cameras.positions), size)
    for i in range(len(cameras.positions)):
        eye = camera(cameras, i)
        _require_outside(eye, vertices, cameras, i)
        hits = scene.centres(eye, size, depth="depth" in wanted)
        facing = toward_viewer(normals, eye)
        if views.shaded is not None:
            grey = greys(np.abs(facing), BACKGROUNDS[background])
            image = grey[hits.face]  # the background's -1 takes the last entry
            if supersample == 2:
                edges = edge_pixels(image)
                fine = grey[scene.quarters(eye, size, edges)]
                image.reshape(-1)[edges] = (image.reshape(-1)[edges] + fine.sum(1)) / np.float32(5)
            views.shaded[i] = np.rint(image * 255)
        _fill(views, i, hits.face, hits.depth, normals, facing)
    return views


def render_point_views(
    points: Float[np.ndarray, "N 3"],
    cameras: Cameras,
    *,
    normals: Float[np.ndarray, "N 3"] | None = None,
    radius: float | None = None,
    size: int = 224,
    up_axis: str = "z",
    background: str = "white",
    supersample: int = 2,
    what: Collection[str] = ("shaded",),
) -> Views:
    """Pictures of a point cloud from every camera of a set: a disc for each point that faces the
    camera, nearer ones in front.

    With normals a disc is shaded as the surface it was drawn from; without, by its depth: 0.91
    where the unit sphere is nearest to the camera, falling to 0.21 where it is farthest. Arguments
    as in `render_views`, and

        normals: unit, of either sign. radius: of the discs, the normalised object being of size 1;
        None: the median distance of a point to its fourth neighbour, within 0.004 and 0.08, which
        closes a surface that was sampled at random but for a fiftieth of it. supersample: drawn at
        that times the size.

    Raises: DataError: no points, one that is not finite, no extent, normals of another shape or
        asked for and not given; a camera stands inside the object. ConfigError: a setting that does
        not exist.
    """
    wanted = check_settings(size, background, supersample, what)
    points = _checked_points(points, normals)
    if normals is None and "normals" in wanted:
        raise DataError("pictures of normals are asked for, and the points have none")
    points = z_up(_normalised(points, None, cameras.fit), up_axis)
    unit = None if normals is None else _unit(z_up(np.asarray(normals, np.float64), up_axis))
    reach = _closing_radius(points) if radius is None else radius
    views = empty_views(wanted, len(cameras.positions), size)
    for i in range(len(cameras.positions)):
        eye = camera(cameras, i)
        _require_outside(eye, points, cameras, i)
        seen = (
            _nearest_point(eye, points, reach, size)
            if wanted != {"shaded"} or supersample == 1
            else None
        )
        facing = None if unit is None else toward_viewer(unit, eye)
        if views.shaded is not None:
            lit = (
                np.abs(facing)
                if facing is not None
                else np.clip((1 + toward_viewer(points, eye)) / 2, 0, 1)
            )
            grey = greys(lit, BACKGROUNDS[background])
            fine = (
                seen if supersample == 1 else _nearest_point(eye, points, reach, size * supersample)
            )
            image = grey[fine].reshape(size, supersample, size, supersample).mean((1, 3))
            views.shaded[i] = np.rint(image * 255)
        if seen is not None:
            depth = np.append(project(eye, points, size)[:, 2], np.inf).astype(np.float32)[seen]
            _fill(views, i, seen, depth, unit, facing)
    return views


def montage(images: UInt8[np.ndarray, "N V S S"], *, gap: int = 2) -> UInt8[np.ndarray, "H W"]:
    """One grey sheet: a row for each object, a column for each view, `gap` pixels of mid-grey
    between them.
    """
    count, views, size, _ = images.shape
    sheet = np.full((count * (size + gap) - gap, views * (size + gap) - gap), 128, np.uint8)
    for row in range(count):
        for column in range(views):
            at = row * (size + gap), column * (size + gap)
            sheet[at[0] : at[0] + size, at[1] : at[1] + size] = images[row, column]
    return sheet


def check_settings(size: int, background: str, supersample: int, what: Collection[str]) -> set[str]:
    """What is asked for; raises ConfigError for a setting that does not exist."""
    if not 8 <= size <= 4096:
        raise ConfigError(f"size={size}: the side of a view is 8 to 4096 pixels")
    if background not in BACKGROUNDS:
        raise ConfigError(f"background '{background}': it is 'white' or 'black'")
    if supersample not in (1, 2):
        raise ConfigError(f"supersample={supersample}: it is 1 or 2")
    unknown = sorted(set(what) - set(WHAT))
    if unknown or not what:
        raise ConfigError(
            f"views of {unknown[0] if unknown else 'nothing'}; there are {', '.join(WHAT)}"
        )
    return set(what)


def _checked(mesh: Mesh) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    vertices = np.asarray(mesh.vertices, np.float64).reshape(-1, 3)
    faces = np.asarray(mesh.faces, np.int32).reshape(-1, 3)
    check_faces(faces, len(vertices), "views")
    broken = int((~np.isfinite(vertices)).any(1).sum())
    if broken:
        raise MeshError(f"views of a mesh: {broken} of {len(vertices)} vertices are not finite")
    return vertices, faces


def _checked_points(points: np.ndarray, normals: np.ndarray | None) -> Float[np.ndarray, "N 3"]:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise DataError(
            f"views of points of shape {points.shape}: it must be (N, 3) with N at least 1"
        )
    if not np.isfinite(points).all():
        raise DataError("views of points that are not all finite")
    if normals is not None and np.shape(normals) != points.shape:
        raise DataError(
            f"views of points {points.shape} with normals {np.shape(normals)}: the shapes must be "
            "equal"
        )
    return points


def _normalised(
    points: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"] | None, fit: str
) -> Float[np.ndarray, "N 3"]:
    """Centred and scaled by what the faces use of the points; float64, so that a far origin costs
    no precision.
    """
    used = points
    if faces is not None:
        is_used = np.zeros(len(points), bool)
        is_used[faces] = True
        used = points[is_used]
    if fit == "box":
        low, high = used.min(0), used.max(0)
        centre, scale = low + (high - low) / 2, float((high - low).max())
    else:
        centre, scale = bounding_sphere(used)
    if not scale > 1e-12 * np.abs(used).max():
        error = DataError if faces is None else MeshError
        raise error(
            f"views of an object whose {len(used)} vertices lie in one place: it has no size"
        )
    # Vertices that no face uses may lie anywhere; they must not stretch what is rendered.
    return (
        np.where(is_used[:, None], points - centre, 0.0) / scale
        if faces is not None
        else (points - centre) / scale
    )


def _face_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "F 3"]:
    corners = vertices[faces]
    return _unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))


def _unit(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    length = np.sqrt((vectors * vectors).sum(1, keepdims=True))
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def toward_viewer(vectors: Float[np.ndarray, "N 3"], eye: Camera) -> Float[np.ndarray, " N"]:
    """Component towards the viewer. A sum written out: a matrix product may round differently from
    process to process.
    """
    x, y, z = eye.axes[2]
    return vectors[:, 0] * x + vectors[:, 1] * y + vectors[:, 2] * z


def greys(lit: Float[np.ndarray, " F"], background: float) -> Float[np.ndarray, " G"]:
    """Grey in 0 to 1 for each face, and the background's as the last."""
    return np.append(_GREY * (_AMBIENT + lit), background).astype(np.float32)


def edge_pixels(image: Float[np.ndarray, "S S"]) -> Int[np.ndarray, " E"]:
    """Pixels that differ from one of their four neighbours, as row * size + column."""
    marked = np.zeros(image.shape, bool)
    across = np.abs(image[:, 1:] - image[:, :-1]) > _EDGE
    down = np.abs(image[1:] - image[:-1]) > _EDGE
    marked[:, 1:] |= across
    marked[:, :-1] |= across
    marked[1:] |= down
    marked[:-1] |= down
    return np.flatnonzero(marked)


def _require_outside(
    eye: Camera, points: Float[np.ndarray, "N 3"], cameras: Cameras, index: int
) -> None:
    if project(eye, points, 1)[:, 2].min() < 1e-3:
        raise DataError(
            f"camera {index} of '{cameras.name}' stands inside or beside the object; move it "
            "farther away"
        )


def _closing_radius(points: Float[np.ndarray, "N 3"]) -> float:
    """Of N random points on a surface, a disc as large as it takes to hold four others leaves
    exp(-4) of it open.
    """
    neighbours = min(4, len(points) - 1)
    some = points[:: -(-len(points) // 2048)]
    return float(
        np.clip(np.median(cKDTree(points).query(some, neighbours + 1)[0][:, -1]), 0.004, 0.08)
    )


def _nearest_point(
    eye: Camera, points: Float[np.ndarray, "N 3"], radius: float, size: int
) -> Int[np.ndarray, "S S"]:
    """For each pixel the nearest point whose disc covers it, -1: none.

    Discs lie across the view. That all points of about one depth can share a stencil, a disc is
    centred in the pixel that its point falls into, and its radius is rounded down to a quarter of a
    pixel; its own pixel it always covers.
    """
    screen = project(eye, points, size)
    order = np.argsort(-screen[:, 2], kind="stable")
    reach = radius * size / (2 * eye.half * (screen[order, 2] if eye.fov else np.ones(len(order))))
    border = int(reach.max()) + 1
    at = np.floor(screen[order, :2]).astype(np.int64)
    near = np.flatnonzero(((at >= -border) & (at < size + border)).all(1))
    side = size + 4 * border  # holds every disc that reaches into the picture whole
    pixel = (at[near, 1] + 2 * border) * side + at[near, 0] + 2 * border
    quarters = np.floor(4 * reach[near]).astype(np.int64)
    starts = [0, *(np.flatnonzero(np.diff(quarters)) + 1), len(near)]
    best = np.full(side * side, -1, np.int64)
    span = np.arange(-border, border + 1)
    distance = span[:, None] ** 2 + span**2
    for first, last in itertools.pairwise(starts):
        if first == last:
            break
        dy, dx = np.nonzero(distance <= (quarters[first] / 4) ** 2)
        stencil = (dy - border) * side + dx - border
        painted = pixel[first:last, None] + stencil
        # From far to near the numbers grow, so the maximum is the nearest.
        np.maximum.at(best, painted.reshape(-1), np.repeat(near[first:last], len(stencil)))
    inner = best.reshape(side, side)[2 * border : -2 * border, 2 * border : -2 * border]
    return np.append(order, -1)[inner].astype(np.int32)


def empty_views(wanted: set[str], views: int, size: int) -> Views:
    """Room for what is asked for."""
    shape = (views, size, size)
    return Views(
        np.empty(shape, np.uint8) if "shaded" in wanted else None,
        np.empty(shape, np.float32) if "depth" in wanted else None,
        np.empty((*shape, 3), np.float32) if "normals" in wanted else None,
        np.empty(shape, np.int32) if "face" in wanted else None,
        np.empty(shape, bool) if "mask" in wanted else None,
    )


def _fill(
    views: Views,
    index: int,
    face: Int[np.ndarray, "S S"],
    depth: Float[np.ndarray, "S S"] | Float[np.ndarray, "0 0"],
    normals: Float[np.ndarray, "F 3"] | None,
    facing: Float[np.ndarray, " F"] | None,
) -> None:
    """The pictures beside the shaded one."""
    if views.depth is not None:
        views.depth[index] = depth
    if views.normals is not None and normals is not None and facing is not None:
        turned = normals * np.where(facing < 0, -1.0, 1.0)[:, None]
        views.normals[index] = np.concatenate([turned, np.zeros((1, 3))])[face]
    if views.face is not None:
        views.face[index] = face
    if views.mask is not None:
        views.mask[index] = face >= 0
