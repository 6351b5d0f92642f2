"""Transforms of point clouds: sampling, frames, augmentation.

Each augmentation is a pure function of arrays and of the values that were drawn, beside a frozen
dataclass that draws them from the generator it is handed: `(record, rng) -> record`, on
record["points"] float32[N, 3] and, where the record has them, record["normals"]. A transform
returns a new record and never writes into the arrays of the old one. Frame: y is up, and a rotation
by a positive angle about an axis is counter-clockwise seen from the tip of that axis.

Source: "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers & Graphics 122
(2024) 103993, section 3.3.3 for `paper_augmentations`, the published configurations of the same
work for `published_augmentations`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import ConfigError, DataError, Record, Transform
from jax3dret.geometry.normalize import normalize_points

Points = Float[np.ndarray, "N 3"]

# ---------------------------------------------------------------------------------------------- functions of drawn values


def rotation_matrix(
    angle_x: float = 0.0, angle_y: float = 0.0, angle_z: float = 0.0
) -> Float[np.ndarray, "3 3"]:
    """Rz Ry Rx, float64: turns a column vector about x first, then about y, then about z. Angles in
    radians.
    """
    (cx, cy, cz), (sx, sy, sz) = (
        np.cos((angle_x, angle_y, angle_z)),
        np.sin((angle_x, angle_y, angle_z)),
    )
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def rotate(vectors: Points, matrix: Float[np.ndarray, "3 3"]) -> Points:
    """Rows turned by the matrix: `vectors @ matrix.T`. The same for points and for normals."""
    return vectors @ np.asarray(matrix, vectors.dtype).T


def flip_axis(
    uniforms: Sequence[float], *, xy: bool = False, yz: bool = False, xz: bool = False
) -> int | None:
    """Which coordinate a flip negates: 2 for the plane xy, 0 for yz, 1 for xz, None for no flip.

    `uniforms` holds one draw of U(0, 1) for every enabled plane, in the order xy, yz, xz. The first
    draw above 0.5 decides and later ones are ignored, so at most one flip happens and the planes
    have probabilities 1/2, 1/4, 1/8.
    """
    enabled = [axis for axis, on in ((2, xy), (0, yz), (1, xz)) if on]
    if len(uniforms) != len(enabled):
        raise ValueError(
            f"flip: {len(uniforms)} draws for {len(enabled)} enabled planes; one each is needed"
        )
    return next(
        (axis for axis, uniform in zip(enabled, uniforms, strict=True) if uniform > 0.5), None
    )


def flip(vectors: Points, axis: int | None) -> Points:
    """Mirrored: the coordinate `axis` negated. The same for points and for normals; None leaves
    them.
    """
    if axis is None:
        return vectors
    signs = np.ones(3, vectors.dtype)
    signs[axis] = -1
    return vectors * signs


def stretch(points: Points, factors: Float[np.ndarray, " 3"]) -> Points:
    """Each axis scaled by its own factor."""
    return points * np.asarray(factors, points.dtype)


def stretch_normals(
    normals: Points, factors: Float[np.ndarray, " 3"], rule: str = "inverse"
) -> Points:
    """Unit normals of a surface stretched by `factors`.

    rule "inverse" divides by the factors and renormalises: the normals of the stretched surface.
    Rule "published" multiplies by them, as the published code does, which tilts normals the wrong
    way. A zero normal stays zero.
    """
    if rule not in ("inverse", "published"):
        raise ConfigError(f"stretch: normals={rule!r} is not a rule; use 'inverse' or 'published'")
    factors = np.asarray(factors, normals.dtype)
    scaled = normals / factors if rule == "inverse" else normals * factors
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(lengths > 0, lengths, 1)


def scale(points: Points, factor: float) -> Points:
    """All coordinates scaled by one factor about the origin; normals do not change."""
    return points * points.dtype.type(factor)


def jitter(points: Points, noise: Points, sigma: float, clip: float) -> Points:
    """Adds clip(sigma * noise, -clip, clip), with `noise` drawn from N(0, 1) per coordinate;
    normals do not change.
    """
    offsets = np.multiply(noise, sigma, dtype=points.dtype)
    np.clip(offsets, -clip, clip, out=offsets)
    offsets += points
    return offsets


def shift(points: Points, offset: Float[np.ndarray, " 3"]) -> Points:
    """One offset added to every point; normals do not change."""
    return points + np.asarray(offset, points.dtype)


# ------------------------------------------------------------------------------------------------------------- transforms


def _named(record: Record) -> str:
    return f"record '{record['id']}'" if "id" in record else "the record"


def _points(record: Record) -> Points:
    points = record.get("points")
    if points is None:
        raise DataError(f"{_named(record)} has no 'points'; it has {', '.join(sorted(record))}")
    if np.ndim(points) != 2 or np.shape(points)[1] != 3 or len(points) == 0:
        raise DataError(
            f"{_named(record)}: points have the shape {np.shape(points)}; (N, 3) with N >= 1 is "
            "needed"
        )
    return points


@dataclasses.dataclass(frozen=True)
class Subsample:
    """`num` of the N points in random order, normals with them.

    Without replacement when N >= num. A cloud of fewer points is drawn from with replacement, so
    points repeat and some may be
    missing: that is how the published code brings the 2048 points of ScanObjectNN to 8192. (It also
    draws with replacement at N == num, which loses 37 % of the points; not done here.)
    """

    num: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        points = _points(record)
        rows = rng.choice(len(points), self.num, replace=len(points) < self.num)
        record = {**record, "points": np.take(points, rows, axis=0)}
        if "normals" in record:
            record["normals"] = np.take(record["normals"], rows, axis=0)
        return record


@dataclasses.dataclass(frozen=True)
class UpAxis:
    """Turns a record whose `axis` is up into the frame with y up; "y" leaves it, "z" maps (x, y, z)
    to (x, z, -y).

    A quarter turn about x, hence a rotation and not a mirror. It holds for all that is given in the
    object's frame: points, normals, vertices and centroid.
    """

    axis: str

    def __post_init__(self) -> None:
        if self.axis not in ("y", "z"):
            raise ConfigError(f"up axis {self.axis!r} is not known; use 'y' or 'z'")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        del rng
        if self.axis == "y":
            return record
        turned: Record = {}
        for key in ("points", "normals", "vertices", "centroid"):
            if key in record:
                turned[key] = np.take(record[key], (0, 2, 1), axis=-1)
                turned[key][..., 2] *= -1
        return {**record, **turned}


@dataclasses.dataclass(frozen=True)
class Rotate:
    """A turn by an angle of U(0, 2 pi) about each enabled axis, drawn in the order x, y, z; R = Rz
    Ry Rx.

    About all three axes this is not uniform over rotations (poles are favoured); it is what the
    published code does.
    """

    x: bool = False
    y: bool = False
    z: bool = False

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        matrix = rotation_matrix(
            *(rng.uniform(0, 2 * np.pi) if on else 0.0 for on in (self.x, self.y, self.z))
        )
        return _on_vectors(record, lambda vectors: rotate(vectors, matrix))


@dataclasses.dataclass(frozen=True)
class Flip:
    """At most one mirroring: in the plane xy (negates z), else yz (negates x), else xz (negates y),
    each with chance 1/2.
    """

    xy: bool = False
    yz: bool = False
    xz: bool = False

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        planes = {"xy": self.xy, "yz": self.yz, "xz": self.xz}
        axis = flip_axis([rng.uniform() for on in planes.values() if on], **planes)
        return _on_vectors(record, lambda vectors: flip(vectors, axis))


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Anisotropic scaling: an independent factor of U(min, max) for each axis. `normals`: see
    `stretch_normals`.
    """

    min: float
    max: float
    normals: str = "inverse"

    def __post_init__(self) -> None:
        _check_factors("Stretch", self.min, self.max)
        if self.normals not in ("inverse", "published"):
            raise ConfigError(f"Stretch(normals={self.normals!r}): use 'inverse' or 'published'")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        factors = rng.uniform(self.min, self.max, 3)
        record = {**record, "points": stretch(_points(record), factors)}
        if "normals" in record:
            record["normals"] = stretch_normals(record["normals"], factors, self.normals)
        return record


