"""Encoders from a workdir and from their copy; files to points."""

import json
import shutil

import numpy as np
import pytest
from search.toy import tetrahedron

from jax3dret.core import train as core_train
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data import source
from jax3dret.data.points import UpAxis
from jax3dret.geometry.normalize import normalize_points
from jax3dret.inputs.item import Item
from jax3dret.inputs.points import Points
from jax3dret.search import encode
from jax3dret.search.prepare import prepare, prepare_all
from jax3dret.tasks import recipe
from jax3dret.tasks.ulip2 import finetune


@pytest.fixture(scope="module")
def encoder(trained):
    return encode.open_encoder(trained.path)


@pytest.fixture(scope="module")
def clouds():
    return np.random.default_rng(0).normal(size=(5, 64, 3)).astype(np.float32)


def rows_of(clouds):
    return [{"points": cloud} for cloud in clouds]


def test_embeddings_are_those_of_the_task_whatever_the_batch(trained, encoder, clouds):
    whole = encoder.embed(rows_of(clouds), "shape")
    assert whole.dtype == np.float32 and whole.shape == (5, encoder.width)
    np.testing.assert_allclose(whole, trained.embed(clouds), atol=2e-5)
    one = np.concatenate([encoder.embed(rows_of(clouds[i : i + 1]), "shape") for i in range(5)])
    np.testing.assert_allclose(one, whole, atol=2e-5)
    assert not np.allclose(whole[0], whole[1], atol=1e-3)
    assert encoder.embed([], "shape").shape == (0, encoder.width)
    with pytest.raises(DataError, match=r"shape: rows with points float32\[8, 64, 2\] do not fit"):
        encoder.embed(rows_of(clouds[:, :, :2]), "shape")


def test_opening_makes_no_recipe(trained, encoder, tmp_path, monkeypatch):
    encoder.save(tmp_path / "copy")

    def refuse(*args, **kwargs):
        raise AssertionError("a recipe or its data was asked for")

    monkeypatch.setattr(finetune, "make", refuse)
    monkeypatch.setattr(recipe, "build", refuse)
    monkeypatch.setattr(core_train, "make_state", refuse)
    monkeypatch.setattr(source, "open_source", refuse)
    for opened in (encode.open_encoder(trained.path), encode.load_encoder(tmp_path / "copy")):
        assert opened.identity == encoder.identity


def test_a_copy_embeds_alike_without_head_pickles_or_places(encoder, clouds, tmp_path):
    encoder.save(tmp_path / "copy")
    copy = encode.load_encoder(tmp_path / "copy")
    assert copy.identity == encoder.identity and copy.meta == encoder.meta
    found, expected = (e.embed(rows_of(clouds), "shape") for e in (copy, encoder))
    np.testing.assert_array_equal(found, expected)
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
    np.savez(model, **{k: np.stack([v, v]) for k, v in encoder.arrays.items()})
    with pytest.raises(DataError, match="is .*, not .*: an earlier version wrote the index, or"):
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
    a = prepare(Item.of(tetrahedron(tmp_path / "a.obj")), Points(64))
    b = prepare(Item.of(tetrahedron(tmp_path / "deep" / "b.obj")), Points(64))
    c = prepare(Item.of(tetrahedron(tmp_path / "c.obj", height=1.01)), Points(64))
    assert (
        a.key == b.key != c.key
        and a.row["points"].shape == (64, 3)
        and a.row["points"].dtype == np.float32
    )
    np.testing.assert_array_equal(a.row["points"], b.row["points"])
    # Drawn from the same stream, so that what is nearly equal has nearly equal rows.
    moved = np.abs(a.row["points"] - c.row["points"]).max()
    assert 0 < moved < 0.05


def test_a_cloud_is_normalised_turned_and_subsampled(tmp_path):
    points = np.random.default_rng(0).normal(size=(300, 3)) * [1, 2, 3] + 7
    np.save(tmp_path / "a.npy", np.hstack([points, points]))
    np.savetxt(tmp_path / "a.xyz", points)
    whole = UpAxis("z")({"points": normalize_points(points)[0]}, np.random.default_rng(0))["points"]
    for name in ("a.npy", "a.xyz"):
        got = prepare(Item.of(tmp_path / name), Points(100)).row["points"]
        assert {tuple(p) for p in got.round(4)} <= {tuple(p) for p in whole.round(4)}
        assert len(np.unique(got, axis=0)) == 100
    as_y = prepare(Item.of(tmp_path / "a.npy", "y"), Points(300)).row["points"]
    np.testing.assert_allclose(np.sort(as_y, 0), np.sort(normalize_points(points)[0], 0), atol=1e-6)
    assert prepare(Item.of(tmp_path / "a.npy", "z"), Points(500)).row["points"].shape == (500, 3)


def test_the_up_axis_is_part_of_the_key(tmp_path):
    path = tetrahedron(tmp_path / "a.obj")
    assert Item.of(path).digest() == Item.of(path, "z").digest() != Item.of(path, "y").digest()


def test_a_gltf_is_keyed_with_its_buffers(tmp_path):
    (tmp_path / "a.gltf").write_text(json.dumps({"buffers": [{"uri": "a.bin", "byteLength": 3}]}))
    (tmp_path / "a.bin").write_bytes(b"one")
    first = Item.of(tmp_path / "a.gltf").digest()
    assert Item.of(tmp_path / "a.gltf", "y").digest() == first
    (tmp_path / "a.bin").write_bytes(b"two")
    assert Item.of(tmp_path / "a.gltf").digest() != first


def test_worker_processes_give_the_same_in_the_same_order(tmp_path):
    paths = [str(tetrahedron(tmp_path / f"{i}.obj", 1 + i / 10)) for i in range(5)]
    paths.insert(2, str(tmp_path / "missing.obj"))
    known = {Item.of(paths[-1]).digest()}
    alone, together = (
        list(prepare_all(map(Item.of, paths), Points(32), known=known, jobs=jobs))
        for jobs in (1, 2)
    )
    assert [p.key for p in alone] == [p.key for p in together]
    assert together[2].reason == "cannot be read (no such file or directory)" == alone[2].reason
    assert together[-1].row is None and together[-1].key in known
    np.testing.assert_array_equal(alone[0].row["points"], together[0].row["points"])
