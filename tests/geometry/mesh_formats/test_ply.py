"""PLY: elements in any order, any properties, both byte orders and text, polygons and strips."""

import itertools
import re

import numpy as np
import pytest
from boxes import ELL, FACES, QUADS, VERTICES, area, assert_box, load, refusal

from jax3dret.geometry.clouds import is_cloud, load_points
from jax3dret.geometry.mesh import MeshError
from jax3dret.geometry.mesh_formats import text
from jax3dret.geometry.mesh_formats.ply_header import _TYPES
from jax3dret.geometry.meshes import load_mesh

ORDERS = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}


def ply(form, elements, *, end="\n", before=(), rest=b"", header=None):
    """A file. elements: (name, properties, rows); a property is (name, type) or (name, length's
    type, type); a row is a value, or a list of them, for each property.
    """
    lines = ["ply", f"format {form} 1.0", *before]
    order, body = ORDERS[form], []
    for name, properties, rows in elements:
        lines.append(f"element {name} {len(rows)}")
        for known, *types in properties:
            lines.append(" ".join(["property", *["list"] * (len(types) - 1), *types, known]))
        for row in rows:
            words = []
            for value, (_, *types) in zip(row, properties, strict=True):
                values = [len(value), *value] if len(types) > 1 else [value]
                kinds = [types[0], *[types[-1]] * len(value)] if len(types) > 1 else types
                if order is None:
                    words += [f"{v:g}" for v in values]
                else:
                    words += [
                        np.array(v, order + _TYPES[k]).tobytes()
                        for v, k in zip(values, kinds, strict=True)
                    ]
            body.append((" ".join(words) + end).encode() if order is None else b"".join(words))
    lines = [*(header or lines), "end_header"]
    return "".join(line + end for line in lines).encode() + b"".join(body) + rest


def xyz(kind="float"):
    return [(axis, kind) for axis in "xyz"]


def box(polygons=FACES, kind="float", length="uchar", index="int", name="vertex_indices"):
    vertex = ("vertex", xyz(kind), VERTICES.tolist())
    face = ("face", [(name, length, index)], [[list(p)] for p in polygons])
    return [vertex, face]


MIXED = [*FACES.tolist()[:6], *QUADS.tolist()[3:]]
POINTS = VERTICES.tolist()
# Rows of the strips below; the box is one strip of 14 corners, turned about at its corners.
STRIP = [3, 2, 1, 0, 4, 2, 6, 3, 7, 1, 5, 4, 7, 6]


def with_lists():
    """Lists before and after that of the vertices, of other lengths in every row."""
    rows = [[[0.5] * (i % 3), i, list(p), [1.0] * (i % 4), 7] for i, p in enumerate(MIXED)]
    properties = [
        ("texcoord", "uchar", "float"), ("flags", "short"), ("vertex_indices", "uchar", "int"),
        ("weights", "int", "double"), ("part", "uchar"),
    ]  # fmt: skip
    return [box()[0], ("face", properties, rows)]


def with_elements():
    """Elements that are no surface before, between and after, one with lists in its vertices."""
    camera = (
        "camera",
        [("view", "float"), ("pixels", "uchar", "short")],
        [[1, [1, 2, 3]], [2, []]],
    )
    vertex = (
        "vertex",
        [
            ("red", "uchar"),
            ("z", "double"),
            ("seen", "uchar", "int"),
            ("x", "float"),
            ("y", "short"),
        ],
        [[9, z, list(range(i % 3)), x, y] for i, (x, y, z) in enumerate(POINTS)],
    )
    edge = ("edge", [("vertex1", "int"), ("vertex2", "int")], [[0, 1], [1, 2]])
    return [
        camera,
        vertex,
        edge,
        box(MIXED)[1],
        ("nothing", [("a", "int")], []),
        ("edge2", *edge[1:]),
    ]


def strip(rows, length="int"):
    return [box()[0], ("tristrips", [("vertex_indices", length, "int")], [[row] for row in rows])]


