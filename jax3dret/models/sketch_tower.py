"""Networks that read a sketch: CLIP's image tower with visual prompts, a small transformer, an MLP
on stored features.

Paper: "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
2604.18019, section 3.4: a few tokens are learned that every sketch gets beside its own (equation
8), and of the tower its layer norms alone are trained with them. `tuning_rules` says so to the
optimizer, and so for the other rows of table 5.

The paper leaves open where prompts stand and how they start. They are appended, get no position and
pass the norm before the blocks, as in the code of a sketch retrieval system that the paper builds
on; Jia et al. 2022, "Visual Prompt Tuning", put them after the class token, start them uniformly
and have the deep variant. The place makes no difference to the embedding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from jax3dret.core.types import ConfigError
from jax3dret.models.clip import HEAD_WIDTH, VisionTower
from jax3dret.models.conv import Conv
from jax3dret.models.gelu import gelu
from jax3dret.models.layers import BatchNorm, Block, Dense, LayerNorm, check_rate, uniform_fan_in
from jax3dret.models.resnet import ResNet

Rules = tuple[tuple[str, dict[str, Any]], ...]

PROMPTS = "(prompts|deep_prompts|prompt_projection/(kernel|bias))"
LINEAR = "linear/(kernel|bias)"
NORMS = r"tower/(norm_pre|norm|block\d+/norm[12])/(scale|bias)"
# What each mode trains of a PromptedVisionTower; the rest is frozen. Behind a frozen tower stands a
# linear layer: what retrieval reads must learn something.
TRAINED = {
    "frozen": (LINEAR,),
    "layernorm": (NORMS,),
    "all": (".*",),
    "vpt": (PROMPTS, NORMS),
    "prompt_only": (PROMPTS,),
}
# Rows of table 5 that are of a tower without prompts.
BARE = ("frozen", "layernorm", "all")


def tuning_rules(mode: str, prefix: str, *, layernorm_lr: float = 1.0) -> Rules:
    """Optimizer rules (`core.optim`) for the parameters below the path `prefix`; the caller adds
    those of the others.

    mode: "frozen", a linear layer behind the tower alone; "layernorm"; "all"; "vpt", the paper's:
        prompts and layer norms; "prompt_only". Paper, table 5, whose rows frozen, layernorm and all
        are of a tower without prompts (see `check_tuning`).
    layernorm_lr: factor of the learning rate of the layer norms where the mode names them.

    A network without what the mode trains, say prompts, is an error of the optimizer, which refuses
    rules that match nothing. Raises ConfigError for an unknown mode.
    """
    below = re.escape(prefix)
    trained = TRAINED[_mode(mode)]
    rules: list[tuple[str, dict[str, Any]]] = []
    for pattern in trained:
        settings = {"lr": layernorm_lr} if pattern == NORMS and layernorm_lr != 1.0 else {}
        rules.append((f"{below}/{pattern}", settings))
    return (*rules, *(() if mode == "all" else ((f"{below}/.*", {"freeze": True}),)))


def check_tuning(mode: str, num_prompts: int, linear: bool = False) -> None:
    """Raises ConfigError where a mode leaves prompts as they started, noise that every sketch
    attends to, or has nothing to train: no prompts, or no linear layer behind a frozen tower.
    """
    trained = TRAINED[_mode(mode)]
    if num_prompts and PROMPTS not in trained and mode != "all":
        raise ConfigError(
            f"sketch tuning '{mode}' never trains the tower's {num_prompts} prompts; set "
            "num_prompts=0"
        )
    if PROMPTS in trained and not num_prompts:
        raise ConfigError(
            f"sketch tuning '{mode}' trains prompts, and the tower has none; a PromptedVisionTower "
            "with num_prompts=3 has"
        )
    if LINEAR in trained and not linear:
        raise ConfigError(
            f"sketch tuning '{mode}' trains a linear layer behind the tower, and this one has "
            "none: "
            "no loss would reach what retrieval reads; a PromptedVisionTower with linear=True has"
        )
    if linear and LINEAR not in trained and mode != "all":
        raise ConfigError(
            f"sketch tuning '{mode}' never trains the linear layer behind the tower; set "
            "linear=False"
        )


def _mode(mode: str) -> str:
    if mode not in TRAINED:
        raise ConfigError(f"sketch tuning '{mode}' is unknown; it is one of {', '.join(TRAINED)}")
    return mode


def with_tower(params: Mapping[str, Any], vision: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a PromptedVisionTower with the imported ones of its VisionTower in place,
    all others as they were.

    vision: of `weights.clip.from_torch`, or of an import (`weights.importing.load_imported`), at
    "params", "vision".

    Raises ConfigError with the first parameters that do not fit.
    """
    own, new = _shapes(params["tower"]), _shapes(vision)
    if wrong := [
        name for name in sorted(own.keys() | new.keys()) if own.get(name) != new.get(name)
    ]:
        name = wrong[0]
        raise ConfigError(
            f"sketch tower: the imported weights do not fit, {len(wrong)} parameters differ; "
            f"{name} is "
            f"{new.get(name, 'missing')}, expected {own.get(name, 'nothing')}"
        )
    return {**params, "tower": dict(vision)}


