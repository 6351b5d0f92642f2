"""Multi-modal fine-tuning of the ULIP-2 paper (Computers & Graphics 122, 2024, 103993, section
3.2): MMCL.

A point encoder learns to put a cloud where frozen image and text towers put its pictures and
captions; the projection is dropped, and the encoder's output is the descriptor that retrieval
compares. What makes up this part of the paper:

    models/pointbert.py                          the encoder and its projection into the shared space
    models/clip.py, tasks/towers.py              the frozen towers (SLIP's in the paper)
    geometry/cameras.py, views.py, data/views.py the pictures, rendered once
    tasks/pictures.py, data/own_views.py         or those that the user rendered
    data/captions.py, data/captioning.py         the captions: from a file, from geometry, from a vision-language model
    data/features.py                             what the towers say of every picture and caption, computed once
    losses/contrastive.py                        the loss, as ULIP has it and as equation 1 prints it
    evaluators/cross_modal.py                    does a cloud find its own picture?
    configs/ulip2_mmcl.py                        the experiments
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core.types import (
    Batch,
    ConfigError,
    DataError,
    DataSpec,
    Metrics,
    OpenSource,
    PyTree,
    Recipe,
    Record,
    Task,
)
from jax3dret.data import points
from jax3dret.data.features import frozen_features, mean_feature
from jax3dret.data.rows import Rows, open_rows
from jax3dret.inputs.points import Points
from jax3dret.losses.contrastive import INITIAL_LOG_SCALE, MAX_LOG_SCALE
from jax3dret.tasks import pictures, recipe, towers
from jax3dret.tasks.encoder import embedder, initializer, train_pass
from jax3dret.tasks.ulip2 import finetune

log = logging.getLogger("jax3dret")
PICKS = ("one", "mean")


# Beside those of every task: the number of processes that render views.
PLACE_KEYS = ("views.jobs",)


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: those of the other objectives of the paper, and what this one adds."""
    config = finetune.defaults()
    config.task = "jax3dret.tasks.ulip2.mmcl"
    del config["objective"]
    config.head = {"name": "jax3dret.models.pointbert:PointProjection"}
    config.loss = {"name": "jax3dret.losses.contrastive:mmcl"}
    config.views = pictures.defaults("objaverse4")
    config.captions = {"name": "jax3dret.data.captions:templates"}
    config.towers = towers.defaults()
    config.pick = (
        "one"  # a random view and one of its captions in every step; "mean": all of them, averaged
    )
    config.evals.cloud_to_image = {
        "name": "jax3dret.evaluators.cross_modal:make",
        "query": "latent",
        "gallery": "image",
        "split": "test",
    }
    # The paper's text; False: frozen at what the imported towers bring, as in ULIP's code.
    config.learn_log_scale = True
    return config


