"""Point cloud files: what is read, and what is refused with which reason."""

import numpy as np
import pytest

from jax3dret.geometry.clouds import is_cloud, load_points
from jax3dret.geometry.mesh import MeshError

POINTS = np.array([[0.5, 1, 2], [3, -4, 5], [1e-3, 7, 8], [0, 0, 1]])


def ply(path, form, faces=0, cut=0):
    head = f"ply\nformat {form} 1.0\ncomment c\nelement vertex 4\nproperty uchar red\nproperty float x\nproperty float y\n"
    head += f"property double z\nelement face {faces}\nproperty list uchar int vertex_indices\nend_header\n"
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


@pytest.mark.parametrize(
    "text",
    ["0.5 1 2\n3 -4 5\n.001 7 8\n0 0 1", "# x y z r\n.5,1,2,9\n3,-4,5,9\n.001,7,8,9\n0,0,1,9\n"],
)
def test_text(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    np.testing.assert_allclose(load_points(tmp_path / "a.txt"), POINTS)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.xyz", b"", "is empty"),
        ("a.xyz", b"# nothing\n", "holds no points"),
        ("a.txt", b"1 2\n3 4\n", "has 2 numbers a line"),
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
    np.save(path, np.array([[{}] * 3]), allow_pickle=True)
    with pytest.raises(MeshError, match="Python objects"):
        load_points(path)
    with pytest.raises(MeshError, match="no such file"):
        load_points(tmp_path / "b.npy")
