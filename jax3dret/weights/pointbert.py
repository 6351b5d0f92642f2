"""PointBERT weights under their original names, as ULIP-2, Point-BERT and the paper's
classification checkpoints hold them.

The names are the same in all three; the prefix differs: "backbone.model." in the paper's
checkpoints, "module.point_encoder." in ULIP's, "module.transformer_q." in Point-BERT's own.
Point-BERT's own also holds the heads of its pre-training and fine-tuning, through which no
embedding passes: they are left out, and `ignored` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, dense, left_out, load, norm, save

NETWORK = "PointBERT"
IGNORED = r"mask_token|lm_head\..*|cls_head\..*|cls_head_finetune\..*"
# Channels of one attention head in all published checkpoints (384 / 6).
HEAD_WIDTH = 64


def entries(
    in_channels: int,
    trans_dim: int,
    depth: int,
    encoder_dims: int,
    group_widths: tuple[int, int, int],
) -> list[Entry]:
    """The table of names for a PointBERT of this size."""
    width = trans_dim
    d1, d2, d3 = group_widths
    table = [
        Entry("cls_token", (1, 1, width), ("params", "cls_token")),
        Entry("cls_pos", (1, 1, width), ("params", "cls_pos")),
        *dense("encoder.first_conv.0", ("encoder", "conv1"), (d1, in_channels, 1)),
        *norm("encoder.first_conv.1", ("encoder", "norm1"), d1, running=True),
        *dense("encoder.first_conv.3", ("encoder", "conv2"), (d2, d1, 1)),
        *dense("encoder.second_conv.0", ("encoder", "conv3"), (d3, 2 * d2, 1)),
        *norm("encoder.second_conv.1", ("encoder", "norm2"), d3, running=True),
        *dense("encoder.second_conv.3", ("encoder", "conv4"), (encoder_dims, d3, 1)),
        *dense("reduce_dim", ("reduce_dim",), (width, encoder_dims)),
        *dense("pos_embed.0", ("pos_embed1",), (128, 3)),
        *dense("pos_embed.2", ("pos_embed2",), (width, 128)),
        *norm("norm", ("norm",), width),
    ]
    for i in range(depth):
        name, block = f"blocks.blocks.{i}", f"block{i}"
        table += [
            *norm(f"{name}.norm1", (block, "norm1"), width),
            *dense(f"{name}.attn.qkv", (block, "attn", "qkv"), (3 * width, width), bias=False),
            *dense(f"{name}.attn.proj", (block, "attn", "proj"), (width, width)),
            *norm(f"{name}.norm2", (block, "norm2"), width),
            *dense(f"{name}.mlp.fc1", (block, "mlp", "fc1"), (4 * width, width)),
            *dense(f"{name}.mlp.fc2", (block, "mlp", "fc2"), (width, 4 * width)),
        ]
    return table


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of PointBert that its tensors tell: in_channels, trans_dim, depth, encoder_dims,
    group_widths.

    The number of heads is not among them: no tensor depends on it. Raises DataError if there is no
    PointBERT below `prefix`.
    """

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        if prefix + name not in state_dict:
            raise DataError(f"PointBERT weights do not fit: {prefix}{name} is missing")
        found = np.shape(state_dict[prefix + name])
        if len(found) != ndim:
            raise DataError(
                f"PointBERT weights do not fit: {prefix}{name} has shape {found}, not {ndim} axes"
            )
        return found

    first, second, third = (
        shape(f"encoder.{name}.weight", 3)
        for name in ("first_conv.0", "first_conv.3", "second_conv.0")
    )
    blocks = [re.match(re.escape(prefix) + r"blocks\.blocks\.(\d+)\.", name) for name in state_dict]
    return {
        "in_channels": first[1],
        "trans_dim": shape("cls_token", 3)[2],
        "depth": 1 + max((int(match[1]) for match in blocks if match), default=-1),
        "encoder_dims": shape("reduce_dim.weight", 2)[1],
        "group_widths": (first[0], second[0], third[0]),
    }


def num_heads(trans_dim: int) -> int:
    """Attention heads of a PointBERT of this width: one for each 64 channels, 6 at 384, as in all
    published checkpoints.

    No tensor depends on the number of heads, so this is a rule and not a reading. Raises DataError
    where it gives no whole number.
    """
    if trans_dim % HEAD_WIDTH:
        raise DataError(
            f"{NETWORK} weights do not fit: width {trans_dim} is no multiple of {HEAD_WIDTH}, so "
            "the number of heads is unknown"
        )
    return trans_dim // HEAD_WIDTH


def ignored(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Names that `from_torch` leaves out on purpose."""
    return left_out(state_dict, IGNORED, prefix)


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a PointBert from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    return load(state_dict, entries(**architecture(state_dict, prefix)), prefix, NETWORK, IGNORED)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients: {"params": grads}."""
    params = variables["params"]
    table = entries(
        in_channels=params["encoder"]["conv1"]["kernel"].shape[0],
        trans_dim=params["cls_token"].shape[2],
        depth=sum(name.startswith("block") for name in params),
        encoder_dims=params["reduce_dim"]["kernel"].shape[0],
        group_widths=tuple(
            params["encoder"][name]["kernel"].shape[1] for name in ("conv1", "conv2", "conv3")
        ),
    )
    return save(variables, table, prefix)