def _shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(dict(tree))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves
    }


class PromptedVisionTower(nn.Module):
    """Normalised images [B, image_size, image_size, 3] -> embeddings float32 [B, embedding_dim]:
    CLIP's tower with prompts.

    num_prompts: tokens that every image gets; 0: the bare tower. deep: others before every block
        (param `deep_prompts` [depth - 1, P, width] beside `prompts` [P, width]). position: "append"
        after the patches, or "prepend" before them.
    prompt_init: "xavier_uniform", in ±sqrt(6 / (3 patch_size² + prompt width)), or "normal", of
    deviation 1.
    prompt_dropout: share of the prompts' values that training drops, drawn for every image from the
    "dropout" stream.
    prompt_projection: width in which prompts are learned, taken to that of the tower by a Dense; 0:
    without. linear: a layer E -> E behind the tower, which starts as the identity. The other fields
    are those of VisionTower, whose parameters stand below `tower`, where imported weights go
    (`with_tower`).

    Raises ConfigError for a field out of range, and what VisionTower raises.
    """

    # Imported weights of CLIP go into it (`with_tower`).
    takes_clip: ClassVar[bool] = True

    num_prompts: int = 3
    deep: bool = False
    position: str = "append"
    prompt_init: str = "xavier_uniform"
    prompt_dropout: float = 0.0
    prompt_projection: int = 0
    linear: bool = False
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
    def __call__(self, image: Float[Array, "B S S 3"], train: bool = False) -> Float[Array, "B D"]:
        tower = VisionTower(
            image_size=self.image_size,
            patch_size=self.patch_size,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            embedding_dim=self.embedding_dim,
            style=self.style,
            dtype=self.dtype,
            remat=self.remat,
            mlp_ratio=self.mlp_ratio,
            name="tower",
        )
        if (
            self.num_prompts < 0
            or self.prompt_projection < 0
            or (self.deep and (self.depth < 2 or not self.num_prompts))
        ):
            raise ConfigError(
                f"PromptedVisionTower: num_prompts={self.num_prompts}, "
                f"prompt_projection={self.prompt_projection}, "
                f"depth={self.depth}; expected 0 or more, and for deep prompts 1 or more, and 2 "
                "blocks or more"
            )
        if self.num_prompts == 0:
            return self._behind(tower(image))
        check_rate(self.prompt_dropout, "PromptedVisionTower: prompt_dropout")
        inner = self.prompt_projection or self.width
        start = _prompt_init(self.prompt_init, self.patch_size, inner)
        project = self._projection()
        # A set for each image where training drops from it; all images share one otherwise.
        batch = (len(image),) if train and self.prompt_dropout else ()
        drop = nn.Dropout(self.prompt_dropout, deterministic=not batch)

        def ready(prompts: Float[Array, "... P inner"]) -> Float[Array, "... P width"]:
            lead, last = prompts.shape[:-2], (self.num_prompts, self.width)
            wide = project(prompts).reshape(*lead, *(1 for _ in batch), *last)
            return drop(jnp.broadcast_to(wide, (*lead, *batch, *last)))

        shape = (self.num_prompts, inner)
        prompts = ready(self.param("prompts", start, shape))
        deep = (
            ready(self.param("deep_prompts", start, (self.depth - 1, *shape)))
            if self.deep
            else None
        )
        return self._behind(tower(image, prompts, deep_prompts=deep, position=self.position))

    def _behind(self, embedding: Float[Array, "B D"]) -> Float[Array, "B D"]:
        if not self.linear:
            return embedding
        return nn.Dense(self.embedding_dim, kernel_init=_identity, name="linear")(embedding)

    def _projection(self) -> Callable[[Array], Array]:
        if not self.prompt_projection:
            return lambda prompts: prompts
        return nn.Dense(
            self.width,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            bias_init=uniform_fan_in(self.prompt_projection),
            name="prompt_projection",
        )


