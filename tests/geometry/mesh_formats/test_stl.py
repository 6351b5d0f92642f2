"""STL, binary and ASCII: the same box however it is written, the reason where it is none."""

import struct

import numpy as np
import pytest
from boxes import ELL, FACES, VERTICES, area, assert_box, load, refusal

from jax3dret.geometry.mesh_formats import stl, text

CORNERS = VERTICES[FACES]


def binary(corners=CORNERS, header=b"made by hand", count=None, attribute=0):
    triangles = np.zeros(len(corners), [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    triangles["v"], triangles["a"] = corners, attribute
    count = len(corners) if count is None else count
    return header.ljust(80) + struct.pack("<I", count) + triangles.tobytes()


def facet(corners) -> str:
    lines = "".join("   vertex {:g} {:g} {:g}\n".format(*corner) for corner in corners)
    return f" facet normal 0 0 0\n  outer loop\n{lines}  endloop\n endfacet\n"


FACETS = [facet(corners) for corners in CORNERS]
ASCII = "solid a\n" + "".join(FACETS) + "endsolid a\n"

WRITTEN = {
    "binary": binary(),
    "attributes": binary(attribute=0x8A1F),
    "header in capitals and blanks": binary(header=b"SOLID  \n facet"),
    "header that says solid": binary(header=b"solid a\nfacet normal 0 0 0\nouter loop"),
    "header that is text in two bytes": binary(header="solid".encode("utf-16-le").ljust(80, b"\0")),
    "header of zeros": binary(header=bytes(80)),
    "bytes behind": binary() + b"made by hand in 1989\n",
    "92 bytes behind": binary() + bytes(range(92)),
    "zeros behind": binary() + bytes(500),
    "noise of whole triangles behind": binary() + np.random.default_rng(0).bytes(150),
    "solid, bytes behind": binary(header=b"solid a") + b"\n",
    "ascii": ASCII,
    "capitals": ASCII.upper(),
    "both": ASCII.replace("vertex", "Vertex").replace("endfacet", "EndFacet"),
    "mark": "\ufeff" + ASCII,
    "blanks before": "\n \n" + ASCII,
    "windows": ASCII.replace("\n", "\r\n"),
    "carriage returns": ASCII.replace("\n", "\r"),
    "tabs": ASCII.replace(" ", "\t"),
    "empty lines": ASCII.replace("\n", "\n\n"),
    "no name, no last newline": ASCII.replace("solid a", "solid").rstrip(),
    "end of file of DOS": ASCII + "\x1a",
    "name of keywords": ASCII.replace("solid a", "solid vertex endfacet facet 12"),
    "name of another code": ASCII.replace("solid a", "solid caf\xe9").encode("latin-1"),
    "bytes behind text": ASCII + "\n  \n\t",
    "two solids": "solid a\n{}endsolid a\nsolid b\n{}endsolid b\n".format(
        "".join(FACETS[:5]), "".join(FACETS[5:])
    ),
    "many solids": "".join(f"solid\n{one}endsolid\n\n" for one in FACETS),
    "an empty solid": "solid\nendsolid\n" + ASCII,
    "normals that are none": ASCII.replace("normal 0 0 0", "normal -nan(ind) 1.#QNAN nan"),
    "colour": ASCII.replace("solid a\n", "solid a\ncolor 0.5 1 0\n", 1),
    "a line": ASCII.replace("\n", " "),
    "a word a line": ASCII.replace("solid a", "solid").replace(" ", "\n"),
    "a facet a line": "solid a\n"
    + "".join(f.replace("\n", " ") + "\n" for f in FACETS)
    + "endsolid",
    "words parted": ASCII.replace("endfacet", "end facet").replace("endsolid", "end solid"),
    "exponents": ASCII.replace("vertex 2", "vertex +2.0E+000"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_box(tmp_path, name):
    mesh = load(tmp_path, "a.stl", WRITTEN[name])
    assert_box(mesh, name)
    order = [CORNERS.reshape(-1, 3).tolist().index(v) for v in mesh.vertices.tolist()]
    assert len(mesh.vertices) == 8 and order == sorted(order)  # corners are shared, in file order
    np.testing.assert_array_equal(mesh.vertices[mesh.faces], CORNERS)


def test_chunks_cut_no_statement(tmp_path, monkeypatch):
    for size in (1, 50, 333):
        monkeypatch.setattr(text, "_CHUNK", size)
        for name in ("ascii", "capitals", "two solids", "a line"):
            assert_box(load(tmp_path, "a.stl", WRITTEN[name]), f"{name}, {size}")


def test_a_facet_of_more_corners_is_a_polygon(tmp_path):
    corners = np.c_[ELL, np.zeros(6)]
    mesh = load(tmp_path, "a.stl", f"solid\n{facet(corners)}{facet(corners[2:5])}endsolid\n")
    assert area(mesh) == pytest.approx(5 + 1) and len(mesh.faces) == 5


def test_one_zero(tmp_path):
    corners = CORNERS.copy()
    corners[::2][corners[::2] == 0] = -0.0
    assert len(load(tmp_path, "a.stl", binary(corners)).vertices) == 8


def test_corners_of_one_hash_stay_apart(tmp_path, monkeypatch):
    corners = np.random.default_rng(0).integers(0, 9, (600, 3)).astype(float)
    rows, numbers = stl._shared(corners)
    monkeypatch.setattr(
        stl.np,
        "argsort",
        lambda a, kind, sort=np.argsort: sort(a >> 60 if a.dtype == np.uint64 else a, kind=kind),
    )
    assert len(rows) == len(np.unique(corners, axis=0))
    np.testing.assert_array_equal(rows[numbers], corners)
    again, numbers = stl._shared(corners)  # now in an order in which equal rows lie apart
    np.testing.assert_array_equal(again[numbers], corners)


REFUSED = {
    "half a triangle": (binary()[:-20], "holds 11 of the 12 triangles that its header announces"),
    "half a header": (binary()[:70], "has 70 bytes, fewer than the header of an STL file"),
    "solid, half": (binary(header=b"solid a")[:-60], "holds 10 of the 12 triangles"),
    "count never written": (
        binary(count=0),
        "announces 0 triangles, but 600 bytes follow, room for 12",
    ),
    "count too small": (binary(count=5), "announces 5 triangles, but 7 more follow"),
    "two files in one": (binary() + binary(), "a second STL of 12 triangles behind its own 12"),
    "no triangle": (binary(CORNERS[:0]), "has no faces"),
    "no facet": ("solid a\nendsolid a\n", "has no faces"),
    "no facet, long": ("solid a\nendsolid a\n" + " " * 200, "has no faces"),
    "cut in a number": (ASCII[: ASCII.rfind("vertex") + 12], "(truncated?)"),
    "cut in a word": (
        ASCII[: ASCII.rfind("endfacet") + 4],
        'does not end with "endsolid" (truncated?)',
    ),
    "cut between facets": (
        "solid a\n" + "".join(FACETS),
        'does not end with "endsolid" (truncated?)',
    ),
    "cut at the end": (
        ASCII[: ASCII.rfind("endsolid") + 3],
        'does not end with "endsolid" (truncated?)',
    ),
    "solid alone": ("solid", 'does not end with "endsolid" (truncated?)'),
    "second solid open": (
        ASCII + "solid b\n" + FACETS[0],
        'does not end with "endsolid" (truncated?)',
    ),
    "solid in a solid": (
        "solid a\n" + ASCII,
        'line 2: \'solid\' stands where "endsolid" or "facet"',
    ),
    "facet outside": (ASCII + FACETS[0], "line 87: 'facet' stands where \"solid\" is needed"),
    "two corners": (ASCII.replace("   vertex 0 0 3\n", "", 1), "line 4: a facet of 2 corners"),
    "a number less": (
        ASCII.replace("vertex 0 0 3", "vertex 0 0", 1),
        "line 6: 'vertex' is not a number",
    ),
    "a number more": (
        ASCII.replace("vertex 0 0 3", "vertex 0 0 3 1", 1),
        "line 5: '1' stands where",
    ),
    "no loop": (ASCII.replace("  outer loop\n", "", 1), "line 3: 'vertex' stands where \"outer\""),
    "no normal": (ASCII.replace(" normal", "", 1), "line 2: '0' stands where \"normal\" is needed"),
    "word": (ASCII.replace("vertex 0 0 3", "vertex 0 zero 3", 1), "line 5: 'zero' is not a number"),
    "decimal commas": (
        ASCII.replace("vertex 0 0 3", "vertex 0 0,5 3", 1),
        "line 5: '0,5' has a decimal comma",
    ),
    "not a number": (ASCII.replace("vertex 0 0 3", "vertex 0 nan 3", 1), "vertices are not finite"),
    "wide text": (ASCII.encode("utf-16"), "is UTF-16 or UTF-32 text"),
    "wide text without a mark": (ASCII.encode("utf-16-le"), "is UTF-16 or UTF-32 text"),
    "zeros within": (ASCII + "\0" * 9, "is binary, not ASCII STL text"),
    "other text": ("facet normal 0 0 0\n" * 20, 'text that does not begin with "solid"'),
    "noise": (np.random.default_rng(3).bytes(300), "triangles that its header announces"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    content, says = REFUSED[name]
    assert says in refusal(tmp_path, "a.stl", content)
