"""Files of fields: what comes back, equal bytes, and what a foreign or damaged file gets."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from models.fields.fields_of import cells_of_a_ball, small

from jax3dret.core import safetensors_file
from jax3dret.core.types import DataError
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.field_file import read_field, read_header, write_field

ABOUT = {"source": "bolt.stl", "source_sha256": "ab" * 32, "seed": 3, "loss": 1.25e-3, "steps": 10}


def made(name: str, function: str = "sdf") -> Field:
    architecture = small(name)
    structure = architecture.structure(cells_of_a_ball()) if name == "octree" else None
    variables = architecture.init(jax.random.key(1), structure)
    variables = jax.tree.map(np.asarray, variables)
    return Field(architecture, function, variables, (0.1, -2.0, 3e-9), 1 / 3, ABOUT)


@pytest.mark.parametrize("name", ["siren", "hashgrid", "triplane", "octree"])
def test_a_field_comes_back_bit_by_bit(tmp_path, name):
    field, path = made(name, "occ"), tmp_path / "deep" / "a.safetensors"
    write_field(path, field)
    found = read_field(path)
    assert (found.architecture, found.function) == (field.architecture, "occ")
    assert (found.centre, found.scale, found.about) == (field.centre, field.scale, ABOUT)
    assert jax.tree.structure(found.variables) == jax.tree.structure(field.variables)
    for mine, theirs in zip(
        jax.tree.leaves(found.variables), jax.tree.leaves(field.variables), strict=True
    ):
        assert mine.dtype == theirs.dtype and not mine.flags.writeable
        np.testing.assert_array_equal(mine, theirs)
    header = read_header(path)
    assert header["about"] == ABOUT and header["architecture"]["name"] == name


def test_equal_fields_give_equal_bytes_and_others_read_them(tmp_path):
    field = made("triplane")
    write_field(tmp_path / "a.safetensors", field)
    shuffled = {key: field.variables[key] for key in sorted(field.variables, reverse=True)}
    about = dict(reversed(ABOUT.items()))
    again = Field(field.architecture, field.function, shuffled, field.centre, field.scale, about)
    write_field(tmp_path / "b.safetensors", again)
    content = (tmp_path / "a.safetensors").read_bytes()
    assert content == (tmp_path / "b.safetensors").read_bytes()
    assert (8 + int.from_bytes(content[:8], "little")) % 8 == 0
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors", "b.safetensors"]
    # The format's own library is stricter than the reader here: no gap, no other order.
    arrays = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(
        arrays["decoder/layers/0/weight"], field.variables["decoder"]["layers"][0]["weight"]
    )


def rewrite(path, arrays=None, **header):
    """The same file with other arrays or other header values."""
    own, metadata = safetensors_file.load(path)
    changed = {k: v if isinstance(v, str) else json.dumps(v) for k, v in header.items()}
    kept = {k: v for k, v in {**metadata, **changed}.items() if v != ""}
    arrays = {k: np.array(v) for k, v in {**own, **(arrays or {})}.items() if v is not None}
    safetensors_file.save(path, arrays, kept)


WEIGHT = "decoder/layers/0/weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": '"other"'}, r"a safetensors file of \d arrays and no INR"),
        ({"version": 2}, "an INR of version 2; this one reads 1"),
        ({"architecture": {"name": "triplan"}}, "'triplan'; did you mean 'triplane'"),
        ({"architecture": {"name": "triplane", "colour": 1}}, "no field 'colour'"),
        ({"architecture": {"name": "triplane", "width": "4"}}, "triplane.width is '4'"),
        ({"architecture": {"name": "triplane", "width": -4}}, "triplane"),
        ({"architecture": {"name": "siren", "hidden": 5_000_000}}, "hidden=5000000"),
        ({"architecture": {"name": "triplane", "width": 5}}, "has the shape .* its architecture"),
        ({"architecture": [1]}, "'architecture' of its header is no JSON object"),
        ({"architecture": "{"}, "'architecture' of its header is missing or damaged"),
        ({"function": '"sfd"'}, "function 'sfd'; did you mean 'sdf'"),
        ({"function": ["sdf"]}, "an INR of the function"),
        ({"centre": [0, 0]}, "its centre is"),
        ({"centre": "[0, 0, NaN]"}, "its centre is .* three finite numbers"),
        ({"scale": 0}, "its scale is 0"),
        ({"scale": True}, "its scale is True"),
        ({"about": [1]}, "'about' of its header is no JSON object"),
        ({"about": ""}, "'about' of its header is missing"),
        ({"arrays": {WEIGHT: None}}, f"lacks '{WEIGHT}'"),
        ({"arrays": {"decoder/layers/0/scale": np.ones(1, np.float32)}}, "layers/0/scale'"),
        ({"arrays": {"decoder/layers/2/bias": np.ones(1, np.float32)}}, "layers/2/bias'"),
        ({"arrays": {"decoder/layers/9/bias": np.ones(1, np.float32)}}, "no list"),
        ({"arrays": {f"{WEIGHT}/x": np.ones(1, np.float32)}}, "inside"),
        ({"arrays": {WEIGHT: np.ones((4, 27), np.float64)}}, "of type float64, not float32"),
        ({"arrays": {WEIGHT: np.full((4, 15), np.nan, np.float32)}}, "60 numbers that are not fin"),
    ],
)
def test_foreign_files(tmp_path, change, says):
    path = tmp_path / "x.safetensors"
    write_field(path, made("triplane"))
    rewrite(path, change.pop("arrays", None), **change)
    with pytest.raises(DataError, match=says) as caught:
        read_field(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


def test_cut_short_empty_missing_and_no_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    write_field(path, made("siren"))
    content = path.read_bytes()
    for length, says in [
        (0, "is empty"),
        (5, "is no safetensors file"),
        (40, "a safetensors header of"),
        (len(content) - 3, "it is cut short"),
    ]:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=says):
            read_field(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"is a Git LFS pointer.*git lfs pull"):
        read_field(path)
    with pytest.raises(DataError, match=r"y\.safetensors: not found"):
        read_field(tmp_path / "y.safetensors")
    with pytest.raises(DataError, match="cannot be read"):
        read_field(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("structure/corners", -1), ("structure/children", 1 << 20)]
)
def test_a_damaged_tree(tmp_path, name, value):
    path = tmp_path / "x.safetensors"
    write_field(path, made("octree"))
    array = np.array(safetensors_file.load(path)[0][name])
    array.flat[-1] = value
    rewrite(path, {name: array})
    with pytest.raises(DataError, match="x.safetensors: "):
        read_field(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": float("nan")}, "header is not JSON"),
        ({"about": {"x": object()}}, "header is not JSON"),
        ({"variables": {"decoder": {"layers": [np.full(2, np.inf)]}}}, "not finite"),
    ],
)
def test_what_cannot_be_kept_is_not_written(tmp_path, change, says):
    with pytest.raises(DataError, match=says):
        write_field(tmp_path / "x.safetensors", dataclasses.replace(made("siren"), **change))
    assert not list(tmp_path.iterdir())
