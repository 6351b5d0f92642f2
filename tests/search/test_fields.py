"""INRs and meshes in one index, asked with an INR and with a mesh."""

from __future__ import annotations

import logging

import pytest
from models.fields.fields_of import small
from models.fields.meshes_of import box, quick, write_off
from search.toy import _write

from jax3dret.inputs.item import Item
from jax3dret.models.fields import architectures, fill_store
from jax3dret.models.fields.field_store import FieldStore, writing
from jax3dret.models.fields.fill_store import Candidate, Plan
from jax3dret.models.fields.fit_meshes import Job
from jax3dret.search import gallery
from jax3dret.search.query import open_gallery
from jax3dret.tasks.inret import experiment


def config_of_fields():
    """INRet's task with encoders of a few numbers, for small triplanes of distances."""
    config = experiment.defaults()
    config.architectures, config.functions = ("triplane",), ("udf",)
    described = architectures.describe(small("triplane"))
    described.pop("name")
    config.inrs.triplane = {key: described[key] for key in ("levels", "width", "planes")}
    config.inrs.triplane.update(resolution=2, decoder={"hidden": 4, "depth": 1})
    config.lattice.resolution = 4
    config.loss.update(alignment=False)
    del config.evals.retrieval
    config.model = {
        "name": "jax3dret.models.field_encoders.inr_encoder:InrEncoder",
        "mlp_hidden": (4,),
        "mlp_out": 4,
        "grid_out": 4,
        "grid_layers": 1,
    }
    return config


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run of INRet, a store of three boxes, a folder with the mesh of the second one."""
    folder = tmp_path_factory.mktemp("inrs")
    _write(folder / "run", experiment, config_of_fields(), 0)
    meshes = {n: box(1, 1, n) for n in (1, 2, 4)}
    with writing(folder / "store") as store:
        items = [Candidate(f"{n}.off", str(n), mesh, up_axis="z") for n, mesh in meshes.items()]
        # One at a time, as the mesh is lifted: one program.
        list(fill_store.fill(store, items, Plan((quick(function="udf"),)), at_once=1))
    write_off(folder / "meshes" / "two.off", meshes[2])
    write_off(folder / "meshes" / "broken.off", meshes[2]).write_text("OFF\n")
    return folder


def test_inrs_are_found_by_an_inr_and_by_a_mesh(place, monkeypatch, caplog):
    monkeypatch.setattr(Job, "of", lambda field, function, preset: quick(field, function))
    caplog.set_level(logging.INFO, "jax3dret")
    names = [f"{n}.off.triplane.udf.safetensors" for n in (1, 2, 4)]
    # What is no INR, and one that is cut short, are skipped with their reasons.
    (place / "store" / "cut.safetensors").write_bytes(
        (place / "store" / names[0]).read_bytes()[:-7]
    )
    gone = place / "store" / names[2]
    gone.rename(place / "gone")
    sources = [place / "store", place / "meshes"]
    built = gallery.build(sources, place / "index", weights=place / "run")
    assert (built.items, built.skipped) == (3, 3)
    skipped = (place / "index" / "skipped.json").read_text()
    assert "it is cut short" in skipped and "broken.off" in skipped
    assert f'{names[2]}",\n  "reason": "is missing; the manifest of its store' in skipped
    (place / "gone").rename(gone)
    built = gallery.build(sources, place / "index")
    assert (built.items, built.added, built.skipped) == (4, 1, 2)
    assert "1 meshes were fitted to INRs on the way" in caplog.text
    opened = open_gallery(place / "index")
    assert sorted(opened.index.ids) == sorted([*names, "two.off"])
    caplog.clear()
    by_inr, by_mesh = opened.query(
        [Item.of(place / "store" / names[1]), Item.of(place / "meshes" / "two.off")], 4
    )
    # The mesh is that of the second INR: fitted to the same numbers, it is found beside it.
    for answer in (by_inr, by_mesh):
        found = answer["results"]
        assert {each["id"] for each in found[:2]} == {names[1], "two.off"}
        assert found[1]["score"] == pytest.approx(1, abs=1e-5)
        assert found[2]["score"] < found[1]["score"] - 1e-7
    assert "1 meshes were fitted to INRs on the way" in caplog.text
    # Nothing has changed: nothing is fitted or embedded again.
    again = gallery.build(sources, place / "index")
    assert (again.items, again.embedded) == (4, 0)


def test_a_store_is_whole(place):
    FieldStore(place / "store").check()