@dataclasses.dataclass(frozen=True)
class Scale:
    """Isotropic scaling by one factor of U(min, max)."""

    min: float
    max: float

    def __post_init__(self) -> None:
        _check_factors("Scale", self.min, self.max)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        return {**record, "points": scale(_points(record), rng.uniform(self.min, self.max))}


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Each coordinate moved by sigma * N(0, 1), clipped to +-clip, in units of the cloud."""

    sigma: float
    clip: float

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        points = _points(record)
        noise = rng.standard_normal(points.shape, dtype=np.float32)
        return {**record, "points": jitter(points, noise, self.sigma, self.clip)}


@dataclasses.dataclass(frozen=True)
class Shift:
    """The whole cloud moved by one vector of U(-max, max)^3."""

    max: float

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        return {**record, "points": shift(_points(record), rng.uniform(-self.max, self.max, 3))}


@dataclasses.dataclass(frozen=True)
class Normalize:
    """Mean to the origin, largest radius to 1 (`geometry.normalize.normalize_points`); the record's
    own "centroid" and "scale" are left alone.
    """

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        del rng
        try:
            points, _, _ = normalize_points(_points(record))
        except DataError as error:
            raise DataError(f"{_named(record)}: {error}") from None
        return {**record, "points": points}


@dataclasses.dataclass(frozen=True)
class TwoViews:
    """Two independent passes of the same transforms over one record: "view_a" and "view_b",
    float32[n, 3] (section 3.3.3).
    """

    transforms: tuple[Transform, ...]

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        views = {}
        for name in ("view_a", "view_b"):
            view = record
            for transform in self.transforms:
                view = transform(view, rng)
            views[name] = view["points"]
        return {**record, **views}


@dataclasses.dataclass(frozen=True)
class Keep:
    """The named entries of the record and no others."""

    keys: tuple[str, ...]

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        del rng
        missing = [key for key in self.keys if key not in record]
        if missing:
            raise DataError(
                f"{_named(record)} has no '{missing[0]}' to keep; it has "
                f"{', '.join(sorted(record))}"
            )
        return {key: record[key] for key in self.keys}


def _check_factors(name: str, low: float, high: float) -> None:
    if not 0 < low <= high:
        raise ConfigError(f"{name}({low}, {high}): factors need 0 < min <= max")


def _on_vectors(record: Record, change) -> Record:
    record = {**record, "points": change(_points(record))}
    if "normals" in record:
        record["normals"] = change(record["normals"])
    return record


# ---------------------------------------------------------------------------------------------------------------- presets


def paper_augmentations(rotate: str = "y") -> tuple[Transform, ...]:
    """The augmentations that the paper lists for VICReg (section 3.3.3), in its order, after the
    subsampling.

    rotate: the axes, "xyz" for unaligned objects, "y" for objects that share the gravity axis
    alone, "" for aligned ones; the paper says "all axes or one axis, depending on the alignment in
    the dataset" and trains ModelNet40, ShapeNet Normal and Objaverse Easy without, MCB and ShapeNet
    Perturbed with a rotation, ScanObjectNN about y.
    """
    if not set(rotate) <= set("xyz"):
        raise ConfigError(f"rotate={rotate!r}: name the axes, as in 'xyz', 'y' or ''")
    turn = (Rotate(**dict.fromkeys(rotate, True)),) if rotate else ()
    return (*turn, Stretch(0.7, 1.25), Scale(0.7, 1.25), Jitter(0.005, 0.05), Shift(0.07))


# The released classification configurations. They differ from the paper's text: no isotropic
# scaling, flips for two data sets, no rotation for MCB.
_PUBLISHED: dict[str, tuple[Transform, ...]] = {
    "modelnet40": (Stretch(0.7, 1.25), Jitter(0.005, 0.05), Shift(0.07)),
    "shapenet_normal": (Stretch(0.7, 1.25), Jitter(0.005, 0.05), Shift(0.07)),
    "shapenet_perturbed": (
        Rotate(x=True, y=True, z=True),
        Stretch(0.8, 1.1),
        Jitter(0.01, 0.05),
        Shift(0.05),
    ),
    "mcb": (Stretch(0.8, 1.1), Jitter(0.001, 0.01), Shift(0.05)),
    "objaverse_easy": (Flip(yz=True, xz=True), Stretch(0.8, 1.1), Jitter(0.01, 0.05), Shift(0.05)),
    "scanobjectnn": (
        Rotate(y=True),
        Flip(xy=True, yz=True),
        Stretch(0.8, 1.1),
        Jitter(0.001, 0.01),
        Shift(0.05),
    ),
}


def published_augmentations(dataset: str) -> tuple[Transform, ...]:
    """The augmentations of the released configuration of a data set, in their fixed order: rotate,
    flip, stretch, jitter, shift.

    dataset: modelnet40, shapenet_normal, shapenet_perturbed, mcb, objaverse_easy or scanobjectnn;
    ConfigError for another.
    """
    if dataset not in _PUBLISHED:
        raise ConfigError(
            f"no published augmentations for '{dataset}'; there are: {', '.join(_PUBLISHED)}"
        )
    return _PUBLISHED[dataset]


def part_augmentations() -> tuple[Transform, ...]:
    """For few parts in many classes: a mirror, the paper's stretch, and the little noise of the
    released configuration for MCB.

    A part and its left-handed twin are of one class: x or z is mirrored, never the axis y that is
    up. Neither the paper nor its code has the mirror.
    """
    return (Flip(xy=True, yz=True), Stretch(0.7, 1.25), Jitter(0.001, 0.01), Shift(0.05))


def pointnext_augmentations() -> tuple[Transform, ...]:
    """Those of PointNeXt's configuration for ModelNet40: each axis scaled by 2/3 to 3/2, then moved
    by up to 0.2. A turn does not help, it says.
    """
    return (Stretch(2 / 3, 3 / 2), Shift(0.2))


def no_augmentations() -> tuple[Transform, ...]:
    """Clouds as they are."""
    return ()
