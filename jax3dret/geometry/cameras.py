"""Where the pictures of an object are taken from: the camera sets of the view-based papers, and one
camera's projection.

Frame of all cameras: right-handed, x right, y back, z up; azimuth counter-clockwise from +x as seen
from above, elevation from the horizontal plane, in degrees. Every camera looks at the origin, where
the object stands, and the upper edge of its picture is towards +z. An object whose own up axis is y
is turned first (`z_up`), so that a picture does not depend on how a file names its axes.

How large the object is belongs to the set (`fit`): with "sphere" its smallest bounding sphere is
the unit sphere, with "box" its bounding box is centred and the longest side of it is 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import ConfigError, DataError

# A 35 mm lens before a 32 mm sensor, in degrees (49.13).
FOV = float(np.degrees(2 * np.arctan(16 / 35)))
MARGIN = 1.05  # how much larger than the unit sphere the frame is
_GOLDEN = (1 + np.sqrt(5)) / 2


class Cameras(NamedTuple):
    """V cameras that look at the origin, in a fixed order.

    fov: vertical field of view in degrees; 0 means parallel projection, and then `height` is the
    height of the frame in the object's unit. Frames are square.
    """

    name: str
    positions: Float[np.ndarray, "V 3"]  # float64
    fov: float = FOV
    height: float = 0.0
    fit: Literal["sphere", "box"] = "sphere"


class Camera(NamedTuple):
    """One camera of a set. axes: its right, up and towards-viewer directions as rows."""

    position: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    fov: float
    height: float

    @property
    def half(self) -> float:
        """Half the height of the frame: at depth 1 in perspective, at any depth in parallel
        projection.
        """
        return float(np.tan(np.deg2rad(self.fov) / 2)) if self.fov else self.height / 2


class Hits(NamedTuple):
    """What lies behind the centre of each pixel. face: int32[S, S], -1 where there is nothing.
    depth: float32[S, S], the distance from the camera along its optical axis, inf where there is
    nothing.
    """

    face: np.ndarray
    depth: np.ndarray


def ring(num: int = 12, elevation: float = 30.0) -> Cameras:
    """`num` cameras at one elevation, azimuths 0, 360/num, ...: the 12-view set of MVCNN; for num <
    12, every (12/num)-th of it.

    Perspective of 49.13 degrees, at the distance where the unit sphere fills 1/1.05 of the frame.
    """
    _require(
        num >= 1 and -90 <= elevation <= 90,
        f"ring of {num} views at elevation {elevation}: at least 1, -90 to 90",
    )
    name = f"ring{num}" if elevation == 30.0 else f"ring{num}@{elevation:g}"
    return Cameras(
        name, _distance() * directions(np.arange(num) * 360.0 / num, np.full(num, float(elevation)))
    )


def dodecahedron() -> Cameras:
    """20 cameras at the vertices of a regular dodecahedron, in View-GCN's order, otherwise as
    `ring`.
    """
    return Cameras(
        "dodecahedron20", _distance() * viewgcn_vertices(20).astype(np.float64) / np.sqrt(3.0)
    )


def viewgcn(num: int = 20) -> Cameras:
    """The views of View-GCN (Wei et al., CVPR 2020) in its order: 20, as `dodecahedron`; 12, a ring
    walked clockwise.

    Raises:
        ConfigError: another number of views.
    """
    vertices = viewgcn_vertices(num).astype(np.float64)
    return Cameras(
        f"viewgcn{num}", _distance() * vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    )


def viewgcn_vertices(num: int) -> Float[np.ndarray, "V 3"]:
    """The graph coordinates that View-GCN gives its views, float32 and not of unit length: 12 on a
    circle of radius 1 at height sqrt(3)/3, azimuth 0, -30, -60, ...; 20 vertices of a dodecahedron
    on a sphere of radius sqrt(3).

    Raises:
        ConfigError: another number of views.
    """
    if num == 12:
        angles = np.deg2rad(-30.0 * np.arange(12))
        return np.stack([np.cos(angles), np.sin(angles), np.full(12, np.sqrt(3) / 3)], 1).astype(
            np.float32
        )
    _require(num == 20, f"View-GCN places 12 or 20 views, not {num}")
    sign = (1.0, -1.0)
    cube = [(x, y, z) for x in sign for y in sign for z in sign]
    long, short = _GOLDEN, 1 / _GOLDEN
    across = [(0.0, a * short, b * long) for a in sign for b in sign]
    along = [(a * long, 0.0, b * short) for a in sign for b in sign]
    upright = [
        (b * short, a * long, 0.0) for a in sign for b in sign
    ]  # here the first coordinate changes fastest
    return np.array([*cube, *across, *along, *upright], np.float32)


def inret(num: int = 12) -> Cameras:
    """INRet's views of a field, in View-GCN's order: a ring 3 away from the axis and 0.65 above the
    centre (section 7.4), walked clockwise.

    The field of view is not published. It is that in which the unit sphere fills 1/1.05 of the
    frame, 40 degrees; the 30 degrees of Kaolin Wisp would cut off what reaches out beyond 0.79.
    """
    _require(num >= 1, f"INRet's set of {num} views: at least 1")
    around = directions(np.arange(num) * -360.0 / num, np.zeros(num))
    positions = np.array([0.0, 0.0, 0.65])[None] + 3.0 * around
    distance = float(np.linalg.norm(positions[0]))
    return Cameras(f"inret{num}", positions, float(np.degrees(2 * np.arcsin(MARGIN / distance))))


def circular(num: int = 12, elevation: float = 30.0) -> Cameras:
    """MVTN's "circular" views (Hamdi et al., ICCV 2021): a ring at distance 2.2 with a field of
    view of 60 degrees.
    """
    name = f"circular{num}" if elevation == 30.0 else f"circular{num}@{elevation:g}"
    return _mvtn(name, *circular_angles(num, elevation))


def circular_angles(
    num: int, elevation: float = 30.0
) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """MVTN's azimuths -270, -270 + 360/num, ... and elevations, degrees, in its own frame: y up,
    azimuth from +z to +x.
    """
    _require(num >= 1, f"circular set of {num} views: at least 1")
    return np.arange(num) * 360.0 / num - 270.0, np.full(num, float(elevation))


def spherical(num: int = 12) -> Cameras:
    """MVTN's "spherical" views: rings of cells of about equal area over the whole sphere; otherwise
    as `circular`.
    """
    return _mvtn(f"spherical{num}", *spherical_angles(num))


def spherical_angles(num: int) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """MVTN's azimuths and elevations of `num` views in equal-area rings, lowest ring first,
    degrees, in its own frame.

    The sphere is cut into rings of about the height of a square cell of area 4 pi / num, a ring
    into as many cells as fit.

    Raises: ConfigError: for this number the cells do not come out (too few of them): the set would
        be short.
    """
    _require(num >= 1, f"spherical set of {num} views: at least 1")
    cell = 4 * np.pi / num
    rings = round(np.pi / np.sqrt(cell))
    heights = np.pi * (np.arange(rings) + 0.5) / rings  # angle from the pole
    counts = [round(2 * np.pi * np.sin(at) * (np.pi / rings) / cell) for at in heights]
    azimuth = np.concatenate([np.arange(count) * 360.0 / max(count, 1) for count in counts])
    elevation = np.repeat(np.degrees(heights) - 90.0, counts)
    _require(
        len(azimuth) >= num,
        f"MVTN's spherical set has no {num} views (its rings hold {len(azimuth)}); take 12 or 20",
    )
    return azimuth[:num], elevation[:num]


def objaverse(num: int = 4) -> Cameras:
    """Objaverse's renders: azimuth 0, 360/num, ... at elevation 30, distance 1.5 from an object
    whose longest side is 1.
    """
    _require(num >= 1, f"objaverse set of {num} views: at least 1")
    around = directions(np.arange(num) * 360.0 / num, np.full(num, 30.0))
    return Cameras(f"objaverse{num}", 1.5 * around, fit="box")


def parallel(cameras: Cameras) -> Cameras:
    """The same places with parallel projection, in a frame that holds the unit sphere (or, for
    "box", the unit cube).
    """
    reach = np.sqrt(3) if cameras.fit == "box" else 2.0
    return cameras._replace(name=f"{cameras.name}-parallel", fov=0.0, height=MARGIN * reach)


def by_name(name: str) -> Cameras:
    """The set that a name stands for: ring12, dodecahedron20, viewgcn12, viewgcn20, inret12,
    circular12, spherical12, objaverse4 (any number for ring, inret, circular, spherical and
    objaverse), ring12@45 (elevation), and each with "-parallel".

    Raises:
        ConfigError: no such set.
    """
    match = re.fullmatch(r"([a-z]+)(\d+)(?:@(-?\d+(?:\.\d+)?))?(-parallel)?", name)
    makers: dict[str, Callable[..., Cameras]] = {
        "ring": ring,
        "circular": circular,
        "viewgcn": viewgcn,
        "inret": inret,
        "spherical": spherical,
        "objaverse": objaverse,
        "dodecahedron": lambda num: dodecahedron(),
    }
    kind = match[1] if match else ""
    known = kind in makers and (match[3] is None or kind in ("ring", "circular"))  # type: ignore[index]
    if match is None or not known or (kind == "dodecahedron" and match[2] != "20"):
        raise ConfigError(
            f"no camera set '{name}'; there are ring12, dodecahedron20, viewgcn12, viewgcn20, "
            "inret12, circular12, spherical12, objaverse4"
        )
    elevation = {} if match[3] is None else {"elevation": float(match[3])}
    cameras = makers[kind](int(match[2]), **elevation)
    return parallel(cameras) if match[4] else cameras


def directions(
    azimuth: Float[np.ndarray, " V"], elevation: Float[np.ndarray, " V"]
) -> Float[np.ndarray, "V 3"]:
    """Unit vectors of azimuths and elevations in degrees."""
    az, el = np.deg2rad(azimuth), np.deg2rad(elevation)
    return np.stack([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)], 1)


def z_up(points: Float[np.ndarray, "N 3"], up_axis: str) -> Float[np.ndarray, "N 3"]:
    """Points, or directions, turned so that `up_axis`, "y" or "z", points along +z: (x, y, z) ->
    (x, -z, y) for y up.

    Raises:
        ConfigError: another axis.
    """
    _require(up_axis in ("y", "z"), f"up axis '{up_axis}': it is 'y' or 'z'")
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], 1) if up_axis == "y" else points


def camera(cameras: Cameras, index: int) -> Camera:
    """The camera `index` of a set. Looking straight down or up, its right side is +y: the limit of
    azimuth 0.

    Raises:
        DataError: its position is the origin, or not finite.
    """
    position = np.asarray(cameras.positions[index], np.float64)
    distance = np.linalg.norm(position)
    if not 0 < distance < np.inf:
        raise DataError(
            f"camera {index} of '{cameras.name}' stands at {position.tolist()}; it needs a "
            "distance from the origin"
        )
    toward = position / distance
    level = np.hypot(toward[0], toward[1])
    right = (
        np.array([-toward[1], toward[0], 0.0]) / level
        if level > 1e-9
        else np.array([0.0, 1.0, 0.0])
    )
    return Camera(
        position, np.stack([right, np.cross(toward, right), toward]), cameras.fov, cameras.height
    )


def project(
    camera: Camera, points: Float[np.ndarray, "N 3"], size: int
) -> Float[np.ndarray, "N 3"]:
    """Column and row, in pixels from the upper left corner of the picture, and depth along the
    optical axis.

    The centre of pixel (row, column) is at (column + 0.5, row + 0.5). Depths are positive before
    the camera.
    """
    # Sums written out: a matrix product may round differently with another number of threads.
    x, y, z = (
        points[:, 0] * axis[0] + points[:, 1] * axis[1] + points[:, 2] * axis[2]
        for axis in camera.axes
    )
    depth = float(camera.position @ camera.axes[2]) - z
    scale = size / (2 * camera.half * (depth if camera.fov else 1.0))
    return np.stack([size / 2 + x * scale, size / 2 - y * scale, depth], 1)


def rays(
    camera: Camera, column: Float[np.ndarray, "..."], row: Float[np.ndarray, "..."], size: int
) -> tuple[Float[np.ndarray, "... 3"], Float[np.ndarray, "... 3"]]:
    """Origins and directions of the rays through places of the picture, float64; a direction
    reaches one unit of depth.

    Columns and rows, in pixels as `project` gives them, are broadcast against each other.
    """
    right, up, toward = camera.axes
    x = (column[..., None] * (2 / size) - 1) * (camera.half * right)
    y = (1 - row[..., None] * (2 / size)) * (camera.half * up)
    if camera.fov:
        directions = x + (y - toward)
        return np.broadcast_to(camera.position, directions.shape), directions
    origins = x + (y + camera.position)
    return origins, np.broadcast_to(-toward, origins.shape)


def _distance() -> float:
    return MARGIN / float(np.sin(np.deg2rad(FOV) / 2))


def _mvtn(
    name: str, azimuth: Float[np.ndarray, " V"], elevation: Float[np.ndarray, " V"]
) -> Cameras:
    """Its azimuth 0 is its +z, which is our -y: a quarter turn before +x."""
    return Cameras(name, 2.2 * directions(azimuth - 90.0, elevation), fov=60.0)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
