"""Mesh files: every format whole, every way a file is broken, and the normalisation of clouds."""

from __future__ import annotations

import io
import pathlib
import struct
import zipfile

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.geometry.mesh import Mesh, MeshError
from jax3dret.geometry.meshes import EXTENSIONS, load_mesh
from jax3dret.geometry.normalize import normalize_points

trimesh = pytest.importorskip("trimesh")

# A tetrahedron with a right angle at the origin: no two coordinates alike, so an axis swap or a
# flip shows.
VERTICES = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


POINTERS = {
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 381\n": "a Git LFS pointer",
    "version https://git-lfs.github.com/spec/v1\r\noid sha256:0\r\n": "a Git LFS pointer",
    "version https://hawser.github.com/spec/v1\noid sha256:0\n": "run `git lfs pull`",
    "/annex/objects/SHA256E-s381--00.stl\n": "a git-annex pointer, not the file",
}


def corners(mesh: Mesh) -> np.ndarray:
    """Triangles as sorted corner lists, so that two meshes compare without regard to vertex or face
    order.
    """
    triangles = np.asarray(mesh.vertices)[np.asarray(mesh.faces)]
    return np.array(sorted(sorted(map(tuple, t)) for t in np.round(triangles, 5).tolist()))


def volume(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


def off(vertices=VERTICES, faces=FACES) -> str:
    lines = ["OFF", f"{len(vertices)} {len(faces)} 0", *(" ".join(map(str, v)) for v in vertices)]
    return "\n".join([*lines, *(" ".join(map(str, [len(f), *f])) for f in faces)]) + "\n"


def write(folder: pathlib.Path, name: str, content: str | bytes) -> pathlib.Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def export(folder: pathlib.Path, name: str, subdivisions: int = 3) -> pathlib.Path:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    return write(folder, name, sphere.export(file_type=name.rsplit(".", 1)[1]))


def reason(path: pathlib.Path, **options) -> str:
    with pytest.raises(MeshError) as caught:
        load_mesh(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    return message[len(f"{path}: ") :]


@pytest.mark.parametrize("suffix", [e for e in EXTENSIONS if e != ".gltf"])
def test_every_format_gives_the_same_triangles(tmp_path, suffix):
    mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
    path = write(tmp_path, f"part{suffix.upper()}", mesh.export(file_type=suffix[1:]))
    got = load_mesh(path)
    assert got.vertices.dtype == np.float64 and got.faces.dtype == np.int32
    assert got.vertices.shape == (4, 3) and got.faces.shape == (4, 3)
    np.testing.assert_allclose(corners(got), corners(Mesh(VERTICES, FACES)), atol=1e-5)
    assert volume(got) == pytest.approx(1.0)  # positive: faces still turn outwards


def test_gltf_with_its_buffer_and_without(tmp_path):
    for name, content in (
        trimesh.Trimesh(VERTICES, FACES, process=False).export(file_type="gltf").items()
    ):
        write(tmp_path, name, content)
    (path,) = tmp_path.glob("*.gltf")
    np.testing.assert_allclose(corners(load_mesh(path)), corners(Mesh(VERTICES, FACES)), atol=1e-5)
    for buffer in tmp_path.glob("*.bin"):
        buffer.unlink()
    assert reason(path)


@pytest.mark.parametrize("suffix", ["glb", "3mf"])
def test_scenes_are_merged_with_their_transforms(tmp_path, suffix):
    scene = trimesh.Scene()
    box = trimesh.creation.box()
    for x in (0.0, 10.0):
        scene.add_geometry(
            box, geom_name="box", transform=trimesh.transformations.translation_matrix([x, 0, 0])
        )
    got = load_mesh(write(tmp_path, f"two.{suffix}", scene.export(file_type=suffix)))
    assert len(got.faces) == 24
    np.testing.assert_allclose(np.ptp(got.vertices, axis=0), [11, 1, 1], atol=1e-5)


@pytest.mark.parametrize("suffix", ["off", "obj", "stl", "ply", "glb", "3mf"])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path, suffix, fraction):
    whole = export(tmp_path, f"whole.{suffix}").read_bytes()
    cut = whole[: int(len(whole) * fraction)]
    if suffix == "obj":
        # OBJ announces no counts: a cut is seen where it leaves no faces or half a line, so cut
        # inside a face line.
        at = cut.rfind(b"\nf ")
        cut = whole[: at + 5] if at >= 0 else cut
    reason(write(tmp_path, f"cut.{suffix}", cut))


def test_files_that_are_no_meshes(tmp_path):
    (tmp_path / "x.obj").mkdir()
    assert "is a folder" in reason(tmp_path / "x.obj")
    assert "no such file" in reason(tmp_path / "none.off")
    assert "unknown mesh format '.mtl'; use one of .off" in reason(write(tmp_path, "a.mtl", "x"))
    assert "is a STEP file, which is not read; open it in FreeCAD" in reason(tmp_path / "a.STP")
    page = "<!DOCTYPE html>\n<html><body>404</body></html>"
    for suffix in EXTENSIONS:
        assert "is empty" in reason(write(tmp_path, f"empty{suffix}", b""))
        assert "HTML page" in reason(write(tmp_path, f"page{suffix}", page))
        for text, said in POINTERS.items():
            assert said in reason(write(tmp_path, f"pointer{suffix}", text))
        reason(write(tmp_path, f"noise{suffix}", np.random.default_rng(0).bytes(4096)))
        reason(write(tmp_path, f"zeros{suffix}", bytes(4096)))
    assert "no faces" in reason(write(tmp_path, "comment.obj", "# nothing here\n"))


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path, "secret.off", off())

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    assert "permission denied" in reason(path)