class SmallViT(nn.Module):
    """Normalised images [B, image_size, image_size, 3] -> embeddings float32 [B, embedding_dim];
    trained from nothing.

    For machines without CLIP's weights. A drawing is mostly empty, so patches are not cut out but
    read by a few convolutions of stride 2 with layer norms, which find strokes wherever they lie in
    a patch (Xiao et al. 2021, "Early Convolutions Help Transformers See Better"). The embedding is
    read from the mean of all tokens: every patch then gets a gradient from the first step on, where
    a class token must first learn to look at the patches.

    patch_size: of a token in pixels, a power of 2, at least 4. width, depth, num_heads (0: width /
    64), drop_path: of the transformer.
    dtype, remat: as of VisionTower.

    Raises ConfigError for sizes that do not fit together or images of another size.
    """

    image_size: int = 64
    patch_size: int = 8
    width: int = 192
    depth: int = 4
    num_heads: int = 0
    embedding_dim: int = 512
    drop_path: float = 0.0
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, image: Float[Array, "B S S 3"], train: bool = False) -> Float[Array, "B D"]:
        self._check(image.shape)
        x = self._stem(image).reshape(len(image), -1, self.width)
        place = self.param("position_embedding", nn.initializers.normal(0.02), x.shape[1:])
        x = x + place.astype(self.dtype)[None]
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for i in range(self.depth):
            x = block(
                num_heads=self.num_heads or self.width // HEAD_WIDTH,
                qkv_bias=True,
                drop_path=self.drop_path,
                dtype=self.dtype,
                name=f"block{i}",
            )(x, train)
        x = LayerNorm(name="norm")(x).astype(jnp.float32).mean(1)
        return Dense(self.embedding_dim, name="projection")(x)

    def _stem(self, image: Float[Array, "B S S 3"]) -> Float[Array, "B s s width"]:
        x = image.astype(self.dtype)
        layers = self.patch_size.bit_length() - 1
        for i in range(layers):
            last = i == layers - 1
            channels = self.width if last else self.width * 2**i // 8
            x = Conv(channels, 3, 2, 1, use_bias=True, dtype=self.dtype, name=f"stem{i}")(x)
            if not last:
                x = gelu(LayerNorm(name=f"stem_norm{i}")(x))
        return x

    def _check(self, shape: tuple[int, ...]) -> None:
        side, patch = self.image_size, self.patch_size
        if patch < 4 or patch & (patch - 1) or side < patch or side % patch:
            raise ConfigError(
                f"SmallViT: patch_size {patch} of image_size {side}; expected a power of 2 from 4 "
                "on that divides the image"
            )
        if self.width % 8 or not (self.num_heads or self.width >= HEAD_WIDTH):
            raise ConfigError(
                f"SmallViT: width {self.width}, num_heads {self.num_heads}; expected a multiple of "
                "8, and num_heads below 64"
            )
        if shape[1:] != (side, side, 3):
            raise ConfigError(f"SmallViT: images of shape {shape}; expected [B, {side}, {side}, 3]")
        check_rate(self.drop_path, "SmallViT: drop_path")


class SmallResNet(nn.Module):
    """Normalised images [B, S, S, 3] -> embeddings float32 [B, embedding_dim]; trained from
    nothing.

    A narrow ResNet and a Dense on its features: of a few hundred drawings it learns more than a
    transformer, which must learn from them what a convolution knows. width, stage_sizes, dtype: of
    the ResNet.
    """

    width: int = 32
    stage_sizes: tuple[int, ...] = (1, 1, 1, 1)
    embedding_dim: int = 512
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Float[Array, "B S S 3"], train: bool = False) -> Float[Array, "B D"]:
        x = ResNet(self.stage_sizes, self.width, dtype=self.dtype, name="resnet")(image, train)
        return Dense(self.embedding_dim, name="projection")(x.astype(jnp.float32))


class FeatureTower(nn.Module):
    """Stored features [B, D] of a frozen CNN -> embeddings float32 [B, out_dim]: what is trained
    where the CNN is not.

    (Dense, BatchNorm, ReLU, dropout) for each hidden width, then a Dense. Training on a single row
    raises ConfigError.
    """

    reads_features: ClassVar[bool] = True

    out_dim: int = 512
    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.0
    dtype: str = "float32"

    @property
    def embedding_dim(self) -> int:
        return self.out_dim

    @nn.compact
    def __call__(self, features: Float[Array, "B D"], train: bool = False) -> Float[Array, "B E"]:
        check_rate(self.dropout, "FeatureTower: dropout")
        x = features.astype(self.dtype)
        for i, width in enumerate(self.hidden):
            x = Dense(width, dtype=self.dtype, name=f"linear{i}")(x)
            x = nn.relu(BatchNorm(not train, name=f"batch_norm{i}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Dense(self.out_dim, name=f"linear{len(self.hidden)}")(x.astype(jnp.float32))


class StoredFeatures(nn.Module):
    """Stored features [B, D] of a frozen CNN as they are: no parameters, the row that training has
    to beat.
    """

    reads_features: ClassVar[bool] = True

    dim: int

    @property
    def embedding_dim(self) -> int:
        return self.dim

    def __call__(self, features: Float[Array, "B D"], train: bool = False) -> Float[Array, "B D"]:
        """Raises ConfigError for features of another width."""
        del train
        if features.shape[-1] != self.dim:
            raise ConfigError(
                f"StoredFeatures: features are {features.shape[-1]} wide; expected "
                f"dim={features.shape[-1]}"
            )
        return features.astype(jnp.float32)


def _identity(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    del key
    return jnp.eye(shape[0], shape[1], dtype=dtype)


def _prompt_init(name: str, patch_size: int, width: int) -> Callable[..., Array]:
    """The initialiser of prompts; the uniform one as if they were the embedding of a patch
    (published code of Jia et al.).
    """
    if name == "normal":
        return nn.initializers.normal(1.0)
    if name != "xavier_uniform":
        raise ConfigError(
            f"PromptedVisionTower: prompt_init '{name}'; expected xavier_uniform or normal"
        )
    bound = math.sqrt(6 / (3 * patch_size**2 + width))

    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
