"""Linear metrics fitted to embeddings after training, for `Recipe.calibrate`: what makes a class
look alike is made small, so that distances count what tells classes apart.

With the within-class covariance S of N embeddings of C classes, shrunk towards a multiple of the
identity (Friedman 1989, "Regularized Discriminant Analysis", section 2),

    S = 1 / (N - C) sum_i (x_i - m_c(i)) (x_i - m_c(i))^T        S' = (1 - s) S + s tr(S) / D I

whitening maps x to S'^(-1/2) (x - m), m the mean of the class means (Hariharan, Malik, Ramanan
2012, "Discriminative Decorrelation", section 3). The discriminant keeps of that the directions in
which the class means differ, at most C - 1 (Fisher 1936; Rao 1948).
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core import config as configs
from jax3dret.core.types import (
    Calibrate,
    ConfigError,
    DataError,
    EmbedFn,
    EvaluationData,
    OpenSource,
)
from jax3dret.evaluators.embed import embed_side
from jax3dret.evaluators.sides import open_side

FITS = ("", "whitening", "discriminant")


def defaults() -> dict[str, Any]:
    """The `calibration` section of a config."""
    return {
        "fit": "",  # "whitening" or "discriminant"; empty: nothing is fitted
        "shrinkage": 0.3,
        # Directions that the discriminant keeps; 0: all that the classes of its data leave. It must
        # be told where `data` is another data set: a model is opened without that.
        "width": 0,
        "data": "",  # the prepared data set that it is fitted to; empty: the run's own
        "split": "train",
    }


def check(settings: configs.Config) -> None:
    """Raises ConfigError for a setting that does not exist or is out of range."""
    if settings.fit not in FITS:
        raise ConfigError(
            f"config.calibration.fit '{settings.fit}' is unknown; it is one of: "
            f"{', '.join(FITS[1:])}, or empty"
        )
    if settings.fit == "discriminant" and settings.data and settings.width < 1:
        raise ConfigError(
            f"config.calibration.width is {settings.width}, the data set that the discriminant is "
            f"fitted to is another, {settings.data}; set it to the number of directions to keep, "
            "at "
            "most the classes of that data set less one"
        )
    if not 0 < settings.shrinkage <= 1:
        raise ConfigError(
            f"config.calibration.shrinkage is {settings.shrinkage}; it must be above 0 and at most "
            "1 (few items leave directions without any scatter)"
        )


def width_of(settings: configs.Config, embedding_dim: int, classes: int) -> int:
    """Numbers of an embedding behind the map. classes: of the data that it is fitted to, read where
    there is a discriminant.

    Raises ConfigError for more directions than the classes leave.
    """
    if settings.fit != "discriminant":
        return embedding_dim
    if classes < 2:
        raise ConfigError(
            f"config.calibration.fit=discriminant: {classes} class, and at least two are needed to "
            "tell apart; config.calibration.fit=whitening takes one"
        )
    most = min(embedding_dim, classes - 1)
    if settings.width > most:
        raise ConfigError(
            f"config.calibration.width is {settings.width}; {classes} classes and embeddings of "
            f"{embedding_dim} numbers leave at most {most}"
        )
    return int(settings.width) or most


def calibrate(
    settings: configs.Config,
    data: EvaluationData,
    open_source: OpenSource,
    width: int,
    modality: str = "shape",
) -> Calibrate:
    """What fits the map of a modality to a labelled split.

    data: how the records are read, of the data set that the settings name. width: as `width_of` has
    it. Every process embeds all records and fits the same map.
    """

    def fit(embed: EmbedFn) -> dict[str, dict[str, np.ndarray]]:
        side = open_side(data, open_source, modality, settings.split)
        with tempfile.TemporaryDirectory(prefix="jax3dret-") as scratch:
            vectors = np.array(embed_side(embed, side, pathlib.Path(scratch) / "fit.npy").vectors)
        labels = np.asarray(side.source.labels)
        if settings.fit == "whitening":
            return {modality: whitening(vectors, labels, settings.shrinkage)}
        return {modality: discriminant(vectors, labels, settings.shrinkage, width)}

    return fit


def whitening(
    x: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], shrinkage: float
) -> dict[str, np.ndarray]:
    """{"matrix": [D, D], "offset": [D]}, float64: x @ matrix + offset is whitened within classes.

    Raises DataError where no class has two items that differ, or a value is not finite.
    """
    means, within = _scatter(x, labels, shrinkage)
    values, vectors = np.linalg.eigh(within)
    matrix = (vectors / np.sqrt(values)) @ vectors.T
    return {"matrix": matrix, "offset": -means.mean(0) @ matrix}


def discriminant(
    x: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], shrinkage: float, width: int
) -> dict[str, np.ndarray]:
    """{"matrix": [D, width], "offset": [width]}: whitened, then the directions in which the class
    means scatter most, the first foremost. Each sign makes the largest entry positive. K classes
    with items leave K - 1 directions; what is wider is zeros.

    Raises as `whitening`, and for items of one class.
    """
    white = whitening(x, labels, shrinkage)
    means, _ = _scatter(x, labels, shrinkage)
    spread = means @ white["matrix"] + white["offset"]
    found = min(width, len(means) - 1)
    if found < 1:
        raise DataError(
            f"calibration: all {len(x)} items are of one class; a discriminant tells two or more "
            "apart, fit it to another split"
        )
    directions = np.linalg.svd(spread, full_matrices=False)[2][:found].T
    largest = np.abs(directions).argmax(0)
    directions = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    directions = np.pad(directions, ((0, 0), (0, width - found)))
    return {"matrix": white["matrix"] @ directions, "offset": white["offset"] @ directions}


def _scatter(
    x: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], shrinkage: float
) -> tuple[Float[np.ndarray, "C D"], Float[np.ndarray, "D D"]]:
    """The class means and S'."""
    x = np.asarray(x, np.float64)
    if not np.isfinite(x).all():
        raise DataError("calibration: an embedding is not finite")
    _, number = np.unique(labels, return_inverse=True)
    counts = np.bincount(number)
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, number, x)
    means /= counts[:, None]
    centred = x - means[number]
    total = float(np.square(centred).sum())
    # Means of equal numbers differ from them by rounding.
    if len(x) <= len(counts) or total <= 1e-24 * float(np.square(x).sum()):
        raise DataError(
            f"calibration: {len(x)} items of {len(counts)} classes do not differ within any class; "
            "fit it to another split"
        )
    within = centred.T @ centred / (len(x) - len(counts))
    shrunk = (1 - shrinkage) * within
    shrunk[np.diag_indices_from(shrunk)] += shrinkage * np.trace(within) / x.shape[1]
    return means, shrunk
