"""Data sets of INRs: what a record holds, seeded choices, interrupted builds, shapes without a
volume.
"""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from models.fields.meshes_of import box, quick, sheet, write_off

from data_pipelines import build as driver
from data_pipelines.inr_store import inr_store
from data_pipelines.inr_store.choice import Place, choose, read_places
from data_pipelines.inr_store.inr_store import InrStore, InrStoreConfig
from data_pipelines.mesh_folder import mesh_folder
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.source import open_source
from jax3dret.models.fields import fill_store
from jax3dret.models.fields.field_records import FieldRecords
from jax3dret.models.fields.field_store import FieldStore

JOBS = (quick("triplane", "udf"), quick("triplane", "sdf"))


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Four shapes of two classes, one of them flat; two INRs each take no time."""
    monkeypatch.setattr(mesh_folder, "NUM_POINTS", 40)
    monkeypatch.setattr(InrStoreConfig, "jobs", lambda self: JOBS)
    monkeypatch.setattr("jax3dret.geometry.watertight.available", lambda: False)
    # One shape at a time, always: one program for each kind of INR.
    monkeypatch.setattr("jax3dret.models.fields.fit_meshes.at_once", lambda jobs: 1)
    monkeypatch.setattr(inr_store, "_config", _few_points)
    parts = tmp_path / "parts"
    for split in ("train", "test"):
        write_off(parts / split / "box" / f"{split}.off", box(1, 1, 2 + (split == "test")))
    write_off(parts / "train" / "thin" / "flat.off", sheet())
    write_off(parts / "test" / "thin" / "slab.off", box(1, 0.2, 1))
    return parts


_config = inr_store._config


def _few_points(*args, **options):
    return _config(*args, **{**options, "num_points": 50})


def name_of(parts) -> str:
    return f"inr_store/mesh_folder-{mesh_folder.MeshFolder.config_of(parts)}.triplane.sdf+udf"


def test_records_hold_the_inrs_and_true_values(small, tmp_path, monkeypatch):
    out = tmp_path / "out"
    name = name_of(small)
    # Killed in the second split: what is fitted is not fitted again.
    with monkeypatch.context() as patched:
        real = fill_store.fit_meshes.fit_meshes

        def killed(shapes, *args, **options):
            if "slab" in str(shapes[0].about["source"]):
                raise KeyboardInterrupt
            return real(shapes, *args, **options)

        patched.setattr(fill_store.fit_meshes, "fit_meshes", killed)
        with pytest.raises(KeyboardInterrupt):
            driver.build(name, data_dir=out, manual_dir=small)
    assert driver.find(name, out) is None
    (work,) = (out / ".work").iterdir()
    assert len(FieldStore(work)) == 5  # but one of three shapes has both
    path = driver.build(name, data_dir=out, manual_dir=small)
    manifest = json.loads((path / "manifest.json").read_text())
    records = FieldRecords.from_manifest(manifest)
    assert manifest["name"] == name and manifest["up_axis"] == "y"
    assert manifest["source"]["made_from"]["name"].startswith("mesh_folder/parts-")
    assert manifest["splits"]["train"]["ids"] == ["train/box/train.off", "train/thin/flat.off"]
    flat = "train/thin/flat.off"
    assert records.without == {"triplane_sdf": frozenset([flat]), "sdf": frozenset([flat])}
    train = open_source(name, "train", out)
    first, second = train[0], train[1]
    assert train.class_names == ("box", "thin") and list(train.labels) == [0, 1]
    assert first["points"].shape == (50, 3) and first["udf"].shape == (50,)
    np.testing.assert_array_equal(np.abs(first["sdf"]), first["udf"])
    assert (first["sdf"] < 0).any() and np.isnan(second["sdf"]).all()
    assert np.isnan(second["triplane_sdf"]).all() and np.isfinite(second["triplane_udf"]).all()
    assert np.linalg.norm(first["vertices"], axis=1).max() == pytest.approx(1)
    # Meshes are z up: the long side of the box, z in its file, is y here.
    assert np.ptp(first["vertices"], axis=0).argmax() == 1
    # A field of a record is the INR of the store, to the last bit.
    store = FieldStore(work)
    for function in ("sdf", "udf"):
        field = records.field(first, "triplane", function)
        stored = store.read(f"train/box/train.off.triplane.{function}.safetensors")
        assert field.architecture == stored.architecture and field.function == function
        for mine, theirs in zip(
            jax.tree.leaves(field.variables), jax.tree.leaves(stored.variables), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)
    # Prepared: the source and the raw files are needed no more; other raw files are refused.
    assert driver.build(name, data_dir=out) == path
    write_off(small / "train" / "box" / "new.off", box(3, 1, 1))
    with pytest.raises(DataError, match="was prepared from 4 files"):
        driver.build(name, data_dir=out, manual_dir=small)


def test_names_spell_out_a_configuration():
    named = InrStore.config_named
    assert named("ldraw") is None and InrStore.made_from("ldraw") == "mcb"
    found = named("psb-coarse1.hashgrid+octree.occ+sdf.fast")
    assert found.source == "psb/coarse1" and found.preset == "fast"
    assert dict(found.fields) == {"hashgrid": ("sdf", "occ"), "octree": ("sdf", "occ")}
    assert named("pix3d2").source == "pix3d2" and named("pix3d2").functions == inr_store.ALL
    assert InrStore.made_from("mesh_folder-a-b1") == "mesh_folder/a-b1"
    for name, says in [
        ("psb.hashgird", "did you mean 'hashgrid'"),
        ("psb.hashgrid.sfd", "did you mean 'sdf'"),
        ("psb.hashgrid.sdf.slow", "no preset 'slow'"),
        ("psb.a.b.c.d", "the name is SOURCE"),
        (".hashgrid", "the name is SOURCE"),
    ]:
        with pytest.raises(ConfigError, match=says):
            named(name)
    with pytest.raises(ConfigError, match="unknown data set 'nothing'"):
        driver.build("inr_store/nothing")


def places_of(**counts: int) -> list[Place]:
    return [
        Place("train" if i % 3 else "test", i, f"{label}/{i}", label)
        for label, count in counts.items()
        for i in range(count)
    ]


def test_a_seeded_choice_pools_the_splits():
    places = places_of(a=12, b=12, c=11, d=12)
    limits = {"train": 6, "test": 6}
    found = choose(places, per_class=limits, classes=2, seed=1)
    labels = {place.label for part in found.values() for place in part}
    assert len(labels) == 2 and "c" not in labels  # it has too few
    for split, part in found.items():
        assert [sum(p.label == label for p in part) for label in sorted(labels)] == [6, 6]
        assert {p.split for p in part} == {"train", "test"}, split
        assert part == sorted(part, key=places.index)
    ids = [p.identity for part in found.values() for p in part]
    assert len(set(ids)) == 24
    assert found == choose(places, per_class=limits, classes=2, seed=1)
    shuffled = choose(places[::-1], per_class=limits, classes=2, seed=1)
    assert {s: set(p) for s, p in shuffled.items()} == {s: set(p) for s, p in found.items()}
    seeds = [choose(places, per_class=limits, classes=2, seed=s)["train"] for s in range(6)]
    assert len({tuple(p.identity for p in part) for part in seeds}) == 6
    named = choose(places, per_class={"train": 11}, classes=("c",))
    assert len(named["train"]) == 11 and {p.label for p in named["train"]} == {"c"}


def test_choices_that_cannot_be_made(caplog):
    places = places_of(a=12, b=2)
    whole = choose(places, per_class={})
    assert sum(map(len, whole.values())) == 14 and set(whole) == {"test", "train"}
    assert all(p.split == split for split, part in whole.items() for p in part)
    limits = {"train": 3, "test": 3}
    assert {p.label for p in choose(places, per_class=limits)["train"]} == {"a"}
    assert "1 of 2 classes have fewer than 6 records" in caplog.text
    with pytest.raises(DataError, match="2 classes of 6 records or more are needed; 1 of 2"):
        choose(places, per_class=limits, classes=2)
    with pytest.raises(DataError, match="'b' has 2 records, 6 are needed"):
        choose(places, per_class=limits, classes=("b",))
    with pytest.raises(ConfigError, match="no class 'z'"):
        choose(places, per_class={}, classes=("z",))


def test_places_of_a_manifest():
    manifest = {
        "class_names": ["a", "b"],
        "splits": {
            "train": {"ids": ["x", "y"], "labels": [1, 0]},
            "test": {"ids": [], "labels": []},
        },
    }
    assert read_places(manifest) == [Place("train", 0, "x", "b"), Place("train", 1, "y", "a")]
