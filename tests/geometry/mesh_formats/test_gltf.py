"""glTF 2.0 against what its specification says: numbers, primitives, nodes, skins, extensions, and
every way a buffer is not there. Right answers are sizes of a 2 x 1 x 3 box, worked out by hand.
"""

from __future__ import annotations

import copy
import json
import pathlib
import struct

import numpy as np
import pytest
from geometry.mesh_formats.gltf_writer import BOX, FACES, QUADS, Asset, pack

from jax3dret.geometry.mesh import Mesh, MeshError
from jax3dret.geometry.mesh_formats import gltf
from jax3dret.geometry.mesh_formats.unusable import Unusable
from jax3dret.geometry.meshes import load_mesh
from jax3dret.inputs.item import Item

LIMIT = 1 << 24


def read(asset: Asset, limit: int = LIMIT) -> gltf.Reading:
    return gltf.read(pathlib.Path("a.glb"), asset.glb(), limit)


def refusal(asset: Asset, limit: int = LIMIT) -> str:
    with pytest.raises(Unusable) as caught:
        read(asset, limit)
    return str(caught.value)


def area(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return 0.5 * float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


def volume(mesh: Mesh) -> float:
    """Positive where faces turn outwards."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


def box(**node) -> Asset:
    """One box below one node."""
    asset = Asset()
    asset.node(mesh=asset.mesh(asset.primitive()), **node)
    return asset


# Numbers.


@pytest.mark.parametrize("stride", [0, 16])
@pytest.mark.parametrize(
    ("dtype", "stored", "meant"),
    [
        ("i1", [-128, -127, 0, 127], [-1, -1, 0, 1]),
        ("u1", [0, 51, 102, 255], [0, 0.2, 0.4, 1]),
        ("i2", [-32768, -32767, 0, 32767], [-1, -1, 0, 1]),
        ("u2", [0, 13107, 26214, 65535], [0, 0.2, 0.4, 1]),
    ],
)
def test_normalized_integers_are_fractions_and_others_are_not(dtype, stored, meant, stride):
    rows = np.array([[s, stored[0], stored[(i * i) % 4]] for i, s in enumerate(stored)])
    fractions = dict(zip(stored, meant, strict=True))
    expected = np.array([[fractions[int(v)] for v in row] for row in rows])
    for normalized, wanted in ((True, expected), (False, rows)):
        asset = Asset()
        position = asset.numbers(rows, dtype, stride, normalized=normalized)
        primitive = {
            "attributes": {"POSITION": position},
            "indices": asset.numbers([0, 1, 2], "u1"),
        }
        asset.node(mesh=asset.mesh(primitive))
        np.testing.assert_allclose(read(asset).mesh.vertices, wanted, atol=1e-12)


def test_sparse_accessors_replace_rows_of_numbers_or_of_zeros():
    for base in (True, False):
        asset = Asset()
        position = asset.numbers(BOX)
        described = asset.document["accessors"][position]
        if not base:
            del described["bufferView"]
        new = np.array([[5.0, 6, 7], [8, 9, 10]], "<f4")
        described["sparse"] = {
            "count": 2,
            "indices": {"bufferView": asset.view(bytes([1, 6])), "componentType": 5121},
            "values": {"bufferView": asset.view(new.tobytes())},
        }
        indices = asset.numbers(FACES.ravel(), "u4")
        primitive = {"attributes": {"POSITION": position}, "indices": indices}
        asset.node(mesh=asset.mesh(primitive))
        expected = BOX.copy() if base else np.zeros_like(BOX)
        expected[[1, 6]] = new
        np.testing.assert_array_equal(read(asset).mesh.vertices, expected)
        described["sparse"]["indices"]["bufferView"] = asset.view(bytes([6, 1]))
        assert "out of order" in refusal(asset)


def test_doubles_and_a_view_into_the_middle():
    asset = Asset()
    position = asset.numbers(np.concatenate([np.full((5, 3), 9.0), BOX]), "f8")
    asset.document["accessors"][position] |= {"byteOffset": 5 * 24, "count": 8}
    asset.node(
        mesh=asset.mesh(
            {"attributes": {"POSITION": position}, "indices": asset.numbers(FACES.ravel(), "u1")}
        )
    )
    assert volume(read(asset).mesh) == pytest.approx(6)


def test_numbers_that_reach_past_their_buffer():
    asset = box()
    asset.document["accessors"][0]["count"] = 9
    assert "accessor 0 needs 108 bytes of bufferView 0, which has 96" in refusal(asset)
    asset = box()
    asset.document["bufferViews"][1]["byteLength"] = 4096
    assert "bufferView 1 ends at byte 4,192 of a buffer of 168" in refusal(asset)
    asset = box()
    asset.document["accessors"][0] |= {"count": 10**12}
    assert "more than the limit" in refusal(asset)


# Primitives.


def strip_of(quad):
    return [quad[0], quad[1], quad[3], quad[2]]


def test_triangles_strips_and_fans_in_one_mesh_keep_all_faces_and_their_winding():
    asset = Asset()
    shared = asset.numbers(BOX)
    parts = [(4, FACES[:4]), (5, strip_of(QUADS[2])), (5, strip_of(QUADS[3]))]
    parts += [(6, QUADS[4]), (6, QUADS[5])]
    primitives = [
        {
            "attributes": {"POSITION": shared},
            "indices": asset.numbers(np.ravel(corners), "u2"),
            "mode": mode,
        }
        for mode, corners in parts
    ]
    asset.node(mesh=asset.mesh(*primitives))
    mesh, counts = read(asset)
    assert len(mesh.faces) == 12 and len(mesh.vertices) == 8  # shared vertices stay shared
    assert area(mesh) == pytest.approx(22) and volume(mesh) == pytest.approx(6)
    assert counts.triangles == 5


def test_a_cube_as_one_strip_of_fourteen_corners():
    cube = np.array([[1, 1, 1], [0, 1, 1], [1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0]])
    cube = np.concatenate([cube, [[1, 0, 0]]])
    strip = [3, 2, 6, 7, 4, 2, 0, 3, 1, 6, 5, 4, 1, 0]
    asset = Asset()
    asset.node(mesh=asset.mesh(asset.primitive(cube, strip, mode=5)))
    mesh = read(asset).mesh
    assert len(mesh.faces) == 12 and area(mesh) == pytest.approx(6)
    assert volume(mesh) == pytest.approx(1)  # 0 or another number if every second face is turned


def test_primitives_without_indices():
    corners = BOX[FACES].reshape(-1, 3)
    asset = Asset()
    asset.node(mesh=asset.mesh(asset.primitive(corners, None)))
    assert volume(read(asset).mesh) == pytest.approx(6)
    asset = Asset()
    fans = [asset.primitive(BOX[quad], None, mode=6) for quad in QUADS]
    asset.node(mesh=asset.mesh(*fans))
    assert volume(read(asset).mesh) == pytest.approx(6)


def test_points_and_lines_are_counted_and_make_no_faces():
    asset = Asset()
    loose = [asset.primitive(BOX, None, mode=mode) for mode in (0, 1, 2, 3)]
    bare = {"attributes": {"NORMAL": asset.numbers(BOX)}}
    asset.node(mesh=asset.mesh(asset.primitive(), *loose, bare))
    asset.node(mesh=0, translation=[5, 0, 0])
    mesh, counts = read(asset)
    assert len(mesh.faces) == 24 and len(mesh.vertices) == 16
    assert (counts.triangles, counts.points, counts.lines, counts.bare) == (2, 2, 6, 2)
    asset.document["meshes"][0]["primitives"] = loose
    assert "64 vertices but no faces (primitives of lines: 6, of points: 2)" in refusal(asset)


def test_corners_that_make_no_whole_triangles():
    cases = [
        (FACES.ravel()[:-1], 4, "35 corners, which make no whole triangles"),
        ([0, 1], 5, "2 corners"),
        ([0, 1, 8], 4, "refers to vertex 8, but there are 8"),
        ([0, 1, 65535, 2, 3], 5, "restarts a strip"),
        ([0, 1, 2], 7, "the mode 7"),
    ]
    for corners, mode, said in cases:
        asset = Asset()
        asset.node(mesh=asset.mesh(asset.primitive(BOX, corners, mode=mode)))
        assert said in refusal(asset), said


# Nodes.


def test_nodes_scale_then_turn_then_move_and_a_matrix_is_stored_by_columns():
    half = np.sqrt(0.5)
    # A quarter turn about z takes x to y.
    asset = Asset()
    mesh = asset.mesh(asset.primitive())
    child = asset.node(mesh=mesh, scale=[2, 1, 1], rotation=[0, 0, half, half])
    asset.node(children=[child], translation=[10, 0, 0])
    points = BOX * [2, 1, 1]
    points = np.stack([10 - points[:, 1], points[:, 0], points[:, 2]], 1)
    np.testing.assert_allclose(read(asset).mesh.vertices, points, atol=1e-6)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, -1, 0], [2, 0, 0], [0, 0, 1]])
    matrix[:3, 3] = [10, 0, 0]
    asset = box(matrix=matrix.T.ravel().tolist())
    np.testing.assert_allclose(read(asset).mesh.vertices, points, atol=1e-6)
    asset.document["nodes"][0]["scale"] = [1, 1, 1]
    assert "a matrix and T R S" in refusal(asset)


def test_a_mirroring_node_turns_faces_over():
    for scale in ([-1, 1, 1], [1, -2, 1], [-1, -1, -1]):
        mesh = read(box(scale=scale)).mesh
        assert volume(mesh) == pytest.approx(6 * abs(np.prod(scale))), scale
    assert volume(read(box(scale=[-1, -1, 1])).mesh) == pytest.approx(6)


def test_which_scene_is_read():
    asset = Asset()
    mesh = asset.mesh(asset.primitive())
    for x in (0, 10, 20):
        asset.node(mesh=mesh, translation=[x, 0, 0])

    def starts():
        return sorted({float(x) for x in read(asset).mesh.vertices[::8, 0]})

    assert starts() == [0, 10, 20]  # no scenes: all roots
    asset.document["scenes"] = [{"nodes": [1]}, {"nodes": [0, 2]}]
    assert starts() == [10]
    asset.document["scene"] = 1
    assert starts() == [0, 20]
    asset.document["scenes"][1] = {}
    assert "places none of its 1 meshes" in refusal(asset)
    asset.document["scene"] = "one"
    assert "scenes['one']" in refusal(asset)


def test_nodes_that_form_no_trees():
    asset = box(children=[1])
    asset.node(children=[2])
    asset.node(children=[1])
    assert "node 1 is a child of node 2 and of another" in refusal(asset)
    asset = box()
    asset.node(children=[2])
    asset.node(children=[1])
    assert "2 nodes form a cycle" in refusal(asset)
    asset = box(children=[0])
    assert "of itself" in refusal(asset)
    asset = Asset()
    asset.node(children=[asset.node(mesh=asset.mesh(asset.primitive()))])
    asset.document["scenes"] = [{"nodes": [1, 0]}]
    assert "which is below node 1" in refusal(asset)
    asset.document["scenes"] = [{"nodes": [7]}]
    assert "nodes[7], but it has 2" in refusal(asset)


def test_deep_hierarchies_need_no_deep_calls():
    asset = box(translation=[1, 0, 0])
    for depth in range(1500):
        asset.node(children=[depth], translation=[1, 0, 0])
    assert read(asset).mesh.vertices[0].tolist() == [1501, 0, 0]


# Skins and morph targets.


def skinned(weights, joints, *, inverse=None, dtype="f4", **node) -> Asset:
    """The box under two joints: node 1 at (0, 0, 0), node 2 turned a quarter about z at x = 2."""
    half = float(np.sqrt(0.5))
    asset = Asset()
    primitive = asset.primitive()
    primitive["attributes"] |= {
        "JOINTS_0": asset.numbers(joints, "u1"),
        "WEIGHTS_0": asset.numbers(weights, dtype, normalized=dtype != "f4"),
    }
    skin = {"joints": [1, 2]}
    if inverse is not None:
        skin["inverseBindMatrices"] = asset.numbers(inverse.transpose(0, 2, 1))
    asset.document["skins"] = [skin]
    asset.node(mesh=asset.mesh(primitive), skin=0, **node)
    asset.node(children=[2])
    asset.node(translation=[2, 0, 0], rotation=[0, 0, half, half])
    return asset


def bind(x):
    matrices = np.tile(np.eye(4), (2, 1, 1))
    matrices[1, 0, 3] = -x  # from the mesh to the joint: the joint stood at x when it was bound
    return matrices


def test_a_skin_places_its_mesh_and_the_node_of_the_mesh_does_not():
    far = BOX[:, 0] > 1
    joints = np.zeros((8, 4), int)
    weights = np.zeros((8, 4))
    joints[:, 1] = 1
    weights[np.arange(8), far.astype(int)] = 1  # the far end follows the turned joint
    expected = BOX.copy()
    expected[far] = np.stack([2 - BOX[far, 1], np.zeros(far.sum()), BOX[far, 2]], 1)
    for node in ({}, {"translation": [50, 60, 70], "scale": [3, 3, 3]}):
        mesh = read(skinned(weights, joints, inverse=bind(2), **node)).mesh
        np.testing.assert_allclose(mesh.vertices, expected, atol=1e-6)
    # Without inverse bind matrices they are the identity: the far end turns about the origin.
    expected[far] = np.stack([2 - BOX[far, 1], np.full(far.sum(), 2.0), BOX[far, 2]], 1)
    np.testing.assert_allclose(read(skinned(weights, joints)).mesh.vertices, expected, atol=1e-6)


def test_weights_mix_joints_as_fractions_of_their_sum():
    joints = np.tile([0, 1, 0, 0], (8, 1))
    turned = np.stack([2 - BOX[:, 1], BOX[:, 0] - 2, BOX[:, 2]], 1)
    for dtype, weights in (("f4", [0.5, 0.5, 0, 0]), ("u1", [51, 51, 0, 0]), ("u2", [9, 9, 0, 0])):
        asset = skinned(np.tile(weights, (8, 1)), joints, inverse=bind(2), dtype=dtype)
        np.testing.assert_allclose(read(asset).mesh.vertices, (BOX + turned) / 2, atol=1e-6)
    asset = skinned(np.zeros((8, 4)), joints)
    assert "8 vertices of node 0 follow no joint" in refusal(asset)
    asset = skinned(np.tile([1, 0, 0, 0], (8, 1)), joints + 2)
    assert "names a joint that skin 0 does not have" in refusal(asset)
    asset = box(skin=0)
    asset.document["skins"] = [{"joints": [0]}]
    assert "no JOINTS_0" in refusal(asset)


def test_a_mirroring_joint_turns_faces_over():
    asset = skinned(np.tile([1, 0, 0, 0], (8, 1)), np.zeros((8, 4)))
    asset.document["nodes"][1]["scale"] = [1, 1, -1]
    assert volume(read(asset).mesh) == pytest.approx(6)


def test_morph_targets_move_by_the_weights_of_the_node_before_those_of_the_mesh():
    asset = Asset()
    raised, pushed = np.zeros((8, 3)), np.zeros((8, 3))
    raised[:, 2] = BOX[:, 2] / 3  # the upper end, by 1
    pushed[:, 0] = BOX[:, 0]
    targets = [{"POSITION": asset.numbers(raised)}, {}, {"POSITION": asset.numbers(pushed)}]
    mesh = asset.mesh(asset.primitive(targets=targets))
    asset.node(mesh=mesh)
    assert np.ptp(read(asset).mesh.vertices, axis=0).tolist() == [2, 1, 3]
    asset.document["meshes"][0]["weights"] = [0.5, 1, 0]
    assert np.ptp(read(asset).mesh.vertices, axis=0).tolist() == [2, 1, 3.5]
    asset.document["nodes"][0]["weights"] = [0, 0, 1]
    assert np.ptp(read(asset).mesh.vertices, axis=0).tolist() == [4, 1, 3]
    asset.document["nodes"][0]["weights"] = [1]
    assert "3 morph targets for 1 weights" in refusal(asset)


# Extensions.


def test_an_extension_that_a_file_requires_is_known_or_named():
    asset = box()
    for name in ("KHR_mesh_quantization", "KHR_materials_unlit", "KHR_texture_transform"):
        asset.document["extensionsRequired"] = [name]
        assert read(asset).counts.triangles == 1
    asset.document["extensionsRequired"] = ["KHR_materials_unlit", "VENDOR_shape", "ACME_shape"]
    assert "requires ACME_shape, VENDOR_shape," in refusal(asset)
    asset.document |= {"extensionsRequired": [], "extensionsUsed": ["VENDOR_shape"]}
    assert read(asset).counts.triangles == 1


@pytest.mark.parametrize("required", [True, False])
def test_instances_place_the_mesh_of_a_node_and_not_its_children(required):
    half = float(np.sqrt(0.5))
    asset = box(translation=[100, 0, 0], children=[1])
    asset.node(mesh=0, translation=[0, 50, 0])
    attributes = {
        "TRANSLATION": asset.numbers([[0, 0, 0], [10, 0, 0], [20, 0, 0]]),
        "ROTATION": asset.numbers([[0, 0, 0, 1], [0, 0, half, half], [0, 0, 0, 1]]),
        "SCALE": asset.numbers([[1, 1, 1], [1, 1, 1], [-2, 1, 1]]),
    }
    asset.document["nodes"][0]["extensions"] = {
        "EXT_mesh_gpu_instancing": {"attributes": attributes}
    }
    if required:
        asset.document["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    mesh, counts = read(asset)
    assert len(mesh.faces) == 48 and counts.triangles == 4
    assert volume(mesh) == pytest.approx(6 * (1 + 1 + 2 + 1), rel=1e-5)
    boxes = mesh.vertices.reshape(4, 8, 3)
    np.testing.assert_allclose(boxes.min(axis=1)[:, 0], [100, 109, 116, 100], atol=1e-5)
    np.testing.assert_allclose(np.ptp(boxes[1], axis=0), [1, 2, 3], atol=1e-5)
    attributes["SCALE"] = asset.numbers([[1, 1, 1]])
    assert "attributes of [1, 3] instances" in refusal(asset)


def test_instances_cannot_fill_the_memory():
    asset = box()
    translation = asset.numbers(np.zeros((10_000, 3)))
    asset.document["nodes"][0]["extensions"] = {
        "EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": translation}}
    }
    assert "places its meshes so often" in refusal(asset, limit=1_000_000)
    asset = box()
    for _ in range(900):
        asset.node(mesh=0)
    assert "places its meshes so often" in refusal(asset, limit=300_000)


def test_what_a_file_hides_is_not_read():
    asset = box(children=[1])
    asset.node(mesh=0, translation=[0, 50, 0], children=[2])
    asset.node(mesh=0, translation=[0, 50, 0])
    hide = {"KHR_node_visibility": {"visible": False}}
    asset.document["nodes"][1]["extensions"] = hide
    mesh, counts = read(asset)
    assert len(mesh.faces) == 12 and (counts.triangles, counts.hidden) == (1, 2)
    asset.document["nodes"][0]["extensions"] = hide
    assert "hides all its 3 primitives (KHR_node_visibility)" in refusal(asset)


@pytest.mark.parametrize("name", ["KHR_draco_mesh_compression", "EXT_meshopt_compression"])
def test_compressed_numbers_are_named_and_their_fallback_is_read(name):
    asset = box()
    asset.document["extensionsUsed"] = [name]
    primitive = asset.document["meshes"][0]["primitives"][0]
    view = asset.document["bufferViews"][0]
    (primitive if "draco" in name else view)["extensions"] = {name: {"bufferView": 0}}
    assert volume(read(asset).mesh) == pytest.approx(6)
    bare = copy.deepcopy(asset)
    if "draco" in name:
        del bare.document["accessors"][0]["bufferView"]
    else:
        bare.document["buffers"].append(
            {"byteLength": 96, "extensions": {name: {"fallback": True}}}
        )
        bare.document["bufferViews"][0]["buffer"] = 1
    assert f"compressed with {name}" in refusal(bare)
    asset.document["extensionsRequired"] = [name]
    assert f"compressed with {name}" in refusal(asset)


# The file and its buffers.


def said(path: pathlib.Path, **options) -> str:
    with pytest.raises(MeshError) as caught:
        load_mesh(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert "Error" not in message and "(" not in message.split(":")[0]
    return message[len(f"{path}: ") :]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("my%20part%20%C3%A9.bin", "my part é.bin"),
        ("a%23b.bin", "a#b.bin"),
        ("my part é.bin", "my part é.bin"),
        ("50%25.bin", "50%.bin"),
        ("raw%20name.bin", "raw%20name.bin"),  # written as it is called
        ("sub/../part.bin", "part.bin"),
    ],
)
def test_uris_are_decoded_in_reading_and_in_the_key(tmp_path, uri, name):
    asset = box()
    path = asset.gltf(tmp_path, uri=uri)
    (tmp_path / name).write_bytes(asset.blob)
    assert area(load_mesh(path)) == pytest.approx(22)
    before = Item.of(path).digest()
    (tmp_path / name).write_bytes(bytes(asset.blob[:-1]) + b"\1")
    assert Item.of(path).digest() != before


def test_buffers_that_are_not_there_are_named(tmp_path):
    asset = box()
    outside = tmp_path / "outside.bin"
    outside.write_bytes(asset.blob)
    folder = tmp_path / "in"
    folder.mkdir()
    for uri, reason in {
        "gone%20a.bin": "buffer 'gone a.bin' is not there",
        "../outside.bin": "buffer '../outside.bin' lies outside",
        "a/../../outside.bin": "lies outside",
        "%2e%2e/outside.bin": "buffer '../outside.bin' lies outside",
        str(outside): "lies outside",
        "https://example.org/a.bin": "is a https: address, which is not fetched",
        "file:///etc/hosts": "is a file: address",
    }.items():
        assert reason in said(asset.gltf(folder, uri=uri))
    path = asset.gltf(folder, uri="a.bin")
    (folder / "a.bin").write_bytes(asset.blob[:100])
    assert said(path).startswith("buffer 'a.bin' has 100 of 168 bytes")
    (folder / "a.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "buffer 'a.bin' is a Git LFS pointer" in said(path)
    (folder / "a.bin").unlink()
    (folder / "a.bin").mkdir()
    assert "buffer 'a.bin' is not a file" in said(path)
    (folder / "a.bin").rmdir()
    with (folder / "a.bin").open("wb") as file:
        file.truncate(2_000_000)
    assert "more than the limit of 1,000,000" in said(path, max_bytes=1_000_000)


def test_a_link_in_the_folder_is_in_the_folder(tmp_path):
    asset = box()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "0a1b").write_bytes(asset.blob)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.bin").symlink_to("../store/0a1b")
    assert area(load_mesh(asset.gltf(tmp_path / "in", uri="a.bin"))) == pytest.approx(22)


def test_data_uris(tmp_path):
    asset = box()
    path = asset.gltf(tmp_path)
    assert area(load_mesh(path)) == pytest.approx(22)
    whole = asset.document["buffers"][0]["uri"]
    for uri, right in {
        whole.rstrip("="): True,
        whole.replace("data:", "DATA:"): True,
        whole[:-8]: False,
        whole.replace("AAAA", "A*AA", 1): False,
        "data:nothing": False,
        "data:," + "".join(f"%{byte:02x}" for byte in asset.blob): True,
    }.items():
        asset.document["buffers"][0]["uri"] = uri
        path.write_bytes(asset.text)
        if right:
            assert area(load_mesh(path)) == pytest.approx(22)
        else:
            assert "buffer 0" in said(path)


def test_a_glb_with_a_buffer_beside_it_is_keyed_with_it(tmp_path):
    asset = box()
    asset.document["buffers"][0] = {"byteLength": len(asset.blob), "uri": "a.bin"}
    path = tmp_path / "a.glb"
    path.write_bytes(pack(asset.text, None))
    (tmp_path / "a.bin").write_bytes(asset.blob)
    assert area(load_mesh(path)) == pytest.approx(22)
    before = Item.of(path).digest()
    (tmp_path / "a.bin").write_bytes(bytes(asset.blob[::-1]))
    assert Item.of(path).digest() != before


def test_either_extension_holds_either_form(tmp_path):
    (tmp_path / "a.gltf").write_bytes(box().glb())
    assert area(load_mesh(tmp_path / "a.gltf")) == pytest.approx(22)
    path = box().gltf(tmp_path, "a.glb")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert area(load_mesh(path)) == pytest.approx(22)


def test_containers_that_are_broken(tmp_path):
    path = tmp_path / "a.glb"
    whole = box().glb()
    swapped = bytearray(whole)
    swapped[16:20] = b"BIN\0"
    long = bytearray(whole)
    struct.pack_into("<I", long, 12, len(whole))
    short = box().glb()[:-4]
    for data, reason in {
        bytes(swapped): "first chunk is not JSON",
        bytes(long): f"chunk 0 announces {len(whole):,} bytes",
        short: "truncated?",
        box().glb(version=1): "is binary glTF 1; convert it to glTF 2.0",
        whole[:10]: "less than a glTF header",
        b"{}": "no glTF",
        b'{"asset": {"version": "1.0"}}': "is glTF 1.0",
        b'{"asset": {"version": "2.1", "minVersion": "2.1"}}': "is glTF 2.1",
        b"[1]": "begins neither",
        b'{"asset": ': "JSON is broken",
        pack(box().text, None): "buffer 0 has",
    }.items():
        path.write_bytes(data)
        assert reason in said(path), reason
    # Chunks of unknown kinds are passed over, and so are bytes behind the announced length.
    unknown = struct.pack("<I4s", 4, b"XXXX") + bytes(4)
    path.write_bytes(box().glb(more=unknown) + b"behind")
    assert area(load_mesh(path)) == pytest.approx(22)
    asset = box()
    asset.document["buffers"][0]["byteLength"] = len(asset.blob) + 400
    path.write_bytes(asset.glb())
    assert "buffer 0 has 168 of 568 bytes" in said(path)


def test_json_of_any_other_build_is_refused_in_one_line(tmp_path):
    """Every value of a whole document replaced by some of another kind, or left out: a mesh or a
    reason, never a parser's words.
    """
    asset = skinned(np.tile([1, 0, 0, 0], (8, 1)), np.zeros((8, 4)), inverse=bind(2))
    asset.document |= {"scene": 0, "scenes": [{"nodes": [0, 1]}]}
    asset.document["meshes"][0]["weights"] = []
    path = tmp_path / "a.glb"
    asset.glb()
    document, blob = json.loads(asset.text), bytes(asset.blob)

    def places(value, at=()):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield (*at, key)
            if isinstance(inner, dict | list):
                yield from places(inner, (*at, key))

    refused = 0
    others = (None, "x", [], -1, {}, 1.5, [None])
    for number, at in enumerate(places(document)):
        for other in (True, others[number % 7], others[(number + 2) % 7]):
            changed = copy.deepcopy(document)
            owner = changed
            for key in at[:-1]:
                owner = owner[key]
            if other is True:
                del owner[at[-1]]
            else:
                owner[at[-1]] = other
            path.write_bytes(pack(json.dumps(changed).encode(), blob))
            try:
                load_mesh(path)
            except MeshError as error:
                refused += 1
                text = str(error)
                assert "\n" not in text and "not a readable" not in text, (at, other, text)
                assert "Error" not in text and "NoneType" not in text, (at, other, text)
    assert refused > 150
