"""Encoders from a workdir and from their copy; files to points."""

import json
import shutil

import numpy as np
import pytest
from search.toy import tetrahedron

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.points import UpAxis
from jax3dret.geometry.meshes import normalize_points
from jax3dret.inputs.shape_inputs import Points
from jax3dret.search import encode
from jax3dret.search.prepare import content_key, prepare, prepare_all


@pytest.fixture(scope="module")
def encoder(trained):
    return encode.open_encoder(trained.path)


@pytest.fixture(scope="module")
def clouds():
    return np.random.default_rng(0).normal(size=(5, 64, 3)).astype(np.float32)


def test_embeddings_are_those_of_the_task_whatever_the_batch(trained, encoder, clouds):
    whole = encoder.embed(clouds)
    assert whole.dtype == np.float32 and whole.shape == (5, encoder.width)
    np.testing.assert_allclose(whole, trained.embed(clouds), atol=2e-5)
    np.testing.assert_allclose(encoder.embed(clouds, batch_size=2), whole, atol=2e-5)
    assert not np.allclose(whole[0], whole[1], atol=1e-3)
    assert encoder.embed(clouds[:0]).shape == (0, encoder.width)
    with pytest.raises(
        DataError,
        match=r"points: float32 \[5, 32, 3\]; this encoder takes float32 \[items, 64, 3\]",
    ):
        encoder.embed(clouds[:, :32])


def test_a_copy_embeds_alike_without_head_pickles_or_places(encoder, clouds, tmp_path):
    encoder.save(tmp_path / "copy")
    copy = encode.load_encoder(tmp_path / "copy")
    assert copy.identity == encoder.identity and copy.meta == encoder.meta
    np.testing.assert_array_equal(copy.embed(clouds), encoder.embed(clouds))
    assert encoder.arrays and not any(name.startswith("params/head") for name in encoder.arrays)
    assert any(name.startswith("model_state/") for name in encoder.arrays)
    assert b"private" not in b"".join(p.read_bytes() for p in (tmp_path / "copy").iterdir())


def test_identity_tells_parameters_apart(encoder, trained_again):
    assert encode.open_encoder(trained_again.path).identity != encoder.identity


def test_not_a_workdir(tmp_path, trained):
    with pytest.raises(ConfigError, match=r"no config.json.*jax3dret.main"):
        encode.open_encoder(tmp_path)
    shutil.copytree(trained.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ConfigError, match="no checkpoints"):
        encode.open_encoder(tmp_path / "run")


def test_a_broken_copy_is_named(encoder, tmp_path):
    encoder.save(tmp_path / "copy")
    model = tmp_path / "copy" / "model.npz"
    whole = model.read_bytes()
    model.write_bytes(whole[:1000])
    with pytest.raises(DataError, match=r"model.npz: cannot be read"):
        encode.load_encoder(tmp_path / "copy")
    np.savez(model, **{k: v for k, v in encoder.arrays.items() if "norm" not in k})
    with pytest.raises(DataError, match="norm.* is absent"):
        encode.load_encoder(tmp_path / "copy")


@pytest.mark.parametrize(
    ("section", "value"),
    [("task", "os"), ("model", {"name": "os:system", "command": "touch owned"})],
)
def test_a_copy_does_not_run_foreign_code(encoder, tmp_path, section, value):
    encoder.save(tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), section: value}))
    with pytest.raises(ConfigError, match="code outside jax3dret"):
        encode.load_encoder(tmp_path / "copy")


def test_points_of_a_mesh_depend_on_its_content_alone(tmp_path):
    a = prepare(tetrahedron(tmp_path / "a.obj"), Points(64), up_axis=None)
    b = prepare(tetrahedron(tmp_path / "deep" / "b.obj"), Points(64), up_axis=None)
    c = prepare(tetrahedron(tmp_path / "c.obj", height=1.01), Points(64), up_axis=None)
    assert a.key == b.key != c.key and a.row.shape == (64, 3) and a.row.dtype == np.float32
    np.testing.assert_array_equal(a.row, b.row)
    assert not np.allclose(a.row, c.row, atol=0.05)


def test_a_cloud_is_normalised_turned_and_subsampled(tmp_path):
    points = np.random.default_rng(0).normal(size=(300, 3)) * [1, 2, 3] + 7
    np.save(tmp_path / "a.npy", np.hstack([points, points]))
    np.savetxt(tmp_path / "a.xyz", points)
    whole = UpAxis("z")({"points": normalize_points(points)[0]}, np.random.default_rng(0))["points"]
    for name in ("a.npy", "a.xyz"):
        got = prepare(tmp_path / name, Points(100), up_axis=None).row
        assert {tuple(p) for p in got.round(4)} <= {tuple(p) for p in whole.round(4)}
        assert len(np.unique(got, axis=0)) == 100
    as_y = prepare(tmp_path / "a.npy", Points(300), up_axis="y").row
    np.testing.assert_allclose(np.sort(as_y, 0), np.sort(normalize_points(points)[0], 0), atol=1e-6)
    assert prepare(tmp_path / "a.npy", Points(500), up_axis="z").row.shape == (500, 3)


def test_the_up_axis_is_part_of_the_key(tmp_path):
    path = tetrahedron(tmp_path / "a.obj")
    assert content_key(path, None) == content_key(path, "z") != content_key(path, "y")


def test_a_gltf_is_keyed_with_its_buffers(tmp_path):
    (tmp_path / "a.gltf").write_text(json.dumps({"buffers": [{"uri": "a.bin", "byteLength": 3}]}))
    (tmp_path / "a.bin").write_bytes(b"one")
    first = content_key(tmp_path / "a.gltf", None)
    assert content_key(tmp_path / "a.gltf", "y") == first
    (tmp_path / "a.bin").write_bytes(b"two")
    assert content_key(tmp_path / "a.gltf", None) != first


def test_worker_processes_give_the_same_in_the_same_order(tmp_path):
    paths = [str(tetrahedron(tmp_path / f"{i}.obj", 1 + i / 10)) for i in range(5)]
    paths.insert(2, str(tmp_path / "missing.obj"))
    known = {content_key(paths[-1], None)}
    alone, together = (
        list(prepare_all(paths, Points(32), up_axis=None, known=known, jobs=jobs))
        for jobs in (1, 2)
    )
    assert [p.key for p in alone] == [p.key for p in together]
    assert together[2].reason == "cannot be read (no such file or directory)" == alone[2].reason
    assert together[-1].row is None and together[-1].key in known
    np.testing.assert_array_equal(alone[0].row, together[0].row)
