"""The true values of a shape's implicit functions: signed distance, distance and occupancy of a
mesh, whatever state it is in.

Distances are exact (to the nearest triangle, libigl's bounding boxes). What is inside is a question
of a rule, since found meshes are seldom closed; `MeshDistance.rule` says which rule answered:

    closed      every edge is used as often in one direction as in the other, so the winding number
                is whole: inside where it is not 0.
    oriented    the same after the faces of each connected part were turned to agree, and if need be
                faces in one place made one.
    winding     |generalized winding number| > 0.5 (Jacobson et al. 2013; its fast form, Barill et
                al. 2018): holes are closed over as by a soap film.
    watertight  inside of a closed surface around the triangles (`geometry.watertight`), and farther
                from it than it stands off them, so that a sheet has no inside.
    lines       13 lines through a point (3 axes, 6 diagonals of faces, 4 of the cube) each meet the
                mesh on both sides: Kaolin Wisp's rule, which also closes over cavities.

The absolute value lets a mesh whose normals point inwards have the same inside.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Literal

import igl
import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry import watertight
from jax3dret.geometry.mesh import Mesh, MeshError, check_faces
from jax3dret.geometry.orientation import agreeing_faces, is_closed, single_faces
from jax3dret.geometry.sampling import sample_surface

Sign = Literal["auto", "winding", "watertight", "lines"]
SIGNS: tuple[Sign, ...] = ("auto", "winding", "watertight", "lines")
Rule = Literal["closed", "oriented", "winding", "watertight", "lines"]

# Counts up whenever the same mesh gives other values.
VERSION = 1
_AT_ONCE = 1 << 16  # points
_CELLS = 32  # an axis, by which they are sorted
# Doubled area over the square of the longest edge, at and below which a triangle has no area.
_FLAT = 1e-12
# Points on either side of the surface that tell whether it parts inside from outside, and how far
# from it they stand (of half the largest side of the mesh): a thin shape needs a small step, and
# at a small one a coarse shape is seen through the slivers of its neighbours.
_PROBES = 2048
_STEPS = (1e-2, 1e-3, 1e-4)
# The winding number of a point before a flat sheet comes near 0.5, and the fast one errs.
_DOUBT = 0.05
# Accuracies of the fast winding number, as libigl counts them: within 0.003, and within 0.3 for a
# third of the time.
_FINE, _COARSE = 2.0, 1.0
# Share of the surface that has to part inside from outside: less is no volume. A remesh has some
# volume along the edges where sheets meet.
_NO_VOLUME = 0.02
_NO_VOLUME_AROUND = 0.1
# And as much lets a closed mesh be what it seems: where every face is there twice, back to back,
# it is closed and encloses nothing, and one face of each pair may enclose something.
_HALF = 0.5


class MeshDistance:
    """Signed distance (negative inside), distance and occupancy (-1 inside, +1 outside) of a mesh.

    mesh: in the domain of fields, see `geometry.unit_sphere`; of either winding, open or closed.
    sign: "auto" and "winding" are one: "closed" or "oriented" where the mesh is, else "winding";
    whether an optional package is installed changes nothing. "watertight" and "lines" are asked
    for. `separating` says how far to trust the rule: where it is well below 1, much of the surface
    is sheets, or turns at random. The sign is worked out when it is first needed: distances alone
    never need one.

    flat: triangles without area, which are left out: beside other triangles they say nothing of the
    surface. A copy of the mesh and its trees is held, some 400 bytes a triangle; points are taken
    _AT_ONCE at a time.

    Raises:
        MeshError: no face with an area, a face that names a missing vertex, a vertex that is not
            finite.
        ConfigError: no such sign, or a package for it that is not installed.
        DataError: from everything that has a sign: the mesh encloses no volume by that rule.
    """

    def __init__(self, mesh: Mesh, sign: Sign = "auto"):
        if sign not in SIGNS:
            raise ConfigError(f"sign '{sign}': it is {', '.join(map(repr, SIGNS))}")
        vertices = np.asarray(mesh.vertices, np.float64).reshape(-1, 3)
        faces = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
        check_faces(faces, len(vertices), "distances")
        used = np.unique(faces)
        broken = int((~np.isfinite(vertices[used])).any(1).sum())
        if broken:
            raise MeshError(f"distances of a mesh: {broken} of {len(used)} vertices are not finite")
        whole = ~_flat(vertices, faces)
        if not whole.any():
            raise MeshError(f"distances of a mesh: none of its {len(faces)} triangles has an area")
        self.flat = int((~whole).sum())
        self._asked = sign
        self._all = faces  # flat ones may close a mesh
        self._surface = _Surface(vertices, faces[whole])

    @property
    def mesh(self) -> Mesh:
        """The mesh without the triangles that have no area."""
        return self._surface.mesh

    @property
    def rule(self) -> Rule:
        """What gave the sign."""
        return self._inside[0]

    @property
    def separating(self) -> float:
        """The share of the surface that parts inside from outside by the rule."""
        return self._inside[1]

    @property
    def boundary(self) -> Mesh:
        """The mesh that signed distances are to: `mesh` without the triangles that lie within the
        solid."""
        return self._boundary.mesh

    @property
    def hidden(self) -> int:
        """Triangles of the mesh that lie within the solid, and are no part of `boundary`."""
        return int(self._hidden.sum())

    def describe(self) -> str:
        """One line for a person: the rule, what it rests on, and what was left out."""
        said = f"sign by rule '{self.rule}', {self.separating:.0%} of the surface parts in from out"
        if self.hidden:
            said += f"; {self.hidden} triangles within the solid left out of signed distances"
        if self.flat:
            said += f"; {self.flat} triangles without area left out"
        return said

    def udf(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, " P"]:
        """Distance to the nearest triangle, float32."""
        return self._surface.distances(_checked(points)).astype(np.float32)

    def sdf(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, " P"]:
        """Distance to the nearest triangle of `boundary`, negative inside, float32.

        Of a triangle that reaches into a solid the hidden part counts too.
        """
        points = _checked(points)
        sign = np.where(self._is_inside(points), -1, 1)
        return (self._boundary.distances(points) * sign).astype(np.float32)

    def occ(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, " P"]:
        """-1 inside, +1 outside, float32: the sign of the signed distance."""
        return np.where(self._is_inside(_checked(points)), -1, 1).astype(np.float32)

    def all(
        self, points: Float[np.ndarray, "P 3"]
    ) -> dict[Literal["sdf", "udf", "occ"], Float[np.ndarray, " P"]]:
        """All three by name, for little more than the signed distance takes."""
        points = _checked(points)
        inside = self._is_inside(points)
        sign = np.where(inside, -1, 1).astype(np.float32)
        unsigned = self.udf(points)
        same = self._boundary is self._surface
        signed = unsigned if same else self._boundary.distances(points).astype(np.float32)
        return {"sdf": sign * signed, "udf": unsigned, "occ": sign}

    def values(
        self, points: Float[np.ndarray, "P 3"], function: Literal["sdf", "udf", "occ"]
    ) -> Float[np.ndarray, " P"]:
        """`sdf`, `udf` or `occ` by name."""
        if function not in ("sdf", "udf", "occ"):
            raise ConfigError(f"function '{function}': it is 'sdf', 'udf' or 'occ'")
        return getattr(self, function)(points)

    def _is_inside(self, points: Float[np.ndarray, "P 3"]) -> Bool[np.ndarray, " P"]:
        rule, _, solid = self._inside
        return solid.enclosed(points, rule)

    @functools.cached_property
    def _hidden(self) -> Bool[np.ndarray, " F"]:
        """The triangles of the solid that lie within it."""
        rule, share, solid = self._inside
        if share == 1:
            return np.zeros(len(solid.faces), bool)
        return solid.hidden(rule)

    @functools.cached_property
    def _boundary(self) -> _Surface:
        if self._hidden.any():
            solid = self._inside[2]
            return _Surface(solid.vertices, solid.faces[~self._hidden])
        # Turned faces are as far away: the tree over them as they were serves both distances.
        return self._surface

    @functools.cached_property
    def _inside(self) -> tuple[Rule, float, _Surface]:
        """The rule, the share of the surface that parts inside from outside by it, and the
        triangles that it is about."""
        surface, asked = self._surface, self._asked
        if asked == "watertight":
            around = _Remeshed(surface)
            return self._kept(asked, around, around.parted(asked))
        if asked == "lines":
            return self._kept("lines", surface, surface.parted("lines"))
        rule, share, found = self._by_winding()
        return self._kept(rule, found, share)

    def _by_winding(self) -> tuple[Rule, float, _Surface]:
        """The rule, share and triangles, as they are or turned, that the winding number parts best
        by; what is closed comes first."""
        surface = self._surface
        closed = is_closed(surface.vertices, self._all)
        share = surface.parted("winding")
        if (closed and share >= _HALF) or share == 1:
            return "closed" if closed else "winding", share, surface
        best: tuple[Rule, float, _Surface] = ("closed" if closed else "winding", share, surface)
        for faces in (
            agreeing_faces(surface.vertices, surface.faces),
            agreeing_faces(
                surface.vertices, single_faces(surface.vertices, surface.faces), outwards=True
            ),
        ):
            other = _Surface(surface.vertices, faces)
            share = other.parted("winding")
            if share >= _HALF and is_closed(surface.vertices, faces):
                return "oriented", share, other
            if share > best[1]:
                best = "winding", share, other
        return best

    def _kept(self, rule: Rule, surface: _Surface, share: float) -> tuple[Rule, float, _Surface]:
        if share < (_NO_VOLUME_AROUND if rule == "watertight" else _NO_VOLUME):
            raise _no_volume(rule)
        return rule, share, surface


def _no_volume(rule: Rule) -> DataError:
    return DataError(
        f"the mesh encloses no volume (sign by rule '{rule}'): it has no signed distance and no "
        "occupancy; the distance itself, function 'udf', works"
    )


class _Surface:
    """Triangles with an area, and the trees over them that queries need."""

    def __init__(self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]):
        self.vertices = np.ascontiguousarray(vertices)
        self.faces = np.ascontiguousarray(faces)
        used = self.vertices[np.unique(self.faces)]
        self.reach = float(np.ptp(used, axis=0).max()) / 2
        self.steps = self.reach * np.array(_STEPS)

    @property
    def mesh(self) -> Mesh:
        return Mesh(self.vertices, self.faces.astype(np.int32))

    @functools.cached_property
    def _boxes(self) -> igl.AABB:
        tree = igl.AABB()
        tree.init(self.vertices, self.faces)
        return tree

    @functools.cached_property
    def _winding(self) -> igl.FastWindingNumberBVH:
        tree = igl.FastWindingNumberBVH()
        tree.init(self.vertices, self.faces)
        return tree

    def distances(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, " P"]:
        found = np.empty(len(points))
        for at in _chunks(points):
            square = self._boxes.squared_distance(self.vertices, self.faces, points[at])[0]
            found[at] = np.sqrt(square)
        return found

    def windings(
        self, points: Float[np.ndarray, "P 3"], accuracy: float = _FINE
    ) -> Float[np.ndarray, " P"]:
        found = np.empty(len(points))
        for at in _chunks(points):
            found[at] = self._winding.winding_number(points[at], accuracy)
        return found

    def enclosed(self, points: Float[np.ndarray, "P 3"], rule: Rule) -> Bool[np.ndarray, " P"]:
        if rule == "lines":
            found = np.empty(len(points), bool)
            for at in _chunks(points):
                found[at] = self._between(points[at])
            return found
        # A coarse number first: it errs by less than 0.4, and is mostly near 0 or 1.
        winding = np.abs(self.windings(points, _COARSE))
        unsure = np.flatnonzero(np.abs(winding - 0.5) < 0.4)
        winding[unsure] = np.abs(self.windings(points[unsure]))
        return winding > 0.5

    def _between(self, points: Float[np.ndarray, "P 3"]) -> Bool[np.ndarray, " P"]:
        """Whether each of the 13 lines through a point meets the surface on both sides of it."""
        left = np.arange(len(points))
        for line in LINES:
            for towards in (line, -line):
                rays = np.broadcast_to(towards, (len(left), 3))
                hit, _, _ = self._boxes.intersect_ray_first(
                    self.vertices, self.faces, points[left], np.ascontiguousarray(rays)
                )
                left = left[hit >= 0]
                if not len(left):
                    return np.zeros(len(points), bool)
        found = np.zeros(len(points), bool)
        found[left] = True
        return found

    def probes(self) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
        """Places on the surface, uniform by area, with normals; the same every time."""
        return sample_surface(self.mesh, _PROBES, np.random.default_rng(0))

    def parted(self, rule: Rule) -> float:
        """The share of the surface with inside on one side, near by, and outside on the other."""
        points, normals = self.probes()
        parts = np.zeros(len(points), bool)
        for step in self.steps:
            sides = np.concatenate([points + step * normals, points - step * normals])
            if rule in ("lines", "watertight"):
                one, other = np.split(self.enclosed(sides, rule), 2)
                parts |= one != other
            else:
                one, other = np.split(np.abs(self.windings(sides)), 2)
                parts |= (np.maximum(one, other) > 0.5 + _DOUBT) & (
                    np.minimum(one, other) < 0.5 - _DOUBT
                )
        return float(parts.mean())

    def hidden(self, rule: Rule) -> Bool[np.ndarray, " F"]:
        """The triangles with inside on both sides, at their centre and near their corners."""
        corners = self.vertices[self.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.sqrt((normals * normals).sum(1, keepdims=True))
        left = np.arange(len(self.faces))
        for weights in _PLACES:
            for step in (self.reach * _STEPS[1], -self.reach * _STEPS[1]):
                places = np.einsum("fkd,k->fd", corners[left], weights) + step * normals[left]
                left = left[self.enclosed(places, rule)]
        found = np.zeros(len(self.faces), bool)
        found[left] = True
        return found


class _Remeshed(_Surface):
    """Triangles with a closed surface around them, which tells what is inside."""

    def __init__(self, surface: _Surface):
        super().__init__(surface.vertices, surface.faces)
        remesh = watertight.watertight(surface.mesh)
        self._around = _Surface(remesh.vertices, remesh.faces.astype(np.int64))
        # How far the closed surface stands off the triangles: nearly the same everywhere.
        off = surface.distances(self._around.probes()[0])
        middle, self._off, most = (float(q) for q in np.quantile(off, (0.5, 0.9, 0.99)))
        # Nearer to a sheet than that varies, chance says what is inside.
        self.steps = np.array([max(self.steps[0], 3 * (most - middle))])

    def enclosed(self, points: Float[np.ndarray, "P 3"], rule: Rule) -> Bool[np.ndarray, " P"]:
        found = self._around.enclosed(points, rule)
        found[found] = self._around.distances(points[found]) > self._off
        return found


# Barycentric weights of the places that stand for a triangle.
_PLACES = np.array([[1, 1, 1], [8, 1, 1], [1, 8, 1], [1, 1, 8]]) / np.array([[3], [10], [10], [10]])
# Directions of the lines of the rule "lines": of components -1, 0, 1, one of each opposite pair.
LINES = (
    np.array(
        [
            d
            for d in np.ndindex(3, 3, 3)
            if d > (1, 1, 1)  # the second half in counting order; its mirror image is the first
        ],
        np.float64,
    )
    - 1.0
)


def _chunks(points: Float[np.ndarray, "P 3"]) -> Iterator[Int[np.ndarray, " C"]]:
    """The rows of points that are asked for together, neighbours one after the other: they need the
    same part of a tree, which is then near at hand (a third less time)."""
    for begin in range(0, len(points), _AT_ONCE):
        part = points[begin : begin + _AT_ONCE]
        low, size = part.min(0), np.maximum(np.ptp(part, axis=0), 1e-300)
        cell = np.minimum((part - low) / size * _CELLS, _CELLS - 1).astype(np.uint16)
        key = (cell[:, 0] * _CELLS + cell[:, 1]) * _CELLS + cell[:, 2]
        yield begin + np.argsort(key, kind="stable")


def _checked(points: np.ndarray) -> Float[np.ndarray, "P 3"]:
    points = np.ascontiguousarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise DataError(f"distances at points of shape {points.shape}; expected (P, 3)")
    if not np.isfinite(points).all():
        broken = int((~np.isfinite(points)).any(1).sum())
        raise DataError(f"distances at points: {broken} of {len(points)} are not finite")
    return points


def _flat(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Bool[np.ndarray, " F"]:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    longest = np.max([((p - q) ** 2).sum(1) for p, q in ((a, b), (b, c), (c, a))], axis=0)
    cross = np.cross(b - a, c - a)
    return np.sqrt((cross * cross).sum(1)) <= _FLAT * longest