def faces_of(strip_):
    """Triangles of a strip, every other one turned, by its definition."""
    found = []
    for i in range(len(strip_) - 2):
        a, b, c = strip_[i : i + 3]
        if len({a, b, c}) == 3:
            found.append([a, b, c] if i % 2 == 0 else [b, a, c])
    return found


@pytest.mark.parametrize("form", ORDERS)
def test_the_same_box(tmp_path, form):
    written = {
        "triangles": box(),
        "quads": box(QUADS),
        "mixed": box(MIXED),
        "double, ushort, uint": box(MIXED, "double", "ushort", "uint"),
        "old types": box(MIXED, "float32", "uint8", "int32", "vertex_index"),
        "whole coordinates": box(MIXED, "int", "int", "uchar"),
        "64 bits": box(MIXED, "float64", "uint64", "int64"),
        "lists beside": with_lists(),
        "elements beside": with_elements(),
        "faces first": box(MIXED)[::-1],
        "an edge and a point": box([*MIXED, [0, 1], [3]]),
        "an empty element": [*box(), ("nothing", [], [])],
    }
    for name, elements in written.items():
        mesh = load(tmp_path, "a.ply", ply(form, elements))
        assert_box(mesh, name)
        assert mesh.faces.tolist() == FACES.tolist() and mesh.vertices.tolist() == POINTS, name
        assert not is_cloud(tmp_path / "a.ply")
        np.testing.assert_array_equal(load_points(tmp_path / "a.ply"), VERTICES)


@pytest.mark.parametrize("form", ORDERS)
def test_headers(tmp_path, form):
    said = ["comment end_header", "obj_info made by hand", "comment element face 0", "comment"]
    for end in ("\n", "\r\n", "\r"):
        content = ply(form, box(MIXED), end=end, before=said)
        assert_box(load(tmp_path, "a.ply", content), repr(end))
        assert not is_cloud(tmp_path / "a.ply")
        assert_box(load(tmp_path, "a.ply", b"\xef\xbb\xbf" + content), "mark")
        head, mark, body = content.partition(b"\nend_header") if end == "\n" else (b"", b"", b"")
        if head:
            assert_box(load(tmp_path, "a.ply", head + b"\r" + mark + body), "mixed")
            spaced = head.replace(b" ", b"  ").replace(b"\n", b" \n") + mark + b" " + body
            assert_box(load(tmp_path, "a.ply", spaced), "blanks")


def test_a_body_that_begins_with_a_newline(tmp_path):
    """10 as the first byte, behind a header whose lines end in a carriage return alone."""
    rows = [[10, *v] for v in POINTS]
    elements = [("vertex", [("a", "uchar"), *xyz()], rows), box(MIXED)[1]]
    for end in ("\r", "\n", "\r\n"):
        content = ply("binary_little_endian", elements, end=end)
        assert_box(load(tmp_path, "a.ply", content), repr(end))


@pytest.mark.parametrize("form", ORDERS)
def test_strips(tmp_path, form):
    whole = faces_of(STRIP)
    written = {
        "one": ([STRIP], whole),
        "two rows": ([STRIP[:7], STRIP[5:]], faces_of(STRIP[:7]) + faces_of(STRIP[5:])),
        "restarts": (
            [[*STRIP[:7], -1, *STRIP[5:8], -1, *STRIP[6:]]],
            faces_of(STRIP[:7]) + faces_of(STRIP[5:8]) + faces_of(STRIP[6:]),
        ),
        "marks about": ([[-1, *STRIP, -1], [-1, -1], [], [0, 1]], whole),
        "a joint": ([[0, 1, 3, 3, 0, 0, 3, 2]], faces_of([0, 1, 3, 3, 0, 0, 3, 2])),
    }
    for name, (rows, expected) in written.items():
        mesh = load(tmp_path, "a.ply", ply(form, strip(rows)))
        assert mesh.faces.tolist() == expected, name
        assert not is_cloud(tmp_path / "a.ply")
    both = [*box(MIXED[:6]), strip([[0, 2, 4, 6]])[1]]
    mesh = load(tmp_path, "a.ply", ply(form, both))
    assert mesh.faces.tolist() == [*FACES.tolist()[:6], [0, 2, 4], [4, 2, 6]]