def test_size_limit_is_checked_before_reading(tmp_path, monkeypatch):
    path = tmp_path / "huge.stl"
    with path.open("wb") as file:
        file.truncate(2_000_000_001)  # sparse: takes no space
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda self: pytest.fail("was read"))
    assert "has 2,000,000,001 bytes, more than the limit of 1,073,741,824 (max_bytes)" in reason(
        path
    )
    assert "limit of 10 " in reason(write(tmp_path, "small.off", off()), max_bytes=10)


def test_a_zip_that_unpacks_too_large(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", b" " * 3_000_000)
    path = write(tmp_path, "bomb.3mf", buffer.getvalue())
    assert "unpacks to 3,000,000 bytes" in reason(path, max_bytes=1_000_000)


@pytest.mark.parametrize("suffix", ["ply", "glb"])
def test_point_clouds(tmp_path, suffix):
    cloud = trimesh.PointCloud(np.random.default_rng(0).normal(size=(812, 3)))
    content = (
        cloud.export(file_type="ply")
        if suffix == "ply"
        else trimesh.Scene([cloud]).export(file_type="glb")
    )
    message = reason(write(tmp_path, f"chair.{suffix}", content))
    assert message == "has 812 vertices but no faces (a point cloud?); a triangle mesh is needed"


def test_contents_that_make_no_surface(tmp_path):
    nan = VERTICES.copy()
    nan[2, 1] = np.nan
    assert "1 of 4 vertices are not finite (first: vertex 2)" in reason(
        write(tmp_path, "nan.off", off(nan))
    )
    huge = VERTICES.astype(object)
    huge[1, 0] = "1e999"
    assert "not finite" in reason(write(tmp_path, "inf.off", off(huge)))
    assert "refers to vertex 4, but there are 4" in reason(
        write(tmp_path, "range.off", off(VERTICES, [[0, 1, 4]]))
    )
    assert "refers to vertex -1" in reason(
        write(tmp_path, "minus.off", off(VERTICES, [[0, 1, -1]]))
    )
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n"
    assert "a vertex that does not exist" in reason(write(tmp_path, "range.obj", text))
    assert "zero area" in reason(write(tmp_path, "flat.off", off(VERTICES, [[0, 1, 1], [2, 2, 2]])))
    line = np.outer(np.arange(4), [0.1, 0.2, 0.3])
    assert "zero area" in reason(write(tmp_path, "line.off", off(line)))
    assert "zero area" in reason(write(tmp_path, "dot.off", off(np.full((4, 3), 0.1))))
    assert "no faces" in reason(write(tmp_path, "edges.off", off(VERTICES, [[0, 1], [1, 2]])))
    assert load_mesh(write(tmp_path, "tiny.off", off(VERTICES * 1e-30))).faces.shape == (4, 3)
    assert load_mesh(write(tmp_path, "far.off", off(VERTICES + 1e6))).faces.shape == (4, 3)
    assert load_mesh(write(tmp_path, "big.off", off(VERTICES * 1e200))).faces.shape == (4, 3)


def test_compressed_gltf_is_named(tmp_path):
    text = b'{"asset":{"version":"2.0"},"extensionsRequired":["KHR_draco_mesh_compression"]}'
    header = struct.pack("<4sII", b"glTF", 2, 20 + len(text)) + struct.pack(
        "<I4s", len(text), b"JSON"
    )
    assert "KHR_draco_mesh_compression" in reason(write(tmp_path, "draco.glb", header + text))


def test_nothing_of_the_parser_is_heard(tmp_path, caplog, capfd, recwarn):
    for name, content in {
        "a.obj": "f 1 2 3\n",
        "b.ply": "ply\nend_header",
        "c.glb": b"glTF" + bytes(40),
    }.items():
        reason(write(tmp_path, name, content))
    assert not caplog.records and not recwarn.list
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_normalize_points_against_its_wrong_relatives():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(500, 3)) * [1.0, 2.0, 5.0] + [10, -20, 30]
    points[:50] += 8  # mean, median and box centre differ
    got, centroid, scale = normalize_points(points)
    reference = np.array([p - points.mean(0) for p in points])
    radius = max(float(np.sqrt((p * p).sum())) for p in reference)
    assert got.dtype == np.float32 and centroid.dtype == np.float64 and isinstance(scale, float)
    np.testing.assert_allclose(got, reference / radius, atol=1e-6)
    np.testing.assert_allclose(centroid, points.mean(0))
    assert scale == pytest.approx(radius, rel=1e-12)
    np.testing.assert_allclose(centroid + scale * got, points, atol=1e-5)
    # Box centre, largest coordinate, root mean square: all differ on this cloud.
    box = (points.max(0) + points.min(0)) / 2
    assert np.abs(centroid - box).max() > 0.1
    assert not np.isclose(scale, np.abs(reference).max()) and not np.isclose(
        scale, np.sqrt((reference**2).sum(1).mean())
    )
    again, _, one = normalize_points(got)
    assert one == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(again, got, atol=1e-6)
    far, _, _ = normalize_points(points * 1e-3 + 1e6)  # a float32 mean would lose every digit here
    np.testing.assert_allclose(far, got, atol=1e-5)
    vast, _, _ = normalize_points(points * 1e200)  # its squares overflow float64
    np.testing.assert_allclose(vast, got, atol=1e-6)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (np.zeros((0, 3)), "at least one row"),
        (np.zeros((4, 2)), "at least one row"),
        (np.full((4, 3), 0.1), "in one place"),
        (np.array([[0, 0, np.nan], [1, 1, 1]]), "1 of 2 points are not finite"),
    ],
)
def test_normalize_points_refuses(unchecked, points, said):
    with pytest.raises(DataError, match=said):
        normalize_points(points)
