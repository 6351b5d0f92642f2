"""CLIP's two towers under their original names, as the published ViT checkpoints hold them.

One state holds both: the image tower below "visual.", the text tower beside it, and the logarithm
of the logit scale. The published archives also hold three integers (input_resolution,
context_length, vocab_size) that repeat what the shapes say: they are left out, and `ignored` lists
them. Their half-precision matrices become float32, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import (
    Entry,
    Filters,
    Shapes,
    dense,
    left_out,
    load,
    norm,
    save,
    within,
)

IGNORED = r"input_resolution|context_length|vocab_size"
NETWORK = "CLIP"


def vision_entries(
    image_size: int, patch_size: int, width: int, depth: int, embedding_dim: int
) -> list[Entry]:
    """The table of names for a VisionTower of this size."""
    tokens = (image_size // patch_size) ** 2 + 1
    return [
        Entry("visual.class_embedding", (width,), ("params", "class_embedding")),
        Entry("visual.positional_embedding", (tokens, width), ("params", "position_embedding")),
        Entry("visual.proj", (width, embedding_dim), ("params", "projection")),
        Filters(
            "visual.conv1.weight",
            (width, 3, patch_size, patch_size),
            ("params", "patch_embed", "kernel"),
        ),
        *norm("visual.ln_pre", ("norm_pre",), width),
        *blocks("visual.transformer.resblocks", width, depth),
        *norm("visual.ln_post", ("norm",), width),
    ]


def text_entries(
    vocab_size: int, context_length: int, width: int, depth: int, embedding_dim: int
) -> list[Entry]:
    """The table of names for a TextTower of this size."""
    return [
        Entry("positional_embedding", (context_length, width), ("params", "position_embedding")),
        Entry("text_projection", (width, embedding_dim), ("params", "projection")),
        *blocks("transformer.resblocks", width, depth),
        Entry("token_embedding.weight", (vocab_size, width), ("params", "token_embedding")),
        *norm("ln_final", ("norm",), width),
    ]


def blocks(name: str, width: int, depth: int) -> list[Entry]:
    """The transformer blocks below `name`; rows of in_proj are q | k | v."""
    table = []
    for i in range(depth):
        original, block = f"{name}.{i}", f"block{i}"
        table += [
            Entry(
                f"{original}.attn.in_proj_weight",
                (3 * width, width),
                ("params", block, "attn", "qkv", "kernel"),
            ),
            Entry(
                f"{original}.attn.in_proj_bias",
                (3 * width,),
                ("params", block, "attn", "qkv", "bias"),
            ),
            *dense(f"{original}.attn.out_proj", (block, "attn", "proj"), (width, width)),
            *norm(f"{original}.ln_1", (block, "norm1"), width),
            *dense(f"{original}.mlp.c_fc", (block, "mlp", "fc1"), (4 * width, width)),
            *dense(f"{original}.mlp.c_proj", (block, "mlp", "fc2"), (width, 4 * width)),
            *norm(f"{original}.ln_2", (block, "norm2"), width),
        ]
    return table


def entries(vision: Mapping[str, int], text: Mapping[str, int]) -> list[Entry]:
    """The table of names for both towers, whose variables stand at "vision" and "text", and for
    "logit_scale".
    """
    return [
        *within(("vision",), vision_entries(**vision)),
        *within(("text",), text_entries(**text)),
        Entry("logit_scale", (), ("params", "logit_scale")),
    ]


def vision_architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, int]:
    """The fields of VisionTower that its tensors tell: image_size, patch_size, width, depth,
    embedding_dim.
    """
    shapes = Shapes(state_dict, prefix, NETWORK)
    width, _, patch_size, _ = shapes("visual.conv1.weight", 4)
    return {
        "image_size": image_size(shapes("visual.positional_embedding", 2)[0], patch_size, NETWORK),
        "patch_size": patch_size,
        "width": width,
        "depth": shapes.count(r"visual\.transformer\.resblocks\.(\d+)\."),
        "embedding_dim": shapes("visual.proj", 2)[1],
    }


def text_architecture(
    state_dict: Mapping[str, np.ndarray], prefix: str = "", network: str = NETWORK
) -> dict[str, int]:
    """The fields of TextTower that its tensors tell: vocab_size, context_length, width, depth,
    embedding_dim.
    """
    shapes = Shapes(state_dict, prefix, network)
    vocab_size, width = shapes("token_embedding.weight", 2)
    return {
        "vocab_size": vocab_size,
        "context_length": shapes("positional_embedding", 2)[0],
        "width": width,
        "depth": shapes.count(r"transformer\.resblocks\.(\d+)\."),
        "embedding_dim": shapes("text_projection", 2)[1],
    }


def image_size(tokens: int, patch_size: int, network: str) -> int:
    """Side of the image in pixels, from the number of learned positions (patches and the class
    token).
    """
    grid = round((tokens - 1) ** 0.5)
    if grid * grid != tokens - 1:
        raise DataError(
            f"{network} weights do not fit: {tokens} positions are not a square grid and a class "
            "token"
        )
    return grid * patch_size


def architecture(
    state_dict: Mapping[str, np.ndarray], prefix: str = ""
) -> dict[str, dict[str, int]]:
    """{"vision": fields of VisionTower, "text": fields of TextTower}, as far as the tensors tell
    them.

    The number of heads is not among them: no tensor depends on it (0, the towers' default, means
    width / 64). Raises DataError if there is no CLIP below `prefix`.
    """
    return {
        "vision": vision_architecture(state_dict, prefix),
        "text": text_architecture(state_dict, prefix),
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


def own_architecture(params: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The same as `architecture`, from our own parameters."""

    def depth(tower: Mapping[str, Any]) -> int:
        return sum(name.startswith("block") for name in tower)

    vision, text = params["vision"], params["text"]
    patch_size = vision["patch_embed"]["kernel"].shape[0]
    tokens, width = vision["position_embedding"].shape
    vocab_size, text_width = text["token_embedding"].shape
    return {
        "vision": {
            "image_size": image_size(tokens, patch_size, NETWORK),
            "patch_size": patch_size,
            "width": width,
            "depth": depth(vision),
            "embedding_dim": vision["projection"].shape[1],
        },
        "text": {
            "vocab_size": vocab_size,
            "context_length": text["position_embedding"].shape[0],
            "width": text_width,
            "depth": depth(text),
            "embedding_dim": text["projection"].shape[1],
        },
    }
