"""The image and text towers of CLIP and of SLIP: transformers whose outputs share one space.

One implementation, two styles of image tower, because weights trained in one do not work in the
other:

|            | norm before the blocks | activation | eps of LayerNorm | bias of the patch embedding |
|------------|------------------------|------------|------------------|-----------------------------|
| CLIP       | yes                    | QuickGELU  | 1e-5             | no                          |
| SLIP (ViT) | no                     | exact GELU | 1e-6             | yes                         |

The text towers are the same: causal attention, QuickGELU, eps 1e-5, read at the end-of-text token.
Embeddings are the bare projection, not normalised. The defaults are ViT-B/16 at 224 pixels with the
text tower of width 512, the sizes of the published CLIP and SLIP weights and of the frozen towers
in ULIP and ULIP-2. Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision", section 2.4; Mu et al. 2022, "SLIP: Self-supervision meets Language-Image
Pre-training".
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import Block, LayerNorm


class Style(NamedTuple):
    """A row of the table above."""

    norm_pre: bool
    activation: str
    eps: float
    patch_bias: bool


STYLES = {
    "clip": Style(norm_pre=True, activation="quick_gelu", eps=1e-5, patch_bias=False),
    "slip": Style(norm_pre=False, activation="gelu", eps=1e-6, patch_bias=True),
}
HEAD_WIDTH = 64


class VisionTower(nn.Module):
    """Normalised images [B, image_size, image_size, 3] -> embeddings float32 [B, embedding_dim].

    A vision transformer: each patch becomes a token, a learned vector is added for its position,
    and the embedding is the projected class token after the last norm.

    image_size, patch_size: in pixels; width, depth, num_heads, mlp_ratio: of the transformer;
        num_heads 0 means width / 64, as in the published CLIP. style: "clip" or "slip", see above.
    dtype: precision of the transformer ("float32" or "bfloat16"); remat: recompute each block in
    the backward pass.

    Raises ConfigError for another style, or images of another size: positions are learned for one
    size alone.
    """

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 0
    embedding_dim: int = 512
    style: str = "clip"
    dtype: str = "float32"
    remat: bool = False
    mlp_ratio: float = 4.0

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "B H W 3"],
        prompts: Float[Array, "*B P width"] | None = None,
        *,
        deep_prompts: Float[Array, "blocks *B P width"] | None = None,
        position: str = "append",
    ) -> Float[Array, "B D"]:
        """Embeddings of the images.

        prompts: further tokens, for every image the same or one set for each. They get no position,
            and in CLIP's style they pass the norm before the blocks. deep_prompts: before every
            block but the first, what has become of the prompts is replaced by these, block by block
            (visual prompt tuning, Jia et al. 2022, equations 4 to 6).
        position: "append" puts them after the patches, "prepend" between class token and patches.
            The embedding is the same, since attention knows no order and the class token stays the
            one that is read.

        Raises ConfigError for another position, or prompts whose shapes do not fit.
        """
        if self.style not in STYLES:
            raise ConfigError(
                f"VisionTower: style {self.style!r}; expected one of {', '.join(STYLES)}"
            )
        style = STYLES[self.style]
        if image.shape[1:] != (self.image_size, self.image_size, 3):
            raise ConfigError(
                f"VisionTower: images of shape {image.shape}; expected [B, {self.image_size}, "
                f"{self.image_size}, 3]"
            )
        patches = _PatchEmbed(
            self.patch_size, self.width, style.patch_bias, self.dtype, name="patch_embed"
        )(image)
        init = nn.initializers.normal(self.width**-0.5)
        first = self.param("class_embedding", init, (self.width,)).astype(self.dtype)
        tokens = jnp.concatenate(
            [jnp.broadcast_to(first, (len(patches), 1, self.width)), patches], 1
        )
        place = self.param("position_embedding", init, tokens.shape[1:]).astype(self.dtype)
        x = tokens + place[None]
        check_prompts(prompts, deep_prompts, position, self.width, self.depth)
        start = 1 if position == "prepend" else x.shape[1]
        if prompts is not None:
            x = _insert(x, prompts, start, 0)
        if style.norm_pre:
            x = LayerNorm(style.eps, name="norm_pre")(x)
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for i in range(self.depth):
            if i and prompts is not None and deep_prompts is not None:
                x = _insert(x, deep_prompts[i - 1], start, prompts.shape[-2])
            x = block(
                num_heads=self.num_heads or _heads(self.width),
                mlp_ratio=self.mlp_ratio,
                qkv_bias=True,
                dtype=self.dtype,
                eps=style.eps,
                activation=style.activation,
                name=f"block{i}",
            )(x, False)
            self.sow("intermediates", f"tokens{i}", x)
        feature = LayerNorm(style.eps, name="norm")(x[:, 0]).astype(jnp.float32)
        self.sow("intermediates", "feature", feature)
        return feature @ self.param("projection", init, (self.width, self.embedding_dim))


class TextTower(nn.Module):
    """Token numbers [B, context_length] -> embeddings float32 [B, embedding_dim].

    The embedding is read where the token number is largest, at its first occurrence: the
    end-of-text token has the largest number. (A caption that was cut without keeping that token is
    read at some token of its content; SLIP was used like that.) What follows the end of the text
    does not matter, since a token sees only those before it.

    vocab_size, context_length, width, depth, num_heads: num_heads 0 means width / 64, as in the
    published CLIP.
    dtype: precision of the transformer ("float32" or "bfloat16"); remat: recompute each block in
    the backward pass.

    A number outside the vocabulary makes that caption's embedding NaN. Raises ConfigError for
    another context length.
    """

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    depth: int = 12
    num_heads: int = 0
    embedding_dim: int = 512
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B D"]:
        if tokens.ndim != 2 or tokens.shape[1] != self.context_length:
            raise ConfigError(
                f"TextTower: tokens of shape {tokens.shape}; expected [B, {self.context_length}] "
                "(context_length)"
            )
        table = self.param(
            "token_embedding", nn.initializers.normal(0.02), (self.vocab_size, self.width)
        )
        position = self.param(
            "position_embedding", nn.initializers.normal(0.01), (self.context_length, self.width)
        )
        known = (tokens >= 0) & (tokens < self.vocab_size)
        x = (jnp.where(known[..., None], table[tokens], jnp.nan) + position[None]).astype(
            self.dtype
        )
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for i in range(self.depth):
            x = block(
                num_heads=self.num_heads or _heads(self.width),
                qkv_bias=True,
                dtype=self.dtype,
                activation="quick_gelu",
                causal=True,
                name=f"block{i}",
            )(x, False)
            self.sow("intermediates", f"tokens{i}", x)
        # The norm acts on each token alone, so it is enough to norm the one that is read.
        last = jnp.take_along_axis(x, tokens.argmax(-1)[:, None, None], 1)[:, 0]
        feature = LayerNorm(name="norm")(last).astype(jnp.float32)
        init = nn.initializers.normal(self.width**-0.5)
        return feature @ self.param("projection", init, (self.width, self.embedding_dim))


def prompt_ensemble(embeddings: Float[Array, "*lead P D"]) -> Float[Array, "*lead D"]:
    """One unit vector for P embeddings of the same thing: each normalised, averaged, normalised
    again.

    The embedding of a class from its name in P templates (Radford et al. 2021, section 3.1.4).
    """

    def unit(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    return unit(unit(embeddings).mean(-2))


def check_prompts(
    prompts: Float[Array, "*B P width"] | None,
    deep_prompts: Float[Array, "blocks *B P width"] | None,
    position: str,
    width: int,
    depth: int,
) -> None:
    """Raises ConfigError where prompts do not fit a transformer of this width and depth, or for an
    unknown position.
    """
    if position not in ("append", "prepend"):
        raise ConfigError(f"prompts: position {position!r}; expected append or prepend")
    if prompts is not None and prompts.shape[-1] != width:
        raise ConfigError(f"prompts of shape {prompts.shape}; expected [P, {width}]")
    if deep_prompts is None:
        return
    if prompts is None or deep_prompts.shape != (depth - 1, *prompts.shape):
        first = None if prompts is None else prompts.shape
        raise ConfigError(
            f"deep prompts of shape {deep_prompts.shape} with {first} before the first block; "
            f"expected [{depth - 1}, P, {width}] with [P, {width}]"
        )


def _insert(
    x: Float[Array, "B T D"], prompts: Float[Array, "*B P D"], start: int, replaced: int
) -> Float[Array, "B U D"]:
    """Tokens with the prompts at `start`, in the place of the `replaced` tokens that stand there."""
    added = jnp.broadcast_to(prompts.astype(x.dtype), (len(x), *prompts.shape[-2:]))
    return jnp.concatenate([x[:, :start], added, x[:, start + replaced :]], 1)


class _PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, row by row: [B, H, W, 3] -> [B, (H / size) (W / size),
    width].

    A convolution whose stride is its size is one matrix product of the patches; the kernel keeps
    its shape [size, size, 3, width].
    """

    size: int
    width: int
    use_bias: bool
    dtype: str

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B T width"]:
        batch, height, width, channels = image.shape
        size = self.size
        if height % size or width % size:
            raise ConfigError(
                f"VisionTower: an image side of {height} pixels is not a multiple of patch_size "
                f"{size}"
            )
        init = nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (size, size, channels, self.width))
        patches = image.astype(self.dtype).reshape(
            batch, height // size, size, width // size, size, channels
        )
        rows = patches.transpose(0, 1, 3, 2, 4, 5).reshape(-1, size * size * channels)
        tokens = rows @ kernel.astype(self.dtype).reshape(-1, self.width)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.width,)).astype(self.dtype)
            tokens = tokens + bias[None]
        return tokens.reshape(batch, -1, self.width)


def _heads(width: int) -> int:
    if width % HEAD_WIDTH:
        raise ConfigError(
            f"num_heads must be given for width {width}, which is not a multiple of {HEAD_WIDTH}"
        )
    return width // HEAD_WIDTH