# The towers and the projection are of the training alone.
model = finetune.model


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one run. Nothing is rendered or embedded before the first batch is asked for.

    Raises:
        ConfigError: a wrong setting, towers and views that do not fit.
    """
    if config.pick not in PICKS:
        raise ConfigError(
            f"config.pick '{config.pick}' is unknown; it is one of: {', '.join(PICKS)}"
        )
    loss_fn = configs.resolve(config.loss.name, where="config.loss.name")
    loss_kwargs = config.loss.kwargs()
    configs.check_call(loss_fn, loss_kwargs, where="config.loss", positional=4)
    rows = TripletRows(
        views=config.views.to_dict(),
        towers=config.towers.to_dict(),
        captions=config.captions.build(),
        captions_name=json.dumps(config.captions.to_dict(), sort_keys=True, default=str),
        seed=config.seed,
        open_train=functools.partial(open_source, config.train.split),
    )
    encoder, head = config.model.build(), config.head.build()
    log_scale = INITIAL_LOG_SCALE
    if not config.learn_log_scale:
        log_scale = towers.log_scale(config.towers.to_dict(), INITIAL_LOG_SCALE)
        others = [rule for rule in config.optim.rules if rule[0] != "log_scale"]
        config = config.with_values({"optim.rules": (("log_scale", {"freeze": True}), *others)})
    task = triplet_task(encoder, head, loss_fn, loss_kwargs, log_scale)
    augment = config.data.augment.build()
    latent = config.towers.latent
    up_axis, num_points = (
        recipe.up_axis(config, open_source(config.train.split)),
        config.data.num_points,
    )
    prepare = (points.UpAxis(up_axis), points.Subsample(num_points))

    def data(modality: str, split: str) -> DataSpec:
        recipe.check_modality(modality, ("shape", "latent", "image"))
        if modality == "shape":
            chain = Points(num_points).transforms(up_axis)
            return recipe.evaluation_spec(config, split, chain, ("points",))
        # The cloud and its pictures in one record: the projection of one is compared with the mean
        # of the other.
        chain = (*prepare, points.Keep(("points", "image", "label")))
        return recipe.evaluation_spec(config, split, chain, ("points",), (("image", rows.image),))

    return recipe.build(
        config,
        open_source,
        task,
        rows={
            "points": jax.ShapeDtypeStruct((num_points, 3), jnp.float32),
            "image": jax.ShapeDtypeStruct((latent,), jnp.float32),
            "text": jax.ShapeDtypeStruct((latent,), jnp.float32),
        },
        features=("points",),
        arrays=(("image", rows.image), ("text", rows.text)),
        training=(
            *prepare,
            *augment,
            PickTriplet(config.pick),
            points.Keep(("points", "image", "text", "label")),
        ),
        data=data,
        model=model(config, ()),
        meta={
            **finetune.point_meta(config, encoder),
            "objective": "mmcl",
            "towers": config.towers.to_dict(),
            "captions": config.captions.to_dict(),
            "views": {"cameras": config.views.cameras, "size": config.views.size},
            "pictures": pictures.said(config.views.to_dict(), open_source(config.train.split)),
        },
    )


def caption(config: configs.Config, open_source: OpenSource) -> pathlib.Path:
    """Makes the captions that a run of this config trains with, and returns their file.

    Raises ConfigError where config.captions names nothing that makes captions from pictures; see
    `data.captioning`.
    """
    source, views = open_source(config.train.split), config.views.to_dict()
    captions = config.captions.build()
    if not hasattr(captions, "write"):
        raise ConfigError(
            f"config.captions.name '{config.captions.name}' makes no captions from pictures; "
            "jax3dret.data.captioning:vision_language_model does"
        )
    written: pathlib.Path = captions.write(
        source,
        pictures.view_path(views, source),
        lambda: open_rows(pictures.view_file(views, source)),
    )
    return written


def log_scale_rules(*, learn: bool) -> tuple[tuple[str, dict[str, Any]], ...]:
    """For config.optim.rules: the logit scale is not decayed and stays between 1 and 100 (published
    code), or is frozen.
    """
    setting = {"decay": False, "bounds": (0.0, MAX_LOG_SCALE)} if learn else {"freeze": True}
    return (("log_scale", setting), (".*", {}))


def triplet_task(
    encoder: nn.Module,
    head: nn.Module,
    loss_fn: Callable[..., Any],
    loss_kwargs: Mapping[str, Any],
    log_scale: float = INITIAL_LOG_SCALE,
) -> Task:
    """Batches of "points" [B, N, 3] with the frozen "image" and "text" features [B, latent] of one
    object each; log_scale: the logit scale's logarithm at the start.
    """

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        params, model_state = initializer(encoder, head, "points")(key, batch)
        return {**params, "log_scale": jnp.float32(log_scale)}, model_state

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        embedding, state = train_pass(
            encoder, params["encoder"], model_state["encoder"], batch["points"], key, "encoder"
        )
        cloud: Any = head.apply({"params": params["head"]}, embedding)
        value, metrics = loss_fn(
            cloud, batch["image"], batch["text"], params["log_scale"], **loss_kwargs
        )
        return value, (
            {**model_state, "encoder": state},
            {**metrics, "logit_scale": jnp.exp(params["log_scale"]).astype(jnp.float32)},
        )

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        out = dict(embedder(encoder)(params, model_state, batch))
        if "image" in batch:
            cloud: Any = head.apply({"params": params["head"]}, out["shape"])
            out |= {
                "latent": cloud.astype(jnp.float32),
                "image": _unit(_unit(batch["image"]).mean(1)),
            }
        return out

    return Task(init, loss, embed, batch_coupled=True)


@dataclasses.dataclass(frozen=True)
class PickTriplet:
    """record["image"] [V, D] and record["text"] [V or 1, P, D] -> one [D] each.

    pick: "one" draws a view, then one caption of that view (or of the whole object); "mean"
    averages the unit vectors of all.
    """

    pick: str = "one"

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        image, text = np.asarray(record["image"]), np.asarray(record["text"])
        if text.shape[0] not in (1, image.shape[0]):
            raise DataError(
                f"{record.get('id')}: captions of {text.shape[0]} views, but {image.shape[0]} "
                "views are rendered; "
                "expected one list of captions for each view, or one for all"
            )
        if self.pick == "mean":
            return {
                **record,
                "image": _mean_unit(image),
                "text": _mean_unit(text.reshape(-1, text.shape[-1])),
            }
        view = int(rng.integers(len(image)))
        texts = text[view if len(text) > 1 else 0]
        return {**record, "image": image[view], "text": texts[rng.integers(len(texts))]}


class TripletRows:
    """What the frozen towers say of the pictures and captions of a split, as the files that join
    its records.
    """

    def __init__(
        self,
        *,
        views: Mapping[str, Any],
        towers: Mapping[str, Any],
        captions: Callable[..., Any],
        captions_name: str,
        seed: int,
        open_train: Callable[[], Any],
    ) -> None:
        self._views, self._towers, self._seed = views, towers, seed
        self._captions, self._captions_name = captions, captions_name
        self._open_train = open_train

    def image(self, source: Any) -> pathlib.Path:
        """float32 [N, V, latent], centred on the training split's mean if the config says so."""
        return self._centred(self._image, source)

    def text(self, source: Any) -> pathlib.Path:
        """float32 [N, V or 1, P, latent], likewise."""
        return self._centred(self._text, source)

    @functools.cached_property
    def _image_tower(self) -> towers.ImageTower:
        return towers.image_tower(self._towers, self._views["size"], self._seed)

    @functools.cached_property
    def _text_tower(self) -> towers.TextTower:
        return towers.text_tower(self._towers, self._seed)

    def _stored_views(self, source: Any) -> pathlib.Path:
        return pictures.view_file(self._views, source)

    def _image(self, source: Any) -> pathlib.Path:
        # First: what is wrong with either tower, or that there are no captions, is found before the
        # views are rendered.
        tower, _ = self._image_tower, self._text_tower
        if hasattr(self._captions, "require") and source.split == self._open_train().split:
            self._captions.require(source, pictures.view_path(self._views, source))
        stored = self._stored_views(source)
        provenance = {**tower.provenance, "views": stored.name}
        return frozen_features(
            source, open_rows(stored), tower.embed, provenance=provenance, what="image features"
        )

    def _text(self, source: Any) -> pathlib.Path:
        captions = self._captions(source, open_rows(self._stored_views(source)))
        lists = {len(item) for item in captions}
        if len(lists) > 1:
            raise DataError(
                f"{source.name}: some items have captions for {min(lists)} views, some for "
                f"{max(lists)}; give each the same"
            )
        views, each = lists.pop(), max(len(view) for item in captions for view in item)
        # A view with fewer captions than others repeats them in turn.
        texts = [view[i % len(view)] for item in captions for view in item for i in range(each)]
        tokens = self._text_tower.tokenize(texts)
        if cut := int(tokens.truncated.sum()):
            log.warning(
                "%s, split '%s': %d of %d captions are longer than the text tower reads (%d "
                "tokens) and were cut",
                source.name,
                source.split,
                cut,
                len(texts),
                tokens.ids.shape[1],
            )
        rows = tokens.ids.reshape(len(source), views * each, -1)
        said = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
        provenance = {
            **self._text_tower.provenance,
            "captions": self._captions_name,
            "said": said,
            "views": views,
        }
        return frozen_features(
            source,
            rows,
            self._text_tower.embed,
            provenance=provenance,
            what="text features",
            lead=(views, each),
        )

    def _centred(self, make_file: Callable[[Any], pathlib.Path], source: Any) -> pathlib.Path:
        path = make_file(source)
        if not self._towers["centre"]:
            return path
        train = self._open_train()
        reference = path if train.split == source.split else make_file(train)
        mean = mean_feature(reference)
        values = open_rows(path)
        lead, flat = np.shape(values[0])[:-1], _Flat(values)
        provenance = {"of": path.name, "centred on": reference.name}
        return frozen_features(
            source,
            flat,
            lambda x: x - mean,
            provenance=provenance,
            what="centred features",
            lead=lead,
        )


class _Flat:
    """Rows [..., D] as [M, D]."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> np.ndarray:
        row = np.asarray(self._rows[index])
        return row.reshape(-1, row.shape[-1])


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _mean_unit(x: np.ndarray) -> np.ndarray:
    unit = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return unit.mean(0).astype(np.float32)
