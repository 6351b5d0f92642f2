"""OFF: a stream of numbers, whatever its lines; colours end where their line does."""

import numpy as np
import pytest
from boxes import ELL, FACES, QUADS, VERTICES, area, assert_box, load, refusal

V = "".join(f"{x:g} {y:g} {z:g}\n" for x, y, z in VERTICES)
F = "".join("3 {} {} {}\n".format(*face) for face in FACES)
Q = "".join("4 {} {} {} {}\n".format(*quad) for quad in QUADS)
PLAIN = "OFF\n8 12 0\n" + V + F


def behind(lines: str, *more: str) -> str:
    """Each line with further numbers, in turn."""
    given = lines.splitlines()
    return "".join(f"{line} {more[i % len(more)]}\n" for i, line in enumerate(given))


WRITTEN = {
    "plain": PLAIN,
    "quads": "OFF\n8 6 24\n" + V + Q,
    "glued": PLAIN.replace("OFF\n", "OFF"),
    "one line with the counts": PLAIN.replace("OFF\n", "OFF "),
    "small letters": PLAIN.replace("OFF", "off"),
    "no edges": PLAIN.replace("8 12 0", "8 12"),
    "edges in the next line": PLAIN.replace("8 12 0", "8 12\n18"),
    "counts split": PLAIN.replace("8 12 0", "8\n12\n0"),
    "counts split, no edges": PLAIN.replace("8 12 0", "8\n12"),
    "counts and a vertex": PLAIN.replace("8 12 0\n", "8 12 0 "),
    "all in one line": PLAIN.replace("\n", " "),
    "a number a line": PLAIN.replace(" ", "\n"),
    "vertices in one line": "OFF 8 12 0\n" + V.replace("\n", " ") + "\n" + F,
    "vertices over free lines": "OFF 8 12 0\n"
    + V.replace("\n", " ").replace("3", "3\n")
    + "\n"
    + F,
    "two vertices a line": "OFF 8 12 0\n"
    + V.replace("0\n", "0 ").replace("3\n", "3 ", 2)
    + "\n"
    + F,
    "two faces a line": "OFF 8 12 0\n"
    + V
    + "\n".join(f"{a} {b}" for a, b in zip(F.splitlines()[::2], F.splitlines()[1::2], strict=True)),
    "faces over lines": "OFF 8 12 0\n" + V + F.replace("3 ", "3\n", 1).replace("4 6", "4\n\n6"),
    "faces over lines, colours": "OFF 8 12 0\n"
    + V
    + behind(F, "0.5 1 0").replace("3 0", "3\n0", 1),
    "comments": "# made by hand\n" + PLAIN.replace("\n", "  # note 1 2\n\n"),
    "windows": PLAIN.replace("\n", "\r\n"),
    "carriage returns": PLAIN.replace("\n", "\r"),
    "mark": "\ufeff" + PLAIN,
    "tabs": PLAIN.replace(" ", "\t"),
    "no last newline": PLAIN.rstrip(),
    "decimals": PLAIN.replace("2 ", "2.000 ").replace("8 12.000", "8 12"),
    "face colours, whole": "OFF 8 12 0\n" + V + behind(F, "255 0 0"),
    "face colours, fractions": "OFF 8 12 0\n" + V + behind(F, "0.5 0 1 0.25"),
    "face colours, of a map": "OFF 8 12 0\n" + V + behind(F, "3"),
    "some face colours": "OFF 8 12 0\n" + V + behind(F, "3 0 1 2", "", "255 0 0"),
    "quads with colours": "OFF 8 6 0\n" + V + behind(Q, "3", "3 0 1 2"),
    "colours": "COFF\n8 12 0\n" + behind(V, "255 0 0 255") + F,
    "colours of three": "COFF\n8 12 0\n" + behind(V, "0.5 0 0") + F,
    "colours, stream": "COFF 8 12 0\n" + behind(V, "255 0 0 255").replace("\n", " ") + "\n" + F,
    "normals": "NOFF\n8 12 0\n" + behind(V, "0 0 1") + F,
    "normals in the next line": "NOFF\n8 12 0\n" + V.replace("\n", "\n0 0 1\n") + F,
    "colours and normals": "CNOFF 8 12 0\n" + behind(V, "0 0 1 255 0 0 255") + F,
    "texture": "STOFF 8 12 0\n" + behind(V, "0.5 0.5") + F,
    "all": "STCNOFF 8 12 0\n" + behind(V, "0 0 1 1 0 0 1 0.5 0.5").replace("\n", " ") + "\n" + F,
    "colour of one vertex": "COFF\n8 12 0\n" + V.replace("0 0 3\n", "0 0 3 255 0 0 255\n") + F,
    "unannounced colours": "OFF 8 12 0\n" + behind(V, "255 0 0") + F,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_box(tmp_path, name):
    mesh = load(tmp_path, "a.off", WRITTEN[name])
    assert_box(mesh, name)
    assert mesh.vertices.tolist() == VERTICES.tolist()
    assert mesh.faces.tolist() == FACES.tolist()


def test_polygons_edges_and_points(tmp_path):
    ell = (
        "OFF\n6 4 0\n"
        + "".join(f"{x} {y} 0\n" for x, y in ELL)
        + "2 0 1\n6 0 1 2 3 4 5\n1 3\n3 2 3 4\n"
    )
    mesh = load(tmp_path, "a.off", ell)
    assert area(mesh) == pytest.approx(5 + 1) and len(mesh.faces) == 4 + 1
    assert mesh.faces[-1].tolist() == [2, 3, 4]


def test_pentagons_of_free_vertices_are_not_taken_for_colours(tmp_path):
    """Six numbers a line for vertices, two each, and six for faces, a count and five corners."""
    vertices = np.arange(24.0).reshape(8, 3) ** 2
    lines = [*vertices.reshape(4, 6).tolist(), [5, 0, 1, 2, 3, 4], [5, 7, 6, 5, 4, 3]]
    content = "OFF\n8 2 0\n" + "\n".join(" ".join(f"{n:g}" for n in line) for line in lines)
    mesh = load(tmp_path, "a.off", content)
    assert mesh.vertices.tolist() == vertices.tolist() and len(mesh.faces) == 6


LINES = PLAIN.splitlines()
REFUSED = {
    "a face short": (
        "\n".join(LINES[:-1]),
        "announces 8 vertices and 12 faces but holds 19 of their 20 lines",
    ),
    "a corner short": (
        PLAIN[:-3],
        "line 22: a face line without its 3 vertex numbers (truncated?)",
    ),
    "half the vertices": ("\n".join(LINES[:6]), "but holds 4 of their 20 lines (truncated?)"),
    "stream cut in vertices": (" ".join(LINES[:6]), "holds 12 of the 24 numbers of its vertices"),
    "stream cut in faces": (" ".join(LINES[:-1]), "truncated?"),
    "a face more": (PLAIN + "3 0 1 2\n", "goes on behind them (line 23)"),
    "counts alone": ("OFF\n8\n", 'no "vertices faces edges" counts'),
    "nothing": ("OFF\n", 'no "vertices faces edges" counts'),
    "a fraction of a count": (
        PLAIN.replace("8 12 0", "8.5 12 0"),
        'no "vertices faces edges" counts',
    ),
    "less than none": ("OFF\n-1 -1 0\n", "counts cannot be negative"),
    "huge counts": ("OFF\n99999999999 5 0\n1 2 3\n", "announces 99999999999 vertices"),
    "word": (
        PLAIN.replace("2 1 3\n", "2 one 3\n", 1),
        "line 10: 'one' is not a number; a vertex is three numbers",
    ),
    "decimal commas": (
        PLAIN.replace("2 1 3\n", "2 1,0 3\n", 1),
        "line 10: '1,0' has a decimal comma",
    ),
    "vertex short of a number": (
        PLAIN.replace("2 1 3\n", "2 1\n", 1),
        "line 10: a vertex of 2 numbers",
    ),
    "no corners": (PLAIN.replace("3 0 1 3", "0", 1), "line 11: a face of 0 corners"),
    "more than a colour": (
        PLAIN.replace("3 0 1 3\n", "3 0 1 3 1 2 3 4 5\n"),
        "line 11: 5 numbers behind the vertices of a face",
    ),
    "fraction of a vertex": (PLAIN.replace("3 0 1 3\n", "3 0 1 2.5\n"), "refers to vertex 2.5"),
    "no such vertex": (
        PLAIN.replace("3 0 1 3\n", "3 0 1 8\n"),
        "refers to vertex 8, but there are 8",
    ),
    "less than no vertex": (PLAIN.replace("3 0 1 3\n", "3 0 1 -1\n"), "refers to vertex -1"),
    "four coordinates": (
        PLAIN.replace("OFF", "4OFF"),
        "is 4OFF, whose points have four coordinates",
    ),
    "any coordinates": (
        PLAIN.replace("OFF\n", "nOFF\n3\n"),
        "is nOFF, whose points have any number",
    ),
    "colours of four coordinates": (PLAIN.replace("OFF", "C4OFF"), "is C4OFF"),
    "binary": (b"OFF BINARY\n" + bytes(64), "is binary OFF"),
    "no magic word": ("8 12 0\n" + V + F, 'does not begin with "OFF"'),
    "another word": ("OFFSET\n" + V, 'does not begin with "OFF"'),
    "wide text": (PLAIN.encode("utf-16"), "is UTF-16 or UTF-32 text"),
    "points alone": ("OFF\n8 0 0\n" + V, "has 8 vertices but no faces"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    content, says = REFUSED[name]
    assert says in refusal(tmp_path, "a.off", content)


@pytest.mark.parametrize("coloured", [False, True])
def test_line_ends_anywhere(tmp_path, coloured):
    """Between any two numbers, but not between the last of a face and its colour."""
    rng = np.random.default_rng(0)
    polygons = [*FACES.tolist()[:6], *QUADS.tolist()[3:]]
    for trial in range(120):
        ends = rng.choice([0.05, 0.2, 0.5, 0.8])

        def broken(words, ends=ends):
            parts = (f"{word}{chr(10) if rng.random() < ends else ' '}" for word in words)
            return "".join(parts).rstrip()

        text = broken([8, len(polygons), 0, *VERTICES.astype(int).reshape(-1)]) + "\n"
        for polygon in polygons:
            text += broken([len(polygon), *polygon])
            colour = ["", "3", "255 0 0", "0.5 0.5 0 1", "3 1 2 3"][rng.integers(5)]
            text += f" {colour}\n" if coloured else rng.choice([" ", "\n"])
        mesh = load(tmp_path, "a.off", f"OFF\n{text}")
        assert mesh.faces.tolist() == FACES.tolist(), (trial, text)
        assert mesh.vertices.tolist() == VERTICES.tolist()
