"""Stores filled: interrupted and gone on with, copies, changed and failed meshes."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from models.fields.meshes_of import box, quick, sheet
from models.fields.test_field_store import content

from jax3dret.models.fields import fill_store, fit_meshes
from jax3dret.models.fields.field_store import FieldStore, writing
from jax3dret.models.fields.fill_store import Candidate, Plan

PLAN = Plan((quick(function="udf"),), seed=2)


def candidates(*sides: int, names=None) -> list[Candidate]:
    names = names or [f"{n}.off" for n in sides]
    return [
        Candidate(name, f"digest{n}", box(1, 1, n), about={"source_sha256": str(n)})
        for name, n in zip(names, sides, strict=True)
    ]


def fill(folder, items, plan=PLAN, **options):
    with writing(folder) as store:
        return list(fill_store.fill(store, items, plan, at_once=2, **options))


@pytest.fixture
def counted(monkeypatch):
    """The shapes of each call of fit_meshes; every fit is one batch of two, so that one program is
    compiled.
    """
    calls = []
    real = fit_meshes.fit_meshes

    def counting(shapes, jobs, **options):
        calls.append([shape.about["source"] for shape in shapes])
        return real(shapes, jobs, **options)

    monkeypatch.setattr(fit_meshes, "fit_meshes", counting)
    return calls


def test_an_interrupted_store_equals_one_that_was_not(tmp_path, counted, monkeypatch):
    whole = tmp_path / "whole"
    with writing(whole):
        shutil.copy(whole / "manifest.json", tmp_path / "empty.json")
    results = fill(whole, candidates(1, 2, 3, 4))
    assert [(r.name, r.files, r.fitted) for r in results] == [
        (f"{n}.off", (f"{n}.off.triplane.udf.safetensors",), 1) for n in (1, 2, 3, 4)
    ]
    assert counted == [["1.off", "2.off"], ["3.off", "4.off"]]
    # Interrupted in the second batch, after its first file.
    with monkeypatch.context() as patched:
        add = fill_store.StoreWriter.add
        count = [0]

        def killed(self, file, field):
            if file.startswith("4"):
                raise KeyboardInterrupt
            count[0] += 1
            add(self, file, field)

        patched.setattr(fill_store.StoreWriter, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path / "part", candidates(1, 2, 3, 4))
    assert count == [3] and len(FieldStore(tmp_path / "part")) == 3
    results = fill(tmp_path / "part", candidates(1, 2, 3, 4))
    assert [r.fitted for r in results] == [0, 0, 0, 1]
    # Killed before the manifest was written: the files are taken up.
    shutil.copytree(tmp_path / "part", tmp_path / "killed")
    (tmp_path / "killed" / "manifest.json").write_text((tmp_path / "empty.json").read_text())
    assert [r.fitted for r in fill(tmp_path / "killed", candidates(1, 2, 3, 4))] == [0] * 4
    assert content(tmp_path / "killed") == content(whole)
    assert counted[-1] == ["4.off"]  # fitted alone, and yet to the last bit as beside another
    assert content(tmp_path / "part") == content(whole)
    # Nothing is left to do: no mesh is needed.
    bare = [c._replace(mesh=None) for c in candidates(1, 2, 3, 4)]
    assert [r.fitted for r in fill(tmp_path / "part", bare)] == [0] * 4
    assert content(tmp_path / "part") == content(whole)


def test_equal_meshes_are_fitted_once_and_moved_ones_copied(tmp_path, counted):
    twice = candidates(1, 1, 2, names=["a.off", "b.off", "c.off"])
    assert [r.fitted for r in fill(tmp_path / "s", twice)] == [1, 1, 1]
    assert counted == [["a.off", "c.off"]]
    store = FieldStore(tmp_path / "s")
    first, second = (store.read(f"{name}.off.triplane.udf.safetensors") for name in "ab")
    assert (first.about["source"], second.about["source"]) == ("a.off", "b.off")
    table = "grid", "table"
    np.testing.assert_array_equal(
        first.variables[table[0]][table[1]], second.variables[table[0]][table[1]]
    )
    moved = candidates(2, names=["new/c.off"])[0]._replace(mesh=None)
    (result,) = fill(tmp_path / "s", [moved])
    assert result.files == ("new/c.off.triplane.udf.safetensors",) and len(counted) == 1
    # A changed mesh, and what it was before under another name: no longer there to copy.
    changed = [
        *candidates(3, names=["c.off"]),
        *candidates(5, names=["d.off"]),
        *candidates(2, names=["e.off"]),
    ]
    results = fill(tmp_path / "s", changed)
    assert [r.fitted for r in results] == [1, 1, 1] and counted[-1] == ["c.off", "d.off"]
    field = FieldStore(tmp_path / "s").read("e.off.triplane.udf.safetensors")
    assert field.about["source_sha256"] == "2"


def test_a_mesh_whose_old_name_was_taken_is_fitted_by_the_next_run(tmp_path, counted):
    fill(tmp_path / "s", candidates(1, 2, names=["a.off", "c.off"]))
    taken = candidates(3, 1, names=["a.off", "b.off"])  # what was a.off is b.off now
    _, moved = fill(tmp_path / "s", taken)
    # Nothing that is remembered: the next run is to try again.
    assert "was replaced meanwhile" in moved.reasons[0] and moved.fits == ("",)
    found = fill(tmp_path / "s", taken)
    assert [each.reasons for each in found] == [("",), ("",)] and found[1].fitted == 1


def test_a_name_that_is_too_long_for_a_file_is_refused_before_it_is_fitted(tmp_path, counted):
    long, short = fill(tmp_path / "s", candidates(1, 2, names=["a" * 240 + ".off", "c.off"]))
    assert long.files == (None,) and "its name is too long" in long.reasons[0]
    assert short.reasons == ("",) and counted == [["c.off"]]


def test_what_fails_is_told_and_not_stored(tmp_path, counted, monkeypatch):
    monkeypatch.setattr("jax3dret.geometry.watertight.available", lambda: False)
    plan = Plan((quick(function="udf"), quick(function="sdf")), seed=2)
    items = [
        Candidate("bad.off", "", reason="is empty"),
        Candidate("sheet.off", "flat", sheet()),
        *candidates(1),
    ]
    bad, flat, good = fill(tmp_path / "s", items, plan)
    assert bad.files == (None, None) and bad.reasons == ("is empty",) * 2
    assert flat.files[0] is not None and flat.files[1] is None
    assert flat.reasons[0] == "" and "encloses no volume" in flat.reasons[1]
    assert None not in good.files and good.fitted == 2
    assert len(FieldStore(tmp_path / "s")) == 3
    # What is known to fail is not tried again.
    known = {flat.fits[1]: flat.reasons[1]}
    again = fill(tmp_path / "s", items, plan, failed=known)
    assert [r.fitted for r in again] == [0, 0, 0] and again[1].reasons == flat.reasons
    assert len(counted) == 1


def test_large_meshes_are_fitted_in_smaller_batches(tmp_path, counted, monkeypatch):
    monkeypatch.setattr(fill_store, "_FACES", 12)  # those of one box
    results = fill(tmp_path / "s", candidates(1, 2))
    assert [r.fitted for r in results] == [1, 1] and counted == [["1.off"], ["2.off"]]


def test_other_settings_are_another_fit(tmp_path, counted):
    fill(tmp_path / "s", candidates(1, 2))
    assert [r.fitted for r in fill(tmp_path / "s", candidates(1, 2), PLAN)] == [0, 0]
    other = dataclasses.replace(PLAN, seed=3)
    assert [r.fitted for r in fill(tmp_path / "s", candidates(1, 2), other)] == [1, 1]
    assert len(FieldStore(tmp_path / "s")) == 2 and len(counted) == 2
