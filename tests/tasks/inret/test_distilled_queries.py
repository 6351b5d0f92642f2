"""Queries that are distilled first: what is compared, kept and left out."""

import logging

import numpy as np
import octahedra
import pytest
from fakes import opener

from jax3dret.core.types import ConfigError, DataError, DataSpec
from jax3dret.models.fields.distillation import Distilled
from jax3dret.tasks.inret import distillation


def at(modality, split):
    return DataSpec("inr_store/octahedra", split, 3, ("hashgrid_sdf",), transforms=(Value(),))


class Value:
    """A record's INR at the origin, which is minus its radius over sqrt(3)."""

    def __call__(self, record, rng):
        field = octahedra.records().field(record, "hashgrid", "sdf")
        radius = -float(field(np.zeros((1, 3), np.float32))[0]) * np.sqrt(3)
        return {"row": np.array([radius, 1 - radius], np.float32), "label": record["label"]}


def embed(batch):
    return {"inr": batch["row"]}


@pytest.fixture
def fits(monkeypatch):
    """A distillation that gives the source itself, but for what it is told to refuse."""
    calls = []

    def distil(oracles, architecture, function, spec, *, seed):
        calls.append([oracle.name for oracle in oracles])
        return [
            Distilled(None, "too thin") if oracle.name == "s/2" else Distilled(oracle.field)
            for oracle in oracles
        ]

    monkeypatch.setattr(distillation, "distil", distil)
    return calls


def test_queries_are_distilled_once_and_compared(tmp_path, fits, caplog):
    source = octahedra.source(tmp_path, split="test")
    make = distillation.make(
        at, opener(source), source="hashgrid_sdf", kind="hashgrid_sdf", preset="fast", at_once=3
    )
    with caplog.at_level(logging.WARNING):
        metrics = make(embed, tmp_path / "out")
    assert fits == [["s/0", "s/1", "s/2"], ["s/3"]]
    assert "1 could not be; the first: s/2: too thin" in caplog.text
    # Rows 0, 1 and 3 ask; each finds the other of its class first, its own left out.
    assert metrics["hit_rate_1"] == 1 and metrics["precision_1"] == 1
    assert metrics["seconds_per_query"] >= metrics["distil_s"] >= 0
    assert (tmp_path / "out" / "result.json").is_file()
    fits.clear()
    again = distillation.make(
        at, opener(source), source="hashgrid_sdf", kind="hashgrid_sdf", preset="fast"
    )
    again(embed, None)
    assert fits == [["s/2"]]  # only what is not there is tried again


def test_nothing_and_bad_choices(tmp_path, monkeypatch):
    source = octahedra.source(tmp_path, split="test")
    monkeypatch.setattr(
        distillation,
        "distil",
        lambda oracles, *_, **__: [Distilled(None, "no surface") for _ in oracles],
    )
    make = distillation.make(
        at, opener(source), source="hashgrid_sdf", kind="hashgrid_sdf", preset="fast"
    )
    with pytest.raises(DataError, match="none could be; the first: s/0: no surface"):
        make(embed, None)
    for changes, says in (
        ({"source": "siren"}, "'siren' is no kind of INR"),
        ({"source": "siren_udf", "kind": "hashgrid_occ"}, "do not tell occ"),
        ({"preset": "fats"}, "did you mean 'fast'"),
        ({"at_once": 0}, "at_once=0"),
    ):
        with pytest.raises(ConfigError, match=says):
            distillation.make(at, opener(source), **changes)
