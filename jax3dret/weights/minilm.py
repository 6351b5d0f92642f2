"""MiniLM, a BERT, under the names that transformers gives its tensors.

Left out, and listed by `ignored`: the numbers of the positions, and the pooler, which reads the
first token where a sentence is the mean of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, Shapes, dense, left_out, load, norm, save

NETWORK = "MiniLM"
IGNORED = r"embeddings\.position_ids|pooler\.dense\.(weight|bias)"
# Channels of one attention head, which no tensor tells; as in all published MiniLMs.
HEAD_WIDTH = 32
PARTS = ("query", "key", "value")


def entries(
    vocab_size: int, max_tokens: int, width: int, depth: int, num_heads: int, hidden: int
) -> list[Entry]:
    """The table of names for a MiniLm of this size. The three projections of a layer are one tensor
    in it, `attention.self.qkv`: see `joined`.
    """
    del num_heads
    tables = (
        ("word", "word", vocab_size),
        ("position", "position", max_tokens),
        ("token_type", "type", 2),
    )
    table = [
        Entry(f"embeddings.{name}_embeddings.weight", (n, width), ("params", f"{ours}_embedding"))
        for name, ours, n in tables
    ]
    table += norm("embeddings.LayerNorm", ("norm",), width)
    for i in range(depth):
        name, block = f"encoder.layer.{i}", f"block{i}"
        table += [
            *dense(f"{name}.attention.self.qkv", (block, "attn", "qkv"), (3 * width, width)),
            *dense(f"{name}.attention.output.dense", (block, "attn", "proj"), (width, width)),
            *norm(f"{name}.attention.output.LayerNorm", (block, "norm1"), width),
            *dense(f"{name}.intermediate.dense", (block, "mlp", "fc1"), (hidden, width)),
            *dense(f"{name}.output.dense", (block, "mlp", "fc2"), (width, hidden)),
            *norm(f"{name}.output.LayerNorm", (block, "norm2"), width),
        ]
    return table


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of MiniLm that its tensors tell, and num_heads, one for each 32 channels.

    Raises DataError if there is no MiniLM below `prefix`, or for a width of no whole number of
    heads.
    """
    shapes = Shapes(state_dict, prefix, NETWORK)
    vocab_size, width = shapes("embeddings.word_embeddings.weight", 2)
    if width % HEAD_WIDTH:
        raise DataError(
            f"{NETWORK} weights do not fit: width {width} is no multiple of {HEAD_WIDTH}, so the "
            "number of heads is unknown"
        )
    return {
        "vocab_size": vocab_size,
        "max_tokens": shapes("embeddings.position_embeddings.weight", 2)[0],
        "width": width,
        "depth": shapes.count(r"encoder\.layer\.(\d+)\."),
        "num_heads": width // HEAD_WIDTH,
        "hidden": shapes("encoder.layer.0.intermediate.dense.weight", 2)[0],
    }


def ignored(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Names that `from_torch` leaves out on purpose."""
    return left_out(state_dict, IGNORED, prefix)


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params"} of a MiniLm from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    table = entries(**architecture(state_dict, prefix))
    return load(joined(state_dict), table, prefix, NETWORK, IGNORED)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients."""
    params = variables["params"]
    vocab_size, width = params["word_embedding"].shape
    table = entries(
        vocab_size,
        params["position_embedding"].shape[0],
        width,
        sum(name.startswith("block") for name in params),
        width // HEAD_WIDTH,
        params["block0"]["mlp"]["fc1"]["kernel"].shape[1],
    )
    out = {}
    for name, value in save(variables, table, prefix).items():
        layer, found, kind = name.partition(".self.qkv.")
        if not found:
            out[name] = value
            continue
        for part, piece in zip(PARTS, np.split(value, 3), strict=True):
            out[f"{layer}.self.{part}.{kind}"] = piece
    return out


def joined(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors with `self.qkv` in place of `self.query`, `self.key` and `self.value`, one below
    the other.

    Where the three do not stack, they stay, and `load` says that they have no place.
    """
    out = dict(state_dict)
    for name in state_dict:
        layer, found, kind = name.partition(".self.query.")
        names = [f"{layer}.self.{part}.{kind}" for part in PARTS]
        parts = [np.asarray(state_dict[each]) for each in names if found and each in state_dict]
        if len(parts) == 3 and parts[0].ndim and len({part.shape for part in parts}) == 1:
            out = {key: value for key, value in out.items() if key not in names}
            out[f"{layer}.self.qkv.{kind}"] = np.concatenate(parts)
    return out