def test_the_strip_of_a_box_is_the_box(tmp_path):
    mesh = load(tmp_path, "a.ply", ply("ascii", strip([STRIP])))
    mesh = mesh._replace(faces=mesh.faces[:, ::-1]) if _volume(mesh) < 0 else mesh
    assert_box(mesh)  # only if every other triangle is turned do all face outwards


def _volume(mesh):
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return np.einsum("fi,fi->", a, np.cross(b, c)) / 6


def test_lists_of_vertices_of_another_name(tmp_path):
    """Fans beside faces, or alone, may be surface; the pixels of a range scan are none."""
    for elements in (box(), box()[:1]):
        for name, number in (("trifans", 2), ("range_grid", 2), ("trifans", 0)):
            more = (name, [("vertex_indices", "uchar", "int")], [[[0]], [[1]]][:number])
            path = tmp_path / "a.ply"
            path.write_bytes(ply("ascii", [*elements, more]))
            if name == "trifans" and number:
                said = "2 rows of 'trifans', lists of vertices that are not read"
                with pytest.raises(MeshError, match=said):
                    (load_mesh if len(elements) > 1 else load_points)(path)
            elif len(elements) > 1:
                assert_box(load_mesh(path))
            else:
                assert len(load_points(path)) == len(VERTICES)


@pytest.mark.parametrize("form", ORDERS)
def test_polygons_that_are_not_convex(tmp_path, form):
    vertices = ("vertex", xyz(), [[x, y, 0] for x, y in ELL])
    for polygons in ([range(6)], [range(6), range(2, 5)], [[5, 4, 3, 2, 1, 0]]):
        faces = ("face", [("vertex_index", "uchar", "uint")], [[list(p)] for p in polygons])
        mesh = load(tmp_path, "a.ply", ply(form, [vertices, faces]))
        assert area(mesh) == pytest.approx(5 + (len(polygons) - 1))


def test_text_over_free_lines(tmp_path, monkeypatch):
    content = ply("ascii", with_lists())
    head, mark, body = content.partition(b"end_header\n")
    for free in (
        body.replace(b"\n", b" "),
        body.replace(b" ", b"\n"),
        body.replace(b"\n", b"\n\n"),
        body.replace(b"\n", b"\r\n"),
    ):
        for size in (9, 1 << 22):
            monkeypatch.setattr(text, "_CHUNK", size)
            assert_box(load(tmp_path, "a.ply", head + mark + free))


@pytest.mark.parametrize("form", list(ORDERS)[1:])
def test_bytes_behind_the_last_row(tmp_path, form):
    for elements, rest in itertools.product(
        (box(MIXED), with_lists()), (b"\n", b"\r\n\0", b"made by hand", bytes(40))
    ):
        assert_box(load(tmp_path, "a.ply", ply(form, elements, rest=rest)))
    more = np.array([0, 1, 2], ORDERS[form] + "i4").tobytes()
    said = refusal(tmp_path, "a.ply", ply(form, box(), rest=b"\3" + more))
    assert "goes on with faces behind the 12 that its header announces" in said


def test_cut_anywhere_is_said(tmp_path):
    for form in ORDERS:
        for elements in (box(), box(MIXED), with_lists()):
            whole = ply(form, elements).rstrip() if form == "ascii" else ply(form, elements)
            body = whole.index(b"end_header") + 11
            for cut in range(body, len(whole) - 1, 13):
                if form == "ascii" and cut == len(whole) - 1:
                    continue
                said = refusal(tmp_path, "a.ply", whole[:cut])
                assert (
                    "that its header announces (truncated?)" in said
                    or "the header asks for" in said
                )


