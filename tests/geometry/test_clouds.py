"""Point cloud files: what is read, and what is refused with which reason."""

import re

import numpy as np
import pytest

from jax3dret.geometry.clouds import is_cloud, load_points
from jax3dret.geometry.mesh import MeshError

POINTS = np.array([[0.5, 1, 2], [3, -4, 5], [1e-3, 7, 8], [0, 0, 1]])


def ply(path, form, faces=0, cut=0):
    head = f"ply\nformat {form} 1.0\ncomment c\nelement vertex 4\nproperty uchar red\n"
    head += "property float x\nproperty float y\nproperty double z\n"
    head += f"element face {faces}\nproperty list uchar int vertex_indices\nend_header\n"
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(form)
    if order:
        rows = np.zeros(
            4, [("red", "u1"), ("x", order + "f4"), ("y", order + "f4"), ("z", order + "f8")]
        )
        for i, axis in enumerate("xyz"):
            rows[axis] = POINTS[:, i]
        body = rows.tobytes()
    else:
        body = "".join(f"255 {x} {y} {z}\n" for x, y, z in POINTS).encode()
    path.write_bytes(head.encode() + body[: len(body) - cut])
    return path


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply(tmp_path, form):
    path = ply(tmp_path / "a.ply", form)
    assert is_cloud(path)
    np.testing.assert_allclose(load_points(path), POINTS, rtol=1e-6)
    with pytest.raises(MeshError, match=r"a.ply: holds 3 of the 4 vertices.*truncated"):
        load_points(ply(path, form, cut=17))
    assert not is_cloud(ply(tmp_path / "mesh.ply", form, faces=2))


