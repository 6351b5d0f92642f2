"""Frozen image and text towers as a config names them: imported weights, or random ones where none
are at hand.

Each becomes a plain function of what is stored (uint8 pictures, token numbers) and a description of
how its outputs are made, which names the files that keep them (`data.features`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core import checkpoint, rng
from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError
from jax3dret.data import images
from jax3dret.data.features import digest
from jax3dret.data.images import normalise
from jax3dret.data.text import Tokenizer, load_tokenizer
from jax3dret.data.wordpiece import WordPiece
from jax3dret.models.conse import class_names, conse
from jax3dret.models.frozen import frozen
from jax3dret.weights.importing import Opened, load_imported, open_weights
from jax3dret.weights.recognise import TOKENIZER

NORMALISATIONS = {
    "imagenet": images.IMAGENET,
    "clip": images.CLIP,
    "mobilenet": images.MOBILENET,
    "efficientnet_lite": images.EFFICIENTNET_LITE,
}
# A text tower without merges reads bytes: as many numbers as `Tokenizer([])` gives.
BYTE_VOCABULARY = 514


class ImageTower(NamedTuple):
    """embed: uint8 [B, S, S, 3] -> float32 [B, latent]. provenance: what its outputs depend on."""

    embed: Callable[[np.ndarray], jax.Array]
    provenance: dict[str, Any]


class Tokens(Protocol):
    """Token numbers int32[B, T], and bool[B]: which texts were cut."""

    @property
    def ids(self) -> np.ndarray: ...

    @property
    def truncated(self) -> np.ndarray: ...


class TextTower(NamedTuple):
    """tokenize: texts -> token numbers and which were cut. embed: int32 [B, T] -> float32 [B,
    latent]. provenance: as above.
    """

    tokenize: Callable[[Sequence[str]], Tokens]
    embed: Callable[[np.ndarray], jax.Array]
    provenance: dict[str, Any]


def defaults() -> dict[str, Any]:
    """The `towers` section of a config."""
    return {
        # Imported SLIP or CLIP: both towers, their normalisation and width; empty: the two sections
        # below.
        "weights": "",
        "image": {"name": "jax3dret.models.clip:VisionTower"},
        # Imported weights of the image network alone, or a package that holds them; empty: of the
        # network's own package, where it has one, else random.
        "image_weights": "",
        "normalisation": "",  # of the pictures: "imagenet", "clip"; empty: the network's own
        "text": {"name": "jax3dret.models.clip:TextTower"},
        # Likewise of the text network, for jax3dret.models.minilm:MiniLm.
        "text_weights": "",
        # Pictures in the space of the text tower: what the image network, a classifier of ImageNet,
        # says of its classes weighs the vectors of their names (models/conse.py).
        "conse": False,
        "conse_top": 0,  # of the likeliest classes; 0: all
        # CLIP's file of merges, bpe_simple_vocab_16e6.txt.gz; empty: text is read byte by byte.
        "merges": "",
        "truncate": "keep_end",  # "drop_end" as SLIP and ULIP did
        # Width of the shared space; a tower of another width passes a fixed random projection.
        "latent": 512,
        # Subtract the mean of the training split, without which random towers see no difference.
        "centre": False,
    }


def image_tower(settings: Mapping[str, Any], image_size: int, seed: int) -> ImageTower:
    """The frozen image tower. Raises ConfigError for a wrong setting, DataError for an import that
    cannot be read.
    """
    if settings["weights"]:
        if settings["conse"]:
            raise ConfigError(
                "config.towers.conse: imported SLIP and CLIP place pictures beside text "
                "themselves; "
                "leave config.towers.weights empty"
            )
        meta, both = _pair(settings["weights"])
        style = meta["kind"]
        section = {
            "name": "jax3dret.models.clip:VisionTower",
            "style": style,
            **_fields(meta, "vision"),
        }
        variables: dict[str, Any] = {"params": both["params"]["vision"]}
        normalisation = "clip" if style == "clip" else "imagenet"
        module = _image_network(section, image_size)
    else:
        section = dict(settings["image"])
        names = class_names() if settings["conse"] else ()
        module = _image_network(
            {**section, **({"num_classes": len(names)} if names else {})}, image_size
        )
        normalisation = normalisation_of(module, settings["normalisation"], "towers.normalisation")
        weights = settings["image_weights"] or getattr(module, "package", "")
        sample = jnp.zeros((1, image_size, image_size, 3))
        begun = (rng.stream(seed, "image tower"), sample)
        if weights:
            init = functools.partial(module.init, *begun)
            variables = _matched(open_weights(weights), init, "image", weights)
        else:
            variables = jax.jit(module.init)(*begun)
        if names:
            return _conse_tower(module, variables, section, normalisation, settings, seed)
    provenance = {"model": section, "weights": digest(variables), "normalisation": normalisation}
    run = frozen(module, variables, NORMALISATIONS[normalisation])
    embed, provenance = _to_latent(
        run, provenance, module.embedding_dim, settings["latent"], rng.stream(seed, "image latent")
    )
    return ImageTower(embed, provenance)


def normalisation_of(module: Any, given: str, key: str) -> str:
    """The name of how pictures are prepared: as `given`, else as the network itself says, else
    ImageNet's.

    Raises ConfigError for an unknown name, and for another than the network's own.
    """
    own = getattr(module, "normalisation", "")
    name = given or own or "imagenet"
    if name not in NORMALISATIONS:
        raise ConfigError(
            f"config.{key} '{name}' is unknown; it is one of {', '.join(NORMALISATIONS)}"
        )
    if own and name != own:
        raise ConfigError(
            f"config.{key} is '{name}', but {type(module).__name__} reads pictures as '{own}'; "
            "leave it empty"
        )
    return name


def log_scale(settings: Mapping[str, Any], otherwise: float) -> float:
    """The logarithm of the logit scale that the imported pair was trained with; random towers have
    none.
    """
    return (
        float(_pair(settings["weights"])[1]["params"]["logit_scale"])
        if settings["weights"]
        else otherwise
    )


def text_tower(settings: Mapping[str, Any], seed: int, *, where: str = "towers") -> TextTower:
    """The frozen text tower and its tokenizer. settings: "latent" 0 keeps the tower's own width.
    where: the section of the config that they come from, for errors. Raises as `image_tower`.
    """
    section = dict(settings["text"])
    if not settings["weights"]:
        module = _build(section, "towers.text")
        if hasattr(module, "package"):
            return _sentence_tower(module, section, settings, seed)
    if settings["weights"]:
        if not settings["merges"]:
            raise ConfigError(
                f"config.{where}.merges: the imported text tower needs CLIP's "
                "bpe_simple_vocab_16e6.txt.gz"
            )
        meta, both = _pair(settings["weights"], where)
        section = {"name": "jax3dret.models.clip:TextTower", **_fields(meta, "text")}
        tokenizer = load_tokenizer(settings["merges"])
        variables: dict[str, Any] = {"params": both["params"]["text"]}
        module = _build(section, "towers.text")
    else:
        tokenizer = (
            load_tokenizer(settings["merges"], merges=None) if settings["merges"] else Tokenizer([])
        )
        section["vocab_size"] = tokenizer.vocab_size
        module = _build(section, "towers.text")
        sample = jnp.zeros((1, module.context_length), jnp.int32)
        variables = jax.jit(module.init)(rng.stream(seed, "text tower"), sample)
    if module.vocab_size != tokenizer.vocab_size:
        raise ConfigError(
            f"config.{where}.merges gives {tokenizer.vocab_size} tokens, the text tower has "
            f"{module.vocab_size}; "
            "the file must be the one that its weights go with"
        )
    placed = jax.device_put(variables)
    compiled = jax.jit(module.apply)
    provenance = {"model": section, "weights": digest(variables), "truncate": settings["truncate"]}
    embed, provenance = _to_latent(
        lambda tokens: compiled(placed, tokens),
        provenance,
        module.embedding_dim,
        settings["latent"] or module.embedding_dim,
        rng.stream(seed, "text latent"),
    )
    tokenize = functools.partial(
        tokenizer, context_length=module.context_length, truncate=settings["truncate"]
    )
    return TextTower(tokenize, embed, provenance)


def _sentence_tower(
    module: Any, section: dict[str, Any], settings: Mapping[str, Any], seed: int
) -> TextTower:
    """A network that comes with a tokenizer of its own. Its padding is token 0."""
    weights = settings["text_weights"] or module.package
    opened = open_weights(weights)
    tokenize = WordPiece(opened.folder / TOKENIZER)
    sample = jnp.zeros((1, 8), jnp.int32)
    init = functools.partial(module.init, rng.stream(seed, "text tower"), sample, sample == 0)
    variables = _matched(opened, init, "text", weights)
    placed = jax.device_put(variables)
    compiled = jax.jit(lambda variables, ids: module.apply(variables, ids, ids != 0))
    provenance = {"model": section, "weights": digest(variables), "tokenizer": tokenize.sha256}
    embed, provenance = _to_latent(
        lambda ids: compiled(placed, ids),
        provenance,
        module.embedding_dim,
        settings["latent"],
        rng.stream(seed, "text latent"),
    )
    return TextTower(tokenize, embed, provenance)


def _conse_tower(
    module: Any,
    variables: Mapping[str, Any],
    section: dict[str, Any],
    normalisation: str,
    settings: Mapping[str, Any],
    seed: int,
) -> ImageTower:
    """Pictures among the names of their classes, as the text tower embeds those."""
    names, top = class_names(), settings["conse_top"]
    text = text_tower(settings, seed)
    words = text.embed(text.tokenize(names).ids)
    placed = jax.device_put((dict(variables), words))

    @jax.jit
    def run(placed: Any, images: Any) -> jax.Array:
        network, vectors = placed
        logits = module.apply(network, normalise(images, NORMALISATIONS[normalisation]))
        return conse(logits, vectors, top)

    provenance = {
        "model": section,
        "weights": digest(variables),
        "normalisation": normalisation,
        "conse": {"words": digest(words), "top": top},
    }
    return ImageTower(lambda images: run(placed, images), provenance)


def _matched(opened: Opened, init: Callable[[], Any], which: str, weights: str) -> dict[str, Any]:
    """What the network needs of the weights. Raises ConfigError where they are of another network."""
    source = f"config.towers.{which}_weights={weights}"
    fresh = jax.eval_shape(init)
    return {
        key: checkpoint.match_params(tree, opened.variables.get(key, {}), source=source)[0]
        for key, tree in fresh.items()
    }


def _pair(folder: str, where: str = "towers") -> tuple[dict[str, Any], dict[str, Any]]:
    meta, variables = load_imported(folder)
    if meta.get("kind") not in ("slip", "clip"):
        alone = " For an image network alone there is towers.image_weights"
        raise ConfigError(
            f"config.{where}.weights={folder}: is an import of {meta.get('kind')}; SLIP or CLIP "
            f"holds both towers.{alone if where == 'towers' else ''}"
        )
    return meta, variables


def _fields(meta: Mapping[str, Any], which: str) -> dict[str, Any]:
    """Of a tower as an import describes it, whoever it is from: what it is, is not for it to say."""
    return {key: value for key, value in meta["model"][which].items() if key != "name"}


def _image_network(section: Mapping[str, Any], image_size: int) -> Any:
    module = _build(section, "towers.image")
    expected = getattr(module, "image_size", image_size)
    if expected != image_size:
        raise ConfigError(
            f"config.views.size is {image_size}, the image tower takes {expected} pixels; set "
            f"views.size={expected}"
        )
    return module


def _build(section: Mapping[str, Any], where: str) -> Any:
    target = configs.resolve(section["name"], where=f"config.{where}.name")
    kwargs = {key: value for key, value in section.items() if key != "name"}
    configs.check_call(target, kwargs, where=f"config.{where}")
    return target(**kwargs)


def _to_latent(
    embed: Callable[[Any], jax.Array],
    provenance: dict[str, Any],
    width: int,
    latent: int,
    key: jax.Array,
) -> tuple[Callable[[np.ndarray], jax.Array], dict[str, Any]]:
    """Adds the fixed random projection (Gaussian, which keeps angles on average) where the widths
    differ.
    """
    if width == latent:
        return embed, provenance
    matrix = jax.random.normal(key, (width, latent)) / np.sqrt(latent)
    project = jax.jit(lambda x: x @ matrix)
    return lambda x: project(embed(x)), {**provenance, "projected": [width, latent, digest(matrix)]}
