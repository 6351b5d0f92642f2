"""What a checkpoint file is, as `recognise` tells it: the networks in it and all that is known of
them.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Part:
    """One network of a file.

    name: where its variables stand in an import; empty: they are the whole. weights: the module
    whose `from_torch` and `to_torch` map it, or "module:prefix of the functions" for a head.
    prefix: of its names in the file. model: the network as a config names it, and fields: as far as
    the tensors tell. tensors: the names it takes.
    """

    name: str
    weights: str
    prefix: str
    model: str
    fields: dict[str, Any]
    tensors: tuple[str, ...]

    def functions(
        self,
    ) -> tuple[Callable[..., dict[str, Any]], Callable[..., dict[str, np.ndarray]]]:
        """(from_torch, to_torch)."""
        module, _, kind = self.weights.partition(":")
        loaded = importlib.import_module(f"jax3dret.weights.{module}")
        return getattr(loaded, f"{kind}from_torch"), getattr(loaded, f"{kind}to_torch")


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What a file is.

    kind: short name, "unknown" if there is none. title: in words. parts: what an import takes;
    empty if nothing can be.
    preprocessing: how inputs were prepared. embedding_dim, latent_dim: widths of the embedding and
    of the space shared with images and text, 0 without one. classes: of the classifier, 0 without
    one. rules: what was not told by a tensor, and where it comes from. notes: what a user should
    know. beside: files that must lie beside it and go with an import, such as a tokenizer. unused:
    names that no part takes. problem: why it cannot be imported, or empty.
    """

    kind: str
    title: str
    parts: tuple[Part, ...] = ()
    preprocessing: dict[str, Any] = dataclasses.field(default_factory=dict)
    embedding_dim: int = 0
    latent_dim: int = 0
    classes: int = 0
    rules: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    problem: str = ""
    parameters: int = 0
