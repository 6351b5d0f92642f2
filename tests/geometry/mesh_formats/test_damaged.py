"""Files that are cut off, or have a byte changed: the right mesh or one line, nothing else."""

import pathlib
import struct

import numpy as np
import pytest
from boxes import FACES, QUADS, VERTICES, area

from jax3dret.geometry.clouds import load_points
from jax3dret.geometry.mesh import MeshError
from jax3dret.geometry.meshes import load_mesh

CUTS, CHANGES = 60, 60  # of each file
V = "".join(f"{x:g} {y:g} {z:g}\n" for x, y, z in VERTICES)
MIXED = [*FACES.tolist()[:6], *QUADS.tolist()[3:]]
BODY = "".join(f"{len(p)} {' '.join(map(str, p))}\n" for p in MIXED)
HEAD = (
    "ply\nformat {} 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
    "element face 9\nproperty list uchar int vertex_indices\nend_header\n"
)


def facet(corners) -> str:
    lines = "".join("vertex {:g} {:g} {:g}\n".format(*corner) for corner in corners)
    return f"facet normal 0 0 1\nouter loop\n{lines}endloop\nendfacet\n"


def binary_ply(form: str, order: str) -> bytes:
    faces = b"".join(bytes([len(p)]) + np.array(p, order + "i4").tobytes() for p in MIXED)
    return HEAD.format(form).encode() + VERTICES.astype(order + "f4").tobytes() + faces


def binary_stl(header: bytes) -> bytes:
    rows = np.zeros(12, [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    rows["v"] = VERTICES[FACES]
    return header.ljust(80) + struct.pack("<I", 12) + rows.tobytes()


FILES = {
    "a.off": f"OFF\n8 9 0\n{V}{BODY}".encode(),
    "stream.off": f"OFF 8 9 0 {V}{BODY}".replace("\n", " ").encode(),
    "ascii.stl": f"solid\n{''.join(map(facet, VERTICES[FACES]))}endsolid\n".encode(),
    "binary.stl": binary_stl(b"made by hand"),
    "solid.stl": binary_stl(b"solid a\nfacet"),
    "ascii.ply": (HEAD.format("ascii") + V + BODY).encode(),
    "little.ply": binary_ply("binary_little_endian", "<"),
    "big.ply": binary_ply("binary_big_endian", ">"),
    "a.obj": (
        "".join(f"v {line}\n" for line in V.splitlines())
        + "".join(f"f {' '.join(f'{i + 1}/1' for i in p)}\n" for p in MIXED)
    ).encode(),
}


def outcome(path: pathlib.Path, content: bytes, load=load_mesh):
    """What a file gives; None where it is refused, as is fit."""
    path.write_bytes(content)
    try:
        return load(path)
    except MeshError as error:
        said = str(error)
        assert said.startswith(f"{path}: ") and said.isprintable() and "not a readable" not in said
        return None


def cuts(size: int) -> list[int]:
    """Lengths to cut a file to: CUTS all over it, and each of the last ones."""
    return [*range(1, size - 8, -(-size // CUTS)), *range(size - 8, size)]


@pytest.mark.parametrize("name", FILES)
def test_cut_anywhere(tmp_path, name):
    """OBJ alone announces nothing: there whatever whole lines are left is a file of its own."""
    whole = FILES[name]
    for cut in cuts(len(whole)):
        mesh = outcome(tmp_path / name, whole[:cut])
        if mesh is not None and name.endswith(".obj"):
            lines = whole[:cut].decode().split("\nf ")[1:]
            assert len(mesh.faces) == sum(max(len(line.split()) - 2, 0) for line in lines)
        elif mesh is not None:
            assert cut >= len(whole) - 2, f"{cut} of {len(whole)} bytes"
            assert len(mesh.faces) == 12


@pytest.mark.parametrize("name", FILES)
def test_a_byte_changed(tmp_path, name):
    whole, rng = FILES[name], np.random.default_rng(7)
    letters = b"\0\n\r -./#\\0129eEfvxn,\x1a\xff"
    for _ in range(CHANGES):
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 3))):
            content[rng.integers(len(content))] = letters[rng.integers(len(letters))]
        mesh = outcome(tmp_path / name, bytes(content))
        if mesh is not None and name in ("binary.stl", "solid.stl"):
            assert len(mesh.faces) == struct.unpack_from("<I", content, 80)[0]
        elif mesh is not None:
            assert np.isfinite(area(mesh)) and mesh.faces.max() < len(mesh.vertices)


@pytest.mark.parametrize("name", ["a.xyz", "b.xyz", "a.npy", "little.ply", "ascii.ply"])
def test_clouds_with_a_byte_changed(tmp_path, name):
    np.save(tmp_path / "array.npy", VERTICES)
    whole = {
        "a.xyz": ("8\n" + V).encode(),
        "b.xyz": ("//X Y Z\n" + V.replace(" ", ";")).encode(),
        "a.npy": (tmp_path / "array.npy").read_bytes(),
        **FILES,
    }[name]
    rng = np.random.default_rng(7)
    for _ in range(CHANGES):
        content = bytearray(whole)
        content[rng.integers(len(content))] = rng.integers(256)
        points = outcome(tmp_path / name, bytes(content), load_points)
        assert points is None or (points.shape[1] == 3 and np.isfinite(points).all())
    for cut in cuts(len(whole)):
        points = outcome(tmp_path / name, whole[:cut], load_points)
        assert points is None or name == "b.xyz" or cut >= len(whole) - 2
