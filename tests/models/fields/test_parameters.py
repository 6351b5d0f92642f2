"""Variables as named arrays and as vectors, and the INRs of records."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from models.fields.fields_of import cells_of_a_ball, small

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.fields import architectures
from jax3dret.models.fields.field_records import FieldRecords
from jax3dret.models.fields.parameters import Layout, layout_of, named_arrays, tree_of


def variables_of(name: str, cells=None):
    architecture = small(name)
    cells = cells_of_a_ball() if cells is None else cells
    structure = architecture.structure(cells) if name == "octree" else None
    return architecture, jax.tree.map(np.asarray, architecture.init(jax.random.key(2), structure))


def test_names_and_lists():
    tree = {"decoder": {"layers": [{"weight": np.ones(2)}] * 11}, "grid": {"table": np.zeros(3)}}
    names = list(named_arrays(tree))
    assert names == sorted(names) and "decoder/layers/10/weight" in names
    assert jax.tree.structure(tree_of(named_arrays(tree))) == jax.tree.structure(tree)
    assert named_arrays({"grid": None, "decoder": {"x": np.ones(1)}}).keys() == {"decoder/x"}
    for bad in ({"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}, {"a/0": 1, "a/2": 2}):
        with pytest.raises(DataError):
            tree_of(bad)


@pytest.mark.parametrize("name", ["siren", "hashgrid", "triplane"])
def test_a_vector_of_all_parameters(name):
    architecture, variables = variables_of(name)
    layout = layout_of(architecture)
    vectors = layout.flatten(variables)
    arrays = named_arrays(variables)
    assert set(vectors) == {"parameters"} and vectors["parameters"].dtype == np.float32
    assert layout.size == len(vectors["parameters"]) == sum(a.size for a in arrays.values())
    for entry in layout.described()["parameters"]:  # as a reader without this class takes it
        start = entry["offset"]
        part = vectors["parameters"][start : start + arrays[entry["name"]].size]
        np.testing.assert_array_equal(part.reshape(entry["shape"]), arrays[entry["name"]])
    restored = Layout.from_description(json.loads(json.dumps(layout.described())))
    assert restored == layout
    for mine, theirs in zip(
        jax.tree.leaves(restored.restore(vectors["parameters"])),
        jax.tree.leaves(variables),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)
    for wrong in (vectors["parameters"][:-1], np.append(vectors["parameters"], np.float32(0))):
        with pytest.raises(DataError, match="an INR of"):
            layout.restore(wrong)
    with pytest.raises(DataError, match="the layout names"):
        layout.flatten({"decoder": {"x": np.ones(3)}})


def test_trees_of_different_size_share_a_layout():
    architecture, first = variables_of("octree")
    _, second = variables_of("octree", cells_of_a_ball()[:5])
    layout = layout_of(architecture, first["structure"])
    assert layout.varies and layout.size == 0
    assert layout == layout_of(architecture, second["structure"])
    layout = Layout.from_description(json.loads(json.dumps(layout.described())))
    for variables in (first, second):
        vectors = layout.flatten(variables)
        found = layout.restore(*(vectors[k] for k in ("parameters", "structure", "shapes")))
        assert jax.tree.structure(found) == jax.tree.structure(variables)
        for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(variables), strict=True):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
    with pytest.raises(DataError):
        layout.restore(vectors["parameters"], vectors["structure"], vectors["shapes"][:-1])


def manifest_of(*names: str, functions=("sdf", "udf"), without=None) -> dict:
    described = {}
    for name in names:
        architecture, variables = variables_of(name)
        layout = layout_of(architecture, variables.get("structure"))
        described[name] = {
            "description": architectures.describe(architecture),
            "layout": layout.described(),
        }
    inrs = {"functions": list(functions), "architectures": described, "without": without or {}}
    return json.loads(json.dumps({"name": "inr_store/x", "source": {"inrs": inrs}}))


def test_the_field_of_a_record():
    found = FieldRecords.from_manifest(
        manifest_of("siren", "octree", without={"siren_udf": ["a"], "udf": ["a"]})
    )
    assert found.features("siren", "sdf") == ("siren_sdf",)
    assert found.features("octree", "udf") == ("octree_udf", "octree_structure", "octree_shapes")
    architecture, variables = variables_of("octree")
    vectors = found.layouts["octree"].flatten(variables)
    record = {
        "id": "a",
        "octree_udf": vectors["parameters"],
        "octree_structure": vectors["structure"],
        "octree_shapes": vectors["shapes"],
        "siren_udf": np.full(found.layouts["siren"].size, np.nan, np.float32),
    }
    field = found.field(record, "octree", "udf")
    assert field.architecture == architecture and field.function == "udf"
    np.testing.assert_array_equal(field.variables["grid"]["table"], variables["grid"]["table"])
    assert found.has("b", "siren", "udf") and not found.has("a", "siren", "udf")
    with pytest.raises(DataError, match="a: has no INR 'siren_udf'"):
        found.field(record, "siren", "udf")
    with pytest.raises(ConfigError, match=r"architecture 'octre'; did you mean 'octree'"):
        found.features("octre", "udf")
    with pytest.raises(ConfigError, match="function 'occ'"):
        found.features("octree", "occ")
    with pytest.raises(DataError, match="a: an INR of 3 numbers"):
        found.field({**record, "siren_sdf": np.ones(3, np.float32)}, "siren", "sdf")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda m: m["source"].pop("inrs"), ConfigError),
        (lambda m: m["source"]["inrs"].pop("without"), DataError),
        (lambda m: m["source"]["inrs"]["architectures"]["siren"].pop("layout"), DataError),
        (lambda m: m["source"]["inrs"]["architectures"]["siren"].pop("description"), DataError),
        (
            lambda m: m["source"]["inrs"]["architectures"]["siren"]["description"].update(name="x"),
            DataError,
        ),
    ],
)
def test_manifests_without_inrs_or_damaged(change, kind):
    manifest = manifest_of("siren")
    change(manifest)
    with pytest.raises(kind, match=r"^inr_store/x: ") as caught:
        FieldRecords.from_manifest(manifest)
    assert "\n" not in str(caught.value)