ROWS = "0.5 1 2\n3 -4 5\n.001 7 8\n0 0 1\n"
WIDE = "0.5 1 2 255 9\n3 -4 5 0 9\n1e-3 7 8 1 9\n0 0 1 2 9\n"
TEXTS = {
    "blanks": ROWS,
    "tabs": ROWS.replace(" ", "\t"),
    "many blanks": ROWS.replace(" ", " \t  "),
    "commas": ROWS.replace(" ", ","),
    "commas and blanks": ROWS.replace(" ", ", "),
    "semicolons": ROWS.replace(" ", ";"),
    "semicolons and blanks": ROWS.replace(" ", "; "),
    "separator behind": ROWS.replace(" ", ";").replace("\n", ";\n"),
    "windows": ROWS.replace("\n", "\r\n"),
    "carriage returns": ROWS.replace("\n", "\r"),
    "mark": "\ufeff" + ROWS,
    "empty lines": ROWS.replace("\n", "\n\n \n"),
    "no last newline": ROWS.rstrip(),
    "more columns": WIDE,
    "more columns, commas": WIDE.replace(" ", ","),
    "comments": "# x y z r\n# made by hand, 12 3 4\n" + WIDE.replace("\n", "  # note 1\n"),
    "comments of two slashes": "// made by hand\n" + ROWS.replace("\n", " // note\n"),
    "names in a comment": "//X Y Z\n" + ROWS,
    "names of all columns": "//X Y Z Intensity Class\n" + WIDE,
    "names with commas": "X,Y,Z\n" + ROWS.replace(" ", ","),
    "names in quotes": '"x";"y";"z";"red";"part"\n' + WIDE.replace(" ", ";"),
    "other names": "Easting Northing Height\n" + ROWS,
    "title": "Scan of a chair, 3 March\n" + ROWS,
    "count": "4\n" + ROWS,
    "count and blanks": "  4  \n" + WIDE,
    "count and title": "4\nmade by hand\n" + ROWS,
    "names and count, as CloudCompare": "//X Y Z R Class\n4\n" + WIDE,
    "title and count": "chair\n4\n" + ROWS,
    "words behind": "".join(f"{row} chair\n" for row in ROWS.splitlines()),
    "columns by name": "id,x,y,z\n"
    + "".join(f"{i},{row}\n" for i, row in enumerate(ROWS.replace(" ", ",").split())),
    "columns by name, turned": "//Z X Y\n"
    + "".join("{2} {0} {1}\n".format(*row.split()) for row in ROWS.splitlines()),
    "columns by longer names": "id,pos_x,pos_y,pos_z\n"
    + "".join(f"{i},{row}\n" for i, row in enumerate(ROWS.replace(" ", ",").split())),
    "columns by number, as ParaView": '"Time","Points:0","Points:1","Points:2"\n'
    + "".join(f"{i},{row}\n" for i, row in enumerate(ROWS.replace(" ", ",").split())),
    "names with units": "X [m], Y [m], Z [m]\n" + ROWS.replace(" ", ", "),
    "names behind a word": "# columns: x y z r class\n" + WIDE,
    "a sentence about x, y and z": "# coordinates x y z in metres\n" + ROWS,
    "a title beside names": "//Z X Y\nmade by hand\n"
    + "".join("{2} {0} {1}\n".format(*row.split()) for row in ROWS.splitlines()),
    "columns by name, words": "part;x;y;z\n"
    + "".join(f"leg;{row}\n" for row in ROWS.replace(" ", ";").split()),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text(tmp_path, name):
    for suffix in (".txt", ".xyz"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(TEXTS[name].encode())
        np.testing.assert_allclose(load_points(path), POINTS, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.xyz", b"", "is empty"),
        ("a.xyz", b"# nothing\n", "holds no points"),
        ("a.txt", b"1 2\n3 4\n", "has 2 numbers a line"),
        ("a.xyz", b"5\n1 2 3\n4 5 6\n", "announces 5 points in a line of its own but holds 2"),
        ("a.xyz", b"//X Y Z\n1\n1 2 3\n4 5 6\n", "announces 1 points .* holds 2"),
        ("a.txt", b"3\nwater\nO 0 0 0\nH 1 0 0\nH 0 1 0\n", "line 3: 'O' is not a number"),
        ("a.txt", b"a title\nanother\n1 2 3\n", "line 2: 'another' is not a number"),
        ("a.txt", b"1 2 3\n1 2 3 4\n", "line 2 has 4 numbers where the first point has 3"),
        ("a.txt", b"1 2 3\n\n4 five 6\n", "line 3: 'five' is not a number"),
        ("a.txt", b"1 2 3 a\n4 5 6 b c\n", "line 2: 5 columns where the first point has 4"),
        ("a.txt", b"1 2 3 a\n4 5 -1.#IND b\n", "line 2: '-1.#IND' is not a number"),
        ("a.txt", b"1,5 2,5 3,5\n4 5 6\n", "line 1: '1,5' has a decimal comma"),
        ("a.txt", b"x;y;z\n1;2;3\n1,5;2,5;3,5\n", "line 3: '1,5' has a decimal comma"),
        ("a.txt", b"1\t2\t3,5\n", "line 1: '3,5' has a decimal comma"),
        ("a.txt", b"1,,2,3\n4,,5,6\n", "line 1 has an empty column"),
        ("a.txt", b"1,2,3\n,5,6\n", "line 2 has an empty column"),
        (
            "a.txt",
            b"id,a,b,c\n1,2,3,4\n",
            "names its columns id, a, b, c, of which none is x, y or z",
        ),
        ("a.txt", b"# z is up, x right, y back\n1 2 3\n", "names 7 columns but its points have 3"),
        ("a.txt", b"id x y z\n1 2 3 4 5\n", "names 4 columns but its points have 5"),
        ("a.txt", b"0 " * 40 + b"\n" + b"1 " * 40 + b"\n" + b"2 " * 40, "its points are columns"),
        ("a.txt", "1 2 3\n".encode("utf-16"), "is UTF-16 or UTF-32 text"),
        ("a.txt", b"1 2 3\n\0\1\2", "is binary, not a point cloud text"),
        ("a.txt", b"<!DOCTYPE html>\n<html>404</html>", "is an HTML page"),
        (
            "a.xyz",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer",
        ),
        (
            "a.npy",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer",
        ),
        (
            "a.ply",
            b"version https://git-lfs.github.com/spec/v1\r\noid sha256:0\n",
            "a Git LFS pointer",
        ),
        ("a.txt", b"/annex/objects/SHA256E-s9--00.txt\n", "a git-annex pointer"),
        ("a.npy", b"not an array at all", "no whole header of a NumPy array"),
        ("a.txt", b"some notes\n", "holds no points"),
        ("a.txt", b"1 2 3\n4 5\n", "line 2 has 2 numbers where the first point has 3"),
        ("a.xyz", b"1 2 nan\n1 2 3\n", "1 of 2 points are not finite"),
        ("a.npy", b"\x93NUMPY\x01\x00", "no whole header of a NumPy array"),
        ("a.ply", b"ply\nformat ascii 1.0\n", "no complete PLY header"),
        ("a.pcd", b"x", "unknown point cloud format '.pcd'"),
    ],
)
def test_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MeshError, match=says) as error:
        load_points(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)


