"""INRs as an input: which rows, which INRs are refused, meshes fitted on the way."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from models.fields.fields_of import small
from models.fields.meshes_of import box, quick, sheet, write_off

from jax3dret.core.types import ConfigError, DataError, Loaded
from jax3dret.inputs import choose, describe, loading
from jax3dret.inputs.field import FieldInput
from jax3dret.inputs.item import Item
from jax3dret.models.fields import architectures
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.field_file import write_field
from jax3dret.models.fields.fit_meshes import Job
from jax3dret.search.prepare import prepare, prepare_all


def fields_of(name: str) -> str:
    described = architectures.describe(small(name))
    described.pop("name")
    return json.dumps({name: described})


READS = FieldInput(("triplane_sdf", "triplane_udf"), 4, "float32", inrs=fields_of("triplane"))


def field_of(name="triplane", function="sdf", **changes) -> Field:
    architecture = architectures.from_description(
        {**architectures.describe(small(name)), **changes}
    )
    variables = jax.tree.map(np.asarray, architecture.init(jax.random.key(0)))
    return Field(architecture, function, variables, about={"source": "x"})


@pytest.fixture
def quick_fits(monkeypatch):
    """Presets that take no time, and the kinds of the batches that are fitted."""
    monkeypatch.setattr(Job, "of", lambda field, function, preset: quick(field, function))
    monkeypatch.setattr("jax3dret.geometry.watertight.available", lambda: False)


def test_a_file_is_loaded_as_a_field(tmp_path):
    path = tmp_path / "a.safetensors"
    write_field(path, field_of())
    item = Item.of(path)
    assert loading.kind_of(item) == "field" and loading.extensions_of(("field",)) == (
        ".safetensors",
    )
    loaded = loading.load(item)
    assert loaded.kind == "field" and loaded.up_axis == "" and loaded.value.function == "sdf"
    assert choose.choose({"inr": READS}, "field", name="a") == "inr"
    made = prepare(item, READS)
    assert set(made.row) == {"triplane_sdf/rows", "triplane_sdf/planes"}
    assert made.key == item.digest() and made.kind == "field"
    # Of weights that are no INR, what they are is said.
    safetensors.numpy.save_file({"w": np.zeros(2, np.float32)}, str(path))
    with pytest.raises(DataError, match="a safetensors file of 1 arrays and no INR"):
        prepare(item, READS)


def test_inrs_without_an_encoder_are_refused_by_kind_and_size():
    rng = np.random.default_rng(0)

    def row(field):
        return READS.row(Loaded("field", field, "a.safetensors"), rng)

    assert row(field_of(function="udf")).keys() == {"triplane_udf/rows", "triplane_udf/planes"}
    for field, says in [
        (field_of("hashgrid"), "of the kind 'hashgrid_sdf'.*encoders for triplane_sdf.*Distil it"),
        (field_of(function="occ"), "of the kind 'triplane_occ'; did you mean 'triplane_"),
        (field_of(width=2), r"triplane_sdf/rows is \[12, 4\], the encoder's \[18, 4\]. Distil"),
        (field_of(decoder={"hidden": 8}), r"rows is \[18, 8\]"),
    ]:
        with pytest.raises(DataError, match=f"^a.safetensors: .*{says}") as caught:
            row(field)
        assert "\n" not in str(caught.value)


def test_it_is_described_and_restored():
    described = describe.describe(READS)
    assert describe.restore(described, where="x") == READS
    with pytest.raises(ConfigError):
        describe.restore({**described, "preset": 3}, where="x")


def test_meshes_are_fitted_on_the_way(tmp_path, quick_fits):
    """A mesh among INRs: fitted in this process, alike wherever it lies; one without a volume by
    its distance; one that cannot be fitted is skipped with its reason.
    """
    write_field(tmp_path / "a.safetensors", field_of())
    for name, mesh in (("b", box(1, 1, 2)), ("c", box(1, 1, 2)), ("flat", sheet())):
        write_off(tmp_path / f"{name}.off", mesh)
    line = "OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n"
    (tmp_path / "line.off").write_text(line)
    names = ["a.safetensors", "b.off", "c.off", "flat.off", "line.off"]
    items = [Item.of(tmp_path / name) for name in names]
    found = list(prepare_all(items, READS, known=frozenset(), jobs=1))
    kinds = [each.kind for each in found]
    assert kinds == ["field", "mesh", "mesh", "mesh", ""]
    assert [sorted(each.row)[0].split("/")[0] for each in found[:4]] == [
        "triplane_sdf",
        "triplane_sdf",
        "triplane_sdf",
        "triplane_udf",
    ]
    np.testing.assert_array_equal(
        found[1].row["triplane_sdf/planes"], found[2].row["triplane_sdf/planes"]
    )
    assert found[4].reason and "\n" not in found[4].reason
    alone = prepare(items[1], READS)
    np.testing.assert_array_equal(
        alone.row["triplane_sdf/planes"], found[1].row["triplane_sdf/planes"]
    )
    with pytest.raises(DataError, match=r"line\.off: "):
        prepare(items[4], READS)