HEAD = [
    "ply",
    "format ascii 1.0",
    "element vertex 8",
    *(f"property float {a}" for a in "xyz"),
    "element face 12",
]


def headed(*lines):
    """The box behind another header."""
    return ply("ascii", box(), header=lines)


INDICES = "property list uchar int vertex_indices"
REFUSED = {
    "no faces": (ply("ascii", box([])), "has 8 vertices but no faces (a point cloud?)"),
    "no header": (b"ply\n", "no complete PLY header"),
    "no end": ("\n".join(HEAD) + "\n1 2 3\n", "line 8: '1' is no keyword of a PLY header"),
    "header cut": ("\n".join(HEAD) + "\nproperty li", "no complete PLY header"),
    "no format": (headed("ply", *HEAD[2:], INDICES), "names no format that PLY has"),
    "unknown format": (
        headed("ply", "format ascii 2.0", *HEAD[2:], INDICES),
        "'format ascii 2.0' is no format that is read",
    ),
    "unknown order": (
        headed("ply", "format binary 1.0", *HEAD[2:], INDICES),
        "line 2: 'format binary 1.0'",
    ),
    "unknown keyword": (
        headed(*HEAD, INDICES, "elements edge 3"),
        "line 9: 'elements' is no keyword",
    ),
    "unknown type": (
        headed(*HEAD, "property list uchar long vertex_indices"),
        "line 8: property 'vertex_indices' has the type 'long'",
    ),
    "unknown type of one value": (
        headed(*HEAD[:3], "property half x", *HEAD[4:], INDICES),
        "line 4: property 'x' has the type 'half'",
    ),
    "length with fractions": (
        headed(*HEAD, "property list float int vertex_indices"),
        "whose length has the type 'float'",
    ),
    "indices with fractions": (
        headed(*HEAD, "property list uchar float vertex_indices"),
        "'vertex_indices' of element 'face' is of a type with fractions",
    ),
    "no list": (
        headed(*HEAD, "property int vertex_indices"),
        "element 'face' has no list 'vertex_indices'",
    ),
    "another list": (
        headed(*HEAD, "property list uchar int corners"),
        "(its properties: 'corners')",
    ),
    "no y": (headed(*HEAD[:4], "property float v", *HEAD[5:], INDICES), "names no vertex y"),
    "no vertex": (headed(*HEAD[:2], HEAD[6], INDICES), "names no vertex x, y, z"),
    "x twice": (
        headed(*HEAD[:4], HEAD[3], *HEAD[4:], INDICES),
        "line 5: element 'vertex' has two properties 'x'",
    ),
    "vertices twice": (headed(*HEAD[:6], *HEAD[2:], INDICES), "line 7: a second element 'vertex'"),
    "no count": (
        headed(*HEAD[:6], "element face", INDICES),
        "line 7: 'element face' is no name and count",
    ),
    "count that is none": (
        headed(*HEAD[:6], "element face -3", INDICES),
        "line 7: 'element face -3'",
    ),
    "property first": (
        headed(*HEAD[:2], HEAD[3], *HEAD[2:], INDICES),
        "line 3: a property before any element",
    ),
    "half a property": (
        headed(*HEAD, "property list uchar int"),
        "line 8: 'property list uchar int' is no type and name",
    ),
    "more than any file": (
        headed(*HEAD[:6], "element face 999999999999", INDICES),
        "of the 999999999999 faces that its header announces",
    ),
    "a number more": (
        ply("ascii", box()).replace(b"0 0 3\n", b"0 0 3 9\n"),
        "line 11: 4 numbers where the header asks for 3",
    ),
    "a corner less": (
        ply("ascii", box()).replace(b"3 0 1 3\n", b"3 0 1\n"),
        "line 18: 3 numbers where the header asks for 4",
    ),
    # As MeshLab writes the colours of corners: a list where its header has single numbers.
    "undeclared lists": (
        re.sub(
            rb"(?m)^3 .*$", rb"\g<0> 3 0.5 0.5 0.5", headed(*HEAD, INDICES, "property uchar red")
        ),
        "line 19: 8 numbers where the header asks for 5",
    ),
    "a row more": (ply("ascii", box()) + b"3 0 1 2\n", "line 30: the file goes on behind"),
    "word": (ply("ascii", box()).replace(b"0 0 3\n", b"0 O 3\n"), "line 11: 'O' is not a number"),
    "decimal commas": (
        ply("ascii", box()).replace(b"0 0 3\n", b"0 0,0 3\n"),
        "line 11: '0,0' has a decimal comma",
    ),
    "fraction of a vertex": (
        ply("ascii", box()).replace(b"3 0 1 3\n", b"3 0 1 2.5\n"),
        "2.5 stands among 'vertex_indices'",
    ),
    "fraction of a length": (
        ply("ascii", box()).replace(b"3 0 1 3\n", b"2.5 0 1 3\n"),
        "row 0 of element 'face'",
    ),
    "no such vertex": (
        ply("ascii", box()).replace(b"3 0 1 3\n", b"3 0 1 8\n"),
        "refers to vertex 8, but there are 8",
    ),
    "minus one": (ply("binary_big_endian", box([*FACES, [0, 1, -1]])), "refers to vertex -1"),
    "no corners": (
        ply("binary_big_endian", box([*FACES, []])),
        "face 12 (counted from 0) has no corners",
    ),
    "length below none": (
        ply("binary_little_endian", box(length="char")).replace(b"\3\0\0\0\0", b"\xff\0\0\0\0"),
        "the length of 'vertex_indices' is no whole number from 0 on",
    ),
    "wide text": (ply("ascii", box()).decode().encode("utf-16"), "is UTF-16 text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    content, says = REFUSED[name]
    assert says in refusal(tmp_path, "a.ply", content)


@pytest.mark.parametrize("form", ORDERS)
def test_properties_at_random(tmp_path, form):
    """Further properties of any type and place, elements in any order, polygons of any size."""
    rng = np.random.default_rng(4)
    kinds = [kind for kind in _TYPES if not kind.endswith("64")]

    def among(properties, row):
        """The properties and their values, with others before, between and behind."""
        rows = [list(values) for values in row]
        named = list(properties)
        for extra in range(int(rng.integers(0, 4))):
            place = int(rng.integers(len(named) + 1))
            is_list = rng.random() < 0.5
            kind = kinds[rng.integers(len(kinds))]
            named.insert(place, (f"extra{extra}", *(("uchar", kind) if is_list else (kind,))))
            same = int(rng.integers(0, 4)) if rng.random() < 0.5 else None
            for values in rows:
                size = int(rng.integers(0, 4)) if same is None else same
                values.insert(
                    place,
                    rng.integers(0, 100, size).tolist() if is_list else int(rng.integers(100)),
                )
        return named, rows

    for trial in range(25):
        kind = ["float", "double", "int8", "uint16", "int"][rng.integers(5)]
        length, index = (
            ["uchar", "int", "ushort", "int8"][rng.integers(4)],
            ["int", "uint8", "short"][rng.integers(3)],
        )
        name = ["vertex_indices", "vertex_index"][rng.integers(2)]
        polygons = [MIXED, FACES.tolist(), QUADS.tolist()][rng.integers(3)]
        elements = [
            ("vertex", *among(xyz(kind), VERTICES.tolist())),
            ("face", *among([(name, length, index)], [[list(p)] for p in polygons])),
            ("other", *among([("a", "int")], [[i] for i in range(rng.integers(0, 4))])),
        ]
        order = rng.permutation(3)
        content = ply(form, [elements[i] for i in order], end=["\n", "\r\n", "\r"][rng.integers(3)])
        assert_box(load(tmp_path, "a.ply", content), f"{trial}: {content!r}")