def test_arrays_that_are_no_clouds(tmp_path):
    path = tmp_path / "a.npy"
    for bad in (
        np.zeros((3, 2)),
        np.zeros((2, 3, 3)),
        np.zeros((3, 3), complex),
        np.array([["a"] * 3]),
    ):
        np.save(path, bad)
        with pytest.raises(MeshError, match=r"shape \(N, 3 or more\) are needed"):
            load_points(path)
    for turned in ((3, 812), (3, 4), (6, 812)):
        np.save(path, np.zeros(turned))
        to = re.escape(f"transpose it (array.T) to shape {turned[::-1]}")
        with pytest.raises(MeshError, match=to):
            load_points(path)
    np.save(path, np.array([[{}] * 3]), allow_pickle=True)
    with pytest.raises(MeshError, match="Python objects"):
        load_points(path)
    with pytest.raises(MeshError, match="no such file"):
        load_points(tmp_path / "b.npy")


def test_arrays(tmp_path):
    path = tmp_path / "a.npy"
    for points in (
        POINTS,
        POINTS[:3],
        POINTS[:1],
        POINTS[:2].repeat(3, axis=1),
        np.asfortranarray(POINTS),
    ):
        for kind in ("<f8", ">f4", "<i2", "<f2"):
            np.save(path, points.astype(kind))
            got = load_points(path)
            assert got.dtype == np.float64 and got.flags.c_contiguous
            np.testing.assert_array_equal(got, points.astype(kind)[:, :3].astype(float))


def test_arrays_cut_anywhere(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, POINTS)
    whole = path.read_bytes()
    for cut in range(1, len(whole), 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(MeshError, match="truncated") as caught:
            load_points(path)
        assert "\n" not in str(caught.value)
    np.save(path, np.zeros((0, 3)))
    with pytest.raises(MeshError, match="holds no points"):
        load_points(path)


def test_a_text_that_is_cut_is_found_by_its_count(tmp_path):
    path = tmp_path / "a.xyz"
    whole = ("4\n" + ROWS).encode()
    for cut in range(1, len(whole) - 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(MeshError):
            load_points(path)


def test_headers_of_clouds(tmp_path):
    """A PLY is told by its header, whatever ends its lines."""
    for end in ("\n", "\r\n", "\r"):
        for faces, expected in ((0, True), (3, False)):
            head = (
                f"ply\nformat ascii 1.0\nelement vertex 1\nproperty int x\n element face  {faces}\n"
            )
            head += (
                "comment element tristrips 9\nproperty list uchar int vertex_index\nend_header\n"
            )
            (tmp_path / "a.ply").write_bytes(head.replace("\n", end).encode())
            assert is_cloud(tmp_path / "a.ply") is expected
