"""What the two sides of MV-HGNN read: stored features of views and drawings, or drawings, alone or
as quadruplets.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core import rng
from jax3dret.core.types import (
    Arrays,
    ConfigError,
    DataError,
    OpenSource,
    Record,
    Source,
    Transform,
)
from jax3dret.data.matching import Matched, matched
from jax3dret.data.points import Keep
from jax3dret.data.quadruplets import LateRows, Quadruplets, Side, require_both
from jax3dret.data.rows import open_rows
from jax3dret.data.sketches import PREPARE, Drawing
from jax3dret.tasks.mvhgnn.networks import PICTURES, STORED, Networks, sketch_shape
from jax3dret.tasks.mvhgnn.stages import Stage
from jax3dret.tasks.pictures import view_file

log = logging.getLogger("jax3dret")


def unseen_note(config: configs.Config, shapes: Source) -> str:
    """What is to be said where the data has another number of unseen classes than the paper; empty
    where nothing is.

    Raises ConfigError for another number than config.unseen_classes asks for.
    """
    classes = (shapes.manifest.get("source") or {}).get("classes") or {}
    found, paper = classes.get("unseen"), classes.get("unseen_published")
    if config.unseen_classes and found != config.unseen_classes:
        raise ConfigError(
            f"config.unseen_classes is {config.unseen_classes}, but {shapes.name} has "
            f"{'no count of them' if found is None else found}; leave it out, or give other data"
        )
    if config.unseen_classes or paper is None or found == paper:
        return ""
    line = (
        f"The data has {found} unseen classes, the paper {paper}: its numbers are of another "
        "gallery."
    )
    log.warning("%s: %s", shapes.name, line)
    return line


def open_sketches(
    config: configs.Config, open_source: OpenSource, class_names: tuple[str, ...]
) -> Source:
    """The drawings to train with, under the class names of the shapes."""
    source = open_source(config.train.split, config.sketches.name)
    if source.manifest.get("kind") == "shapes":
        raise ConfigError(
            f"config.sketches.name={config.sketches.name} holds shapes; a data set of drawings is "
            "needed"
        )
    if tuple(source.class_names) == class_names:
        return source
    found: Matched = matched(source, class_names)
    if found.dropped_items:
        log.warning("%s", found.summary())
    return found


class Inputs:
    """Data in the form that the networks of a run read it. Nothing is rendered or computed before
    the first row is asked for.

    views, sketches: those sections of the config.
    """

    def __init__(
        self, networks: Networks, views: Mapping[str, Any], sketches: Mapping[str, Any]
    ) -> None:
        self._networks, self._views, self._sketches = networks, views, sketches
        self._stored = networks.tower_cnn is not None
        self._drawn = PREPARE[sketches["prepare"]]
        self._keys = {
            "shape": STORED["shape"],
            "sketch": (STORED if self._stored else PICTURES)["sketch"],
        }

    def check(self, sketches: Source) -> None:
        """Raises DataError for drawings that do not hold what is to be prepared."""
        if self._drawn not in sketches.features:
            raise DataError(
                f"{sketches.name}: its drawings hold {', '.join(sketches.features)} and no "
                f"'{self._drawn}', which config.sketches.prepare={self._sketches['prepare']} "
                "needs: pictures of a folder have it when they are prepared anew, drawings that "
                "are made "
                "here do not; set config.sketches.prepare=strokes"
            )

    def features(self, side: str) -> tuple[str, ...]:
        """Features of the side's records that are decoded; of most nothing is used, and a label is
        the least there is to read.
        """
        return (self._drawn,) if side == "sketch" and not self._stored else ("label",)

    def arrays(self, side: str, *, copies: int | None = None) -> Arrays:
        """Files that join the records of a side; copies: of each drawing, instead of the configured
        number.
        """
        if side == "shape":
            return ((self._keys[side], self._view_file),)
        if not self._stored:
            return ()
        number = self._sketches["copies"] if copies is None else copies
        return ((self._keys[side], functools.partial(self._sketch_file, number)),)

    def rows(self, stage: Stage) -> dict[str, jax.ShapeDtypeStruct]:
        """One row of each array of a training batch, beside "label" and "mask"."""
        own, across = stage.anchors, "sketch" if stage.anchors == "shape" else "shape"
        rows = {self._keys[own]: self._row(own)}
        if stage.quadruplets:
            label = jax.ShapeDtypeStruct((), jnp.int32)
            rows |= {
                "positive": self._row(across),
                "negative": self._row(across),
                "other": self._row(own),
            }
            rows |= {"negative_label": label, "other_label": label}
        return rows

    def training(self, stage: Stage, shapes: Any, sketches: Any) -> tuple[Transform, ...]:
        """The transforms of training records. Data that is only described, without labels, has
        none.

        Raises DataError for a class of anchors that has nothing on the other side.
        """
        sides = {"shape": shapes, "sketch": sketches}
        if not len(shapes.labels):
            return ()
        key = self._keys[stage.anchors]
        chain: list[Transform] = []
        if stage.anchors == "sketch":
            chain.append(
                PickCopy(key) if self._stored else self._drawing(self._sketches["augment"])
            )
        names = ("shape", "sketch") if stage.anchors == "shape" else ("sketch", "shape")
        anchors, others = (self._side(name, sides[name]) for name in names)
        if stage.quadruplets:
            chain.append(Quadruplets(anchors, others, shapes.class_names))
        elif stage.anchors == "sketch":  # the classes are those of the shapes
            require_both(anchors, others, shapes.class_names)
        return (*chain, Keep((*self.rows(stage), "label")))

    def evaluation(self, modality: str) -> dict[str, Any]:
        """How the records of a split are read for evaluation, as fields of a `DataSpec`; "views":
        the pictures of the shapes."""
        if modality == "views":
            views = functools.partial(view_file, self._views)
            return {"features": ("label",), "arrays": (("views", views),)}
        key = self._keys[modality]
        first: tuple[Transform, ...] = ()
        if modality == "sketch":
            first = (PickCopy(key, first=True) if self._stored else self._drawing(False),)
        return {
            "features": self.features(modality),
            "arrays": self.arrays(modality, copies=0),
            "transforms": (*first, Keep((key, "label"))),
        }

    def _row(self, side: str) -> jax.ShapeDtypeStruct:
        networks = self._networks
        if side == "shape":
            return jax.ShapeDtypeStruct((len(networks.positions), networks.cnn.width), jnp.float32)
        if self._stored:
            return jax.ShapeDtypeStruct(sketch_shape(networks), jnp.float32)
        return jax.ShapeDtypeStruct((networks.size, networks.size), jnp.uint8)

    def _view_file(self, source: Any) -> pathlib.Path:
        return _of_shape(
            self._networks.cnn.view_features(self._views, source), self._row("shape").shape
        )

    def _sketch_file(self, copies: int, source: Any) -> pathlib.Path:
        """float32 [N, 1 + copies, F]: the frozen CNN's features of each drawing, then of its
        distorted copies.
        """
        cnn = self._networks.tower_cnn
        assert cnn is not None
        self.check(source)
        pictures = _Copies(
            source.select(self._drawn), self._drawing(False), copies, self._sketches["seed"]
        )
        shown: dict[str, Any] = {"drawing": self._networks.size, "copies": copies}
        if self._drawn != "png":
            shown["prepare"] = self._sketches["prepare"]
        if copies:
            shown["seed"] = self._sketches["seed"]
        return _of_shape(
            cnn.features(source, pictures, shown, what="sketch features"), (1 + copies, cnn.width)
        )

    def _drawing(self, augment: bool) -> Drawing:
        return Drawing(self._networks.size, augment=augment, prepare=self._sketches["prepare"])

    def _side(self, side: str, source: Any) -> Side:
        if side == "shape":
            rows = LateRows(lambda: open_rows(self._view_file(source)))
            return Side("shapes", source.labels, lambda item, rng: rows[item])
        if self._stored:
            copies = LateRows(
                lambda: open_rows(self._sketch_file(self._sketches["copies"], source))
            )
            return Side("sketches", source.labels, lambda item, rng: _any(copies[item], rng))
        drawing, records = self._drawing(self._sketches["augment"]), source.select(self._drawn)
        return Side(
            "sketches", source.labels, lambda item, rng: drawing(records[item], rng)["sketch"]
        )


@dataclasses.dataclass(frozen=True)
class PickCopy:
    """record[key] [A, F] -> [F]: one of the copies at random, or the first."""

    key: str
    first: bool = False

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        copies = np.asarray(record[self.key])
        return {**record, self.key: copies[0] if self.first else _any(copies, rng)}


class _Copies:
    """Pictures uint8 [1 + copies, S, S, 3] of every drawing: as it is, then distorted, each by a
    generator of its own.
    """

    def __init__(self, source: Any, drawing: Drawing, copies: int, seed: int) -> None:
        self._source, self._copies, self._seed = source, copies, seed
        self._as_drawn, self._distorted = drawing, dataclasses.replace(drawing, augment=True)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> np.ndarray:
        record = self._source[index]
        generators = [
            rng.host_generator(self._seed, "sketch copies", index, n)
            for n in range(1 + self._copies)
        ]
        drawn = [
            (self._distorted if n else self._as_drawn)(record, each)["sketch"]
            for n, each in enumerate(generators)
        ]
        return np.repeat(np.stack(drawn)[..., None], 3, -1)


def _of_shape(path: pathlib.Path, row: tuple[int, ...]) -> pathlib.Path:
    """The same path. Raises DataError for rows of another shape, say of fewer views than there are
    cameras.
    """
    found = np.shape(open_rows(path)[0])
    if found != row:
        raise DataError(
            f"{path}: rows of shape {list(found)}; expected {list(row)}; remove it and run again"
        )
    return path


def _any(copies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(copies[rng.integers(len(copies))])
