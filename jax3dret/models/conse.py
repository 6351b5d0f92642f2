"""ConSE: pictures in a space of words, without a network that was trained on both.

With p(c) what a classifier says of a picture and s(c) the vector of the name of class c, of the T
classes that it finds most likely,

    f(x) = 1 / Z sum_{t <= T} p(c_t) s(c_t)        Z = sum_{t <= T} p(c_t)

(Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination of Semantic Embeddings", section 3,
equation 3). Vectors are compared by their angle, so that Z does not matter and f is given unit
length. A picture of no known class lies between those that it resembles.
"""

from __future__ import annotations

import importlib.resources

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError


def conse(
    logits: Float[Array, "B K"], words: Float[Array, "K D"], top: int = 0
) -> Float[Array, "B D"]:
    """Unit vectors float32 [B, D]. words: a vector for each class. top: T; 0: every class.

    Raises ConfigError for a T that is negative or more than there are classes.
    """
    if not 0 <= top <= len(words):
        raise ConfigError(f"top is {top}; expected 1 to {len(words)} classes, or 0 for all")
    p = jax.nn.softmax(logits.astype(jnp.float32), -1)
    if top:
        likeliest, which = jax.lax.top_k(p, top)
        mean = (likeliest[..., None] * words[which]).sum(1)
    else:
        mean = p @ words
    return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)


def class_names() -> tuple[str, ...]:
    """The 1,000 classes of ImageNet 2012 in the order of its classifiers: the first word of each
    synset of WordNet 3.0; where two have the same, a word that tells them apart. The order is that
    of the label list of EfficientNet-PyTorch (Apache-2.0).
    """
    text = importlib.resources.files("jax3dret.models").joinpath("imagenet_classes.txt")
    return tuple(text.read_text("utf-8").splitlines())
