"""PLY, ASCII and binary of both byte orders: the vertices, and the surface of polygons and strips.

Source: G. Turk, "The PLY Polygon File Format", 1994; triangle strips as in Stanford's scans, with
-1 between strips.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import ply_body, ply_header
from jax3dret.geometry.mesh_formats import text as lines_of_text
from jax3dret.geometry.mesh_formats.ply_body import Column
from jax3dret.geometry.mesh_formats.ply_header import Header
from jax3dret.geometry.mesh_formats.polygons import triangulate
from jax3dret.geometry.mesh_formats.unusable import Unusable

_AXES = ("x", "y", "z")
_INDICES = ("vertex_indices", "vertex_index")
# Elements whose lists of vertices are no surface of their own: the pixels of a range scan.
_NO_SURFACE = ("range_grid",)


def parse(data: bytes) -> Mesh:
    """The polygons (element face) and then the strips (tristrips) of a file as triangles.

    Elements may stand in any order, other elements and properties are passed over by their sizes.
    In a strip every other triangle is turned, and one with a corner twice is only a joint: no
    triangle. Bytes behind the last row of a binary file are let be unless they are more faces.

    Raises:
        Unusable: not PLY, other than its header announces, a property of a type that it cannot
            have, or no faces.
    """
    data, header = _opened(data)
    _check_elements(header)
    faces, strips = header.element("face"), header.element("tristrips")
    if not faces.rows and not strips.rows:
        raise Unusable(
            f"has {header.element('vertex').rows} vertices but no faces (a point cloud?); a "
            "triangle mesh is needed"
        )
    names = {element.name: _indices_of(header, element.name) for element in (faces, strips)}
    rows = ply_body.read(
        data,
        header,
        {"vertex": _axes_of(header), "face": names["face"], "tristrips": names["tristrips"]},
    )
    vertices = _vertices(rows.columns)
    triangles = []
    if faces.rows:
        (name,) = names["face"]
        corners = _whole(rows.columns["face"][name], name)
        sizes = rows.columns["face"][name].sizes
        if (sizes == 0).any():
            raise Unusable(
                f"face {int((sizes == 0).argmax())} (counted from 0) has no corners; export it "
                "again"
            )
        triangles.append(triangulate(vertices, corners, sizes))
    if strips.rows:
        (name,) = names["tristrips"]
        column = rows.columns["tristrips"][name]
        corners = _of_strips(_whole(column, name), column.sizes)
        triangles.append(triangulate(vertices, corners.reshape(-1), np.full(len(corners), 3)))
    if rows.rest and header.elements[-1].name == "face":
        _check_rest(rows.rest, header, len(vertices))
    return Mesh(vertices, np.concatenate(triangles))


def points(data: bytes) -> Float[np.ndarray, "N 3"]:
    """The vertices of a file alone, float64; its other elements are counted and passed over.

    Raises:
        Unusable: not PLY, other than its header announces, or vertices without x, y, z.
    """
    data, header = _opened(data)
    _check_elements(header)
    return _vertices(ply_body.read(data, header, {"vertex": _axes_of(header)}).columns)


def has_faces(head: bytes) -> bool:
    """Whether the header at the beginning of a file announces polygons or strips; not where it is
    no header.
    """
    try:
        header = ply_header.parse(head)
    except Unusable:
        return False
    return any(header.element(name).rows for name in ("face", "tristrips"))


def _opened(data: bytes) -> tuple[bytes, Header]:
    """A file, as plain text where it is text, and its header."""
    header = ply_header.parse(data)
    if not header.order:
        data = lines_of_text.plain(data, "ASCII PLY")
        header = ply_header.parse(data)
    return data, header


def _check_elements(header: Header) -> None:
    """Raises Unusable for an element of another name whose rows are lists of vertices, such as fans
    of triangles: they may be surface.
    """
    for element in header.elements:
        if element.name in ("face", "tristrips", *_NO_SURFACE) or not element.rows:
            continue
        if any(one.length and one.name in _INDICES for one in element.properties):
            raise Unusable(
                f"has {element.rows} rows of '{element.name}', lists of vertices that are not "
                "read; export its surface as faces"
            )


def _axes_of(header: Header) -> tuple[str, ...]:
    element = header.element("vertex")
    single = {one.name for one in element.properties if not one.length}
    missing = [axis for axis in _AXES if axis not in single]
    if missing:
        raise Unusable(
            f"its header names no vertex {', '.join(missing)}; vertices need x, y and z, one "
            "number each"
        )
    return _AXES


def _indices_of(header: Header, name: str) -> tuple[str, ...]:
    """The property that holds the vertices of a face or strip."""
    element = header.element(name)
    if not element.rows:
        return ()
    for one in element.properties:
        if one.name in _INDICES and one.length:
            if one.kind[0] == "f":
                raise Unusable(
                    f"property '{one.name}' of element '{name}' is of a type with fractions; the "
                    "numbers of vertices are whole"
                )
            return (one.name,)
    given = ", ".join(f"'{one.name}'" for one in element.properties) or "none"
    raise Unusable(
        f"element '{name}' has no list 'vertex_indices' or 'vertex_index' (its properties: "
        f"{given}); export it again"
    )


def _vertices(columns: dict[str, dict[str, Column]]) -> np.ndarray:
    axes = [columns["vertex"][axis].values for axis in _AXES]
    return np.stack([axis.astype(np.float64) for axis in axes], axis=1)


def _whole(column: Column, name: str) -> np.ndarray:
    values = column.values
    if values.dtype.kind == "f":
        whole = values == np.floor(values)
        if not (whole & (np.abs(values) < 2.0**53)).all():
            raise Unusable(
                f"{values[~whole][0] if not whole.all() else values.max():g} stands among "
                f"'{name}', which are whole numbers; export it again"
            )
    elif values.dtype.kind == "u" and len(values) and values.max() > np.iinfo(np.int64).max:
        raise Unusable(f"{values.max()} stands among '{name}'; there are not so many vertices")
    return values.astype(np.int64)


def _of_strips(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Triangles int64[F, 3] of strips that end where their list does, and at -1."""
    if not len(corners):
        return np.zeros((0, 3), np.int64)
    mark = corners == -1
    begins = mark.copy()
    begins[(np.cumsum(sizes) - sizes)[sizes > 0]] = True
    strip = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    first = first + mark[first]  # behind the -1
    at = np.arange(len(corners) - 2)
    inside = (strip[:-2] == strip[2:]) & ~mark[:-2]
    at = at[inside]
    triangles = corners[at[:, None] + np.arange(3)]
    odd = (at - first[strip[at]]) % 2 == 1
    triangles[odd] = triangles[odd][:, [1, 0, 2]]
    a, b, c = triangles.T
    return triangles[(a != b) & (b != c) & (a != c)]


def _check_rest(rest: bytes, header: Header, num_vertices: int) -> None:
    """Raises Unusable where all bytes behind the last face are faces too."""
    faces = header.element("face")
    (name,) = _indices_of(header, "face")
    for count in range(1, 1 + min(4, len(rest))):
        more = Header(header.order, (faces._replace(rows=count),), 0)
        try:
            rows = ply_body.read(rest, more, {"face": (name,)})
        except Unusable:
            return
        column = rows.columns["face"][name]
        corners = column.values
        if (column.sizes < 3).any() or corners.min() < 0 or corners.max() >= num_vertices:
            return
        if not rows.rest:
            break
    raise Unusable(
        f"goes on with faces behind the {faces.rows} that its header announces; correct the count "
        "or export it again"
    )
