"""OBJ: every way its statements are written gives the same box; what is not understood is named."""

import itertools

import numpy as np
import pytest
from boxes import ELL, FACES, QUADS, VERTICES, area, assert_box, load, refusal

from jax3dret.geometry.mesh_formats import obj, text
from jax3dret.geometry.mesh_formats.unusable import Unusable

V = "".join(f"v {x:g} {y:g} {z:g}\n" for x, y, z in VERTICES)
F = "".join("f {} {} {}\n".format(*(face + 1)) for face in FACES)
Q = "".join("f {} {} {} {}\n".format(*(quad + 1)) for quad in QUADS)
ELLS = "".join(f"v {x:g} {y:g} 0\n" for x, y in ELL)


def corner(form: str) -> str:
    """The box's faces with corners of a form: {} is the vertex."""
    return "".join("f " + " ".join(form.format(i + 1) for i in face) + "\n" for face in FACES)


WRITTEN = {
    "plain": V + F,
    "quads": V + Q,
    "blanks before keywords": "".join(f"  \t{line}\n" for line in (V + F).splitlines()),
    "some faces indented": V + F[: len(F) // 2] + F[len(F) // 2 :].replace("\nf", "\n   f"),
    "tabs": (V + F).replace(" ", "\t"),
    "tabs and blanks": (V + F).replace(" ", " \t "),
    "blanks behind": (V + F).replace("\n", "  \n"),
    "empty lines": (V + F).replace("\n", "\n\n  \n"),
    "mark": "\ufeff" + V + F,
    "carriage returns": (V + F).replace("\n", "\r"),
    "windows": (V + F).replace("\n", "\r\n"),
    "mixed line ends": V.replace("\n", "\r") + F.replace("\n", "\r\n", 5),
    "no last newline": (V + F).rstrip(),
    "no last newline, a slash behind every corner": V + corner("{0}/{0}/").rstrip(),
    "creases and weights of joints": V + "t crease 2/1/0 1 5 4.7\nvw 0 0 1.0\n" + F,
    "end of file of DOS": V + F + "\x1a",
    "comments behind numbers": (V + F).replace("\n", " # 1 2 3\n"),
    "comments glued to numbers": (V + F).replace("\n", "# 7\n"),
    "comments between": "# v 9 9 9\n" + (V + F).replace("\n", "\n#f 1 2 3\n"),
    "comment that ends in a backslash": "# C:\\parts\\\n" + V + "# more \\\n" + F,
    "continued lines": (V + F).replace(" ", " \\\n "),
    "continued, windows": (V + F).replace(" ", " \\\r\n"),
    "continued to the end": V + F.rstrip() + " \\",
    "plus signs": V.replace(" ", " +") + F.replace(" ", " +"),
    "exponents": "".join("v {:e} {:.3E} {}\n".format(*v) for v in VERTICES) + F,
    "weights": V.replace("\n", " 0.5\n") + F,
    "colours": V.replace("\n", " 0.1 0.2 1\n") + F,
    "colours of four": V.replace("\n", " 1 0 0 0.5\n") + F,
    "some colours": V.replace("\n", " 1 0 0\n", 3) + F,
    "faces first": F + V,
    "v/": V + "vt 0 0\n" + corner("{}/"),
    "v/vt": V + "vt 0 0\n" + corner("{}/1"),
    "v//vn": V + "vn 0 0 1\n" + corner("{}//1"),
    "v/vt/vn": V + "vt 0 0\nvn 0 0 1\n" + corner("{0}/{0}/1"),
    "mixed corners": V + corner("{}/1")[: len(corner("{}/1")) // 12 * 6] + F[len(F) // 2 :],
    "forms change": V + "f 1/1 2//3 4\nf 1/2/3 4 3/1\n" + F.split("\n", 2)[2],
    "old word for faces": V + F.replace("f", "fo"),
    "edges and points": V + "l 1 2 3\np 1 2\nl 1/1 2/1\n" + F + "f 1 2\nf 3\nf 1/1 2/1\n",
    "edges last": V + Q + "f 1 2\nf 2 3\n",
    "edges last, no newline": V + Q + "f 1 2\nf 2 3",
    "groups": f"mtllib a b.mtl\no a\n{V}g a b\ns off\nusemtl #3\n{F}s 1\nlod 2\nmg 1 0.5\n",
    "curve beside": V + "cstype bspline\ndeg 3\ncurv 0 1 1 2 3 4\nparm u 0 1\nend\n" + F,
    "names of another code": f"o caf\xe9\n{V}{F}".encode("latin-1"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_box(tmp_path, name):
    mesh = load(tmp_path, "a.obj", WRITTEN[name])
    assert_box(mesh, name)
    assert mesh.vertices.tolist() == VERTICES.tolist()
    if "\x1a" not in name and "mixed corners" not in name:
        assert mesh.faces.tolist() == FACES.tolist()


def test_chunks_cut_no_statement(tmp_path, monkeypatch):
    """Numbers, counts and continued lines across the borders of what is read at once."""
    backward = "".join(
        "".join("v {} {} {}\n".format(*VERTICES[i]) for i in face) + "f -3/-1 -2 -1\n"
        for face in FACES
    )
    for size, (name, content) in itertools.product((1, 40), WRITTEN.items()):
        monkeypatch.setattr(text, "_CHUNK", size)
        assert_box(load(tmp_path, "a.obj", content), f"{name}, {size}")
    assert_box(load(tmp_path, "a.obj", backward))


def test_relative_numbers_count_from_their_own_line(tmp_path):
    each = "".join(
        "".join("v {:g} {:g} {:g}\n".format(*VERTICES[i]) for i in face) + "f {}\n"
        for face in FACES
    )
    for form in (
        "-3 -2 -1",
        "-3/-1 -2/-1 -1/-1",
        "-3//-1 -2//-1 -1//-1",
        "-3/-1/-1 -2/-1/-1 -1/-1/-1",
    ):
        content = each.replace("{}", form).replace("f", "vt 0 0\nvn 0 0 1\nf")
        mesh = load(tmp_path, "a.obj", content)
        assert_box(mesh, form)
        assert mesh.faces.tolist() == np.arange(36).reshape(-1, 3).tolist()
    mixed = V + "".join(f"f {a + 1} {b - 8} {c + 1}\n" for a, b, c in FACES) + "v 9 9 9\n"
    assert load(tmp_path, "a.obj", mixed).faces.tolist() == FACES.tolist()
    behind = V + "f -8 -7 -5\n" + "v 5 5 5\n" + "f -9 -6 -7\n" + F.split("\n", 2)[2]
    assert load(tmp_path, "a.obj", behind).faces[:2].tolist() == [[0, 1, 3], [0, 3, 2]]


def test_polygons_that_are_not_convex(tmp_path):
    corners = ELLS + "f 1 2 3 4 5 6\n"
    assert area(load(tmp_path, "a.obj", corners)) == pytest.approx(5)
    turned = ELLS + "f -1//1 -2//1 -3//1 -4//1 -5//1 -6//1\nf 3 4 5\n"
    mesh = load(tmp_path, "a.obj", turned)
    assert area(mesh) == pytest.approx(5 + 1) and len(mesh.faces) == 5


REFUSED = {
    "index 0": (V + F.replace("f 1 2 4", "f 0 2 4", 1), "line 9: a face has index 0; OBJ counts"),
    "index 0 of many": (V + corner("{}/1").replace("f 5/1", "f 0/1"), "a face has index 0"),
    "minus 0": (V + F + "f -0 1 2\n", "line 21: a face has index 0"),
    "too far back": (V + F + "f -9 1 2\n", "line 21: a face has index -9 counts back past the 8"),
    "back before the vertices": ("f -1 -2 -3\n" + V, "line 1: a face has index -1 counts back"),
    "no such vertex": (
        V + F + "v 0 0 0\nf 1 2 10\n",
        "line 22: a face refers to a vertex that does",
    ),
    "huge": (V + "f 1 2 99999999999999999999\n", "index too large"),
    "word for a corner": (V + F + "f 1 2 x\n", "line 21: 'x' is no corner"),
    "fraction": (V + F + "f 1 2 3.5\n", "line 21: '3.5' is no corner"),
    "four parts": (V + "f 1/1/1/1 2/1/1 3/1/1\n" + F, "line 9: '1/1/1/1' is no corner"),
    "slash first": (V + "f /1 2/1 3/1\n" + F, "line 9: '/1' is no corner"),
    "text between slashes": (V + "f 1/a 2/1 3/1\n" + F, "line 9: '1/a' is no corner"),
    "lone sign": (V + "f 1 - 3 4\n" + F, "line 9: '-' is no corner"),
    "face without corners": (V + "f\n" + F, "line 9: a face without corners"),
    "two numbers": ("v 1 2\n" + V + F, "line 1: a vertex of 2 numbers"),
    "five numbers": (V + "v 1 2 3 4 5\n" + F, "line 9: a vertex of 5 numbers"),
    "word for a number": (V + "v 1 two 3\n" + F, "line 9: 'two' is not a number"),
    "not a number of windows": (V + "v 1 -1.#IND 3\n" + F, "line 9: '-1.#IND' is not a number"),
    "decimal commas": (V + "v 1,5 2,0 3,0\n" + F, "line 9: '1,5' has a decimal comma"),
    "keyword in capitals": (V + F + "V 1 2 3\n" + F, "line 21: 'V' is no OBJ keyword"),
    "unknown keyword": (V + "facets 1\n" + F, "line 9: 'facets' is no OBJ keyword"),
    "long keyword": (
        V + "an_unknown_statement 1\n" + F,
        "'an_unknown_statement' is no OBJ keyword",
    ),
    "surface": (V + F + "surf 0 1 0 1 1 2 3 4\n", "line 21: a free-form surface (surf)"),
    "surface alone": (
        V + "cstype bezier\nsurf 0 1 0 1 1 2 3 4\nend\n",
        "line 10: a free-form surface",
    ),
    "patch": (V + F + "bzp 1 2 3 4\n", "line 21: a Bezier patch (bzp)"),
    "another file": ("call b.obj\n" + V + F, "line 1: another file (call)"),
    "curves alone": (V + "curv 0 1 1 2 3 4\n", "holds 1 free-form curves but no faces"),
    "lines alone": (V + "l 1 2\nl 2 3\n", "holds 2 lines but no faces"),
    "edges alone": (V + "f 1 2\n", "has 8 vertices but no faces"),
    "points alone": (V, "has 8 vertices but no faces (a point cloud?)"),
    "nothing": ("# nothing\n", "has no faces"),
    "cut in a vertex": (V + "v 1 2", "ends in the middle of a line (line 9, truncated?)"),
    "cut in a face": (V + F + "f 1 2", "ends in the middle of a line (truncated?)"),
    "cut in a corner": (V + F + "f 1 2/3 4/", "ends in the middle of a line (truncated?)"),
    "cut in a keyword": (V + F + "usemt", "ends in the middle of a line (line 21, truncated?)"),
    "wide text": ((V + F).encode("utf-16"), "is UTF-16 or UTF-32 text; save it as UTF-8"),
    "wide text without a mark": ((V + F).encode("utf-16-le"), "is UTF-16 or UTF-32 text"),
    "wider text": ((V + F).encode("utf-32"), "is UTF-16 or UTF-32 text"),
    "binary": (b"\x00\x07v 1 2 3\n" * 9, "is binary, not Wavefront OBJ text"),
    "zeros at the end": (V * 300 + F + "\0" * 64, "from line 2413 on (damaged?)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    content, says = REFUSED[name]
    assert says in refusal(tmp_path, "a.obj", content)


def test_lines_of_reasons_are_those_of_the_file(monkeypatch):
    monkeypatch.setattr(text, "_CHUNK", 16)
    for end, before in itertools.product(("\n", "\r\n", "\r"), ("# a comment\n", "v 0 0 \\\n 0\n")):
        content = (before * 5 + V + "f 1 2 0\n").replace("\n", end)
        line = before.count("\n") * 5 + 8 + 1
        with pytest.raises(Unusable, match=f"^line {line}: a face has index 0"):
            obj.parse(content.encode())


def test_lines_written_at_random(tmp_path, monkeypatch):
    """Every line in a form of its own, vertices and faces mixed, read in pieces."""
    rng = np.random.default_rng(3)

    def pick(*forms):
        return forms[rng.integers(len(forms))]

    def line(keyword, *words):
        parted = "".join(pick(" ", "  ", "\t", " \\\n", "\t\\\n ") + str(word) for word in words)
        comment = pick("", "", " # 1 2", "# f 1 2 3 \\", "\t")
        return pick("", "", " ", "\t") + keyword + parted + comment + pick("\n", "\r\n", "\n\n")

    for trial in range(40):
        polygons = [*FACES.tolist()[:6], *QUADS.tolist()[3:]]
        number, written, texts, content = {}, 0, 0, []
        for polygon in polygons:
            for i in polygon:
                if i not in number or rng.random() < 0.2:  # some vertices are written again
                    extra = pick((), (), (0.5,), (1, 0, 0), (1, 0, 0, 1))
                    content.append(line("v", *(f"{c:g}" for c in VERTICES[i]), *extra))
                    written += 1
                    number[i] = written
                if rng.random() < 0.3:
                    content.append(
                        line(
                            *pick(
                                ("vt", 0, 1),
                                ("vn", 0, 0, 1),
                                ("usemtl", "a#b"),
                                ("g",),
                                ("s", "off"),
                            )
                        )
                    )
                    texts += 1
            corners = []
            for i in polygon:
                index = pick(number[i], number[i] - written - 1)
                corners.append(
                    pick(f"{index}", f"{index}/1", f"{index}/-1/1", f"{index}//7", f"{index}/")
                )
            content.append(line(pick("f", "f", "fo"), *corners))
            if rng.random() < 0.3:
                content.append(line("f", *pick((1,), (1, -1))) + line("l", 1, -1))
        monkeypatch.setattr(text, "_CHUNK", int(pick(5, 90, 1 << 22)))
        assert_box(load(tmp_path, "a.obj", "".join(content)), f"{trial}: {''.join(content)}")
