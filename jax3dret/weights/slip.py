"""SLIP's two towers under their original names: the image and text encoders that ULIP and ULIP-2
were trained against.

One state holds both, below "module." in the published files: an image tower in timm's naming below
"visual.", a text tower in CLIP's naming beside it, the two projections and the logarithm of the
logit scale. The complete files also hold the head of SLIP's self-supervised loss, image_mlp.*,
which no embedding passes through: it is left out, and `ignored` lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.weights.clip import image_size, own_architecture, text_architecture, text_entries
from jax3dret.weights.mapping import (
    Entry,
    Shapes,
    Squeezed,
    conv,
    dense,
    left_out,
    load,
    norm,
    save,
    within,
)

IGNORED = r"image_mlp\..*"
NETWORK = "SLIP"


def vision_entries(
    image_size: int, patch_size: int, width: int, depth: int, embedding_dim: int
) -> list[Entry]:
    """The table of names for a VisionTower of this size in SLIP's style."""
    tokens = (image_size // patch_size) ** 2 + 1
    table = [
        Entry("image_projection", (width, embedding_dim), ("params", "projection")),
        Squeezed("visual.cls_token", (1, 1, width), ("params", "class_embedding")),
        Squeezed("visual.pos_embed", (1, tokens, width), ("params", "position_embedding")),
        *conv(
            "visual.patch_embed.proj",
            ("patch_embed",),
            (width, 3, patch_size, patch_size),
            bias=True,
        ),
    ]
    for i in range(depth):
        name, block = f"visual.blocks.{i}", f"block{i}"
        table += [
            *norm(f"{name}.norm1", (block, "norm1"), width),
            *dense(f"{name}.attn.qkv", (block, "attn", "qkv"), (3 * width, width)),
            *dense(f"{name}.attn.proj", (block, "attn", "proj"), (width, width)),
            *norm(f"{name}.norm2", (block, "norm2"), width),
            *dense(f"{name}.mlp.fc1", (block, "mlp", "fc1"), (4 * width, width)),
            *dense(f"{name}.mlp.fc2", (block, "mlp", "fc2"), (width, 4 * width)),
        ]
    return [*table, *norm("visual.norm", ("norm",), width)]


def entries(vision: Mapping[str, int], text: Mapping[str, int]) -> list[Entry]:
    """The table of names for both towers, whose variables stand at "vision" and "text", and for
    "logit_scale".
    """
    return [
        *within(("vision",), vision_entries(**vision)),
        *within(("text",), text_entries(**text)),
        Entry("logit_scale", (), ("params", "logit_scale")),
    ]


def architecture(
    state_dict: Mapping[str, np.ndarray], prefix: str = ""
) -> dict[str, dict[str, int]]:
    """{"vision": fields of VisionTower, "text": fields of TextTower}, as far as the tensors tell
    them.

    The number of heads is not among them: no tensor depends on it (0, the towers' default, means
    width / 64, which holds for SLIP's base and large towers; its small one has 12 heads). Raises
    DataError if there is no SLIP below `prefix`.
    """
    shapes = Shapes(state_dict, prefix, NETWORK)
    width, _, patch_size, _ = shapes("visual.patch_embed.proj.weight", 4)
    return {
        "vision": {
            "image_size": image_size(shapes("visual.pos_embed", 3)[1], patch_size, NETWORK),
            "patch_size": patch_size,
            "width": width,
            "depth": shapes.count(r"visual\.blocks\.(\d+)\."),
            "embedding_dim": shapes("image_projection", 2)[1],
        },
        "text": text_architecture(state_dict, prefix, NETWORK),
    }


def ignored(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Names that `from_torch` leaves out on purpose."""
    return left_out(state_dict, IGNORED, prefix)


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params": {"vision", "text", "logit_scale"}} from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    return load(state_dict, entries(**architecture(state_dict, prefix)), prefix, NETWORK, IGNORED)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients."""
    return save(variables, entries(**own_architecture(variables["params"])), prefix)
