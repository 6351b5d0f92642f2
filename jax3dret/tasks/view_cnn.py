"""The network that reads single pictures, rendered views or drawings: imported, trained elsewhere
or random, frozen or not.
"""

from __future__ import annotations

import functools
import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core import checkpoint, rng
from jax3dret.core.types import ConfigError, PyTree
from jax3dret.data.features import digest, frozen_features
from jax3dret.data.images import normalise
from jax3dret.data.rows import Rows, open_rows
from jax3dret.geometry import cameras
from jax3dret.models.frozen import frozen
from jax3dret.tasks.pictures import view_file
from jax3dret.tasks.towers import NORMALISATIONS, normalisation_of
from jax3dret.weights import packages
from jax3dret.weights.importing import IMAGE_NETWORKS, MARK, open_weights

RANDOM = "random"
# Pictures that a view network reads at a time.
PICTURES = 48


def graph_vertices(name: str) -> np.ndarray:
    """float32 [V, 3], where the graph network is told that the cameras of a set stand: View-GCN's
    own coordinates for its two sets (and the dodecahedron, which is one of them, and INRet's ring
    in the same order), directions of unit length for others. z is up.
    """
    published = {"viewgcn12": 12, "inret12": 12, "viewgcn20": 20, "dodecahedron20": 20}
    if number := published.get(name.removesuffix("-parallel")):
        return cameras.viewgcn_vertices(number)
    positions = np.asarray(cameras.by_name(name).positions, np.float64)
    return (positions / np.linalg.norm(positions, axis=1, keepdims=True)).astype(np.float32)


def views_at_a_time(views: int) -> int:
    """The shapes of a batch whose pictures a network reads at once."""
    return max(1, min(16, PICTURES // views))


class ViewCnn:
    """The network that reads one view: uint8 pictures in, features out; with what a frozen one
    needs to be kept on disk.

    weights: imported weights, a package that holds some, or a workdir, read here; "random": from
    the seed; empty: those of the network's own package, random where it has none. normalisation: of
    the pictures; empty: the network's own, else ImageNet's. key: as the config's settings of it
    begin.
    """

    def __init__(
        self,
        module: nn.Module,
        section: dict[str, Any],
        *,
        weights: str,
        normalisation: str,
        is_frozen: bool,
        size: int,
        seed: int,
        key: str = "cnn",
    ) -> None:
        self._normalisation = normalisation_of(module, normalisation, f"{key}_normalisation")
        self.module, self.section, self.frozen = module, section, is_frozen
        self.weights = weights or getattr(module, "package", "") or RANDOM
        self._loaded, self._kind = None, ""
        if self.weights != RANDOM:
            self._loaded, self._kind = _load_cnn(self.weights, key)
        self._size, self._seed, self._key = size, seed, key
        # Networks that are only ever frozen here, such as MobileNetV2, know no training.
        self._trains = "train" in inspect.signature(type(module).__call__).parameters

    @property
    def width(self) -> int:
        """Width of the features of a view."""
        return int(self.module.embedding_dim)  # type: ignore[attr-defined]

    @property
    def parameters(self) -> int:
        """How many numbers its weights are, without the statistics of normalisations."""
        abstract = jax.eval_shape(self.initial)["params"]
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(abstract))

    def initial(self) -> dict[str, PyTree]:
        """{"params", "batch_stats"}: the imported ones, else random ones; may be called under a
        trace.

        Raises ConfigError where the weights are of another network.
        """
        picture = jnp.zeros((1, self._size, self._size, 3))
        init = functools.partial(self.module.init, rng.stream(self._seed, "view cnn"), picture)
        if self._loaded is None:
            variables = init()
        else:
            source, fresh = f"config.{self._key}_weights={self.weights}", jax.eval_shape(init)
            try:
                variables = {
                    key: checkpoint.match_params(w, self._loaded.get(key, {}), source=source)[0]
                    for key, w in fresh.items()
                }
            except ConfigError as error:
                named = self.section.get("name", "")
                if not self._kind or IMAGE_NETWORKS.get(self._kind, "") == named:
                    raise
                network = IMAGE_NETWORKS.get(self._kind)
                todo = f"set config.{self._key}.name={network}" if network else "give others"
                raise ConfigError(
                    f"{source}: these are weights of {self._kind}, not of {named}; {todo}"
                ) from error
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    @functools.cached_property
    def _frozen_variables(self) -> dict[str, PyTree]:
        return jax.tree.map(np.asarray, self.initial() if self._loaded else jax.jit(self.initial)())

    @functools.cached_property
    def _embed(self) -> Callable[[Any], jax.Array]:
        return frozen(self.module, self._frozen_variables, NORMALISATIONS[self._normalisation])

    def view_features(self, views: Mapping[str, Any], source: Any) -> pathlib.Path:
        """What the frozen network says of every view of a split, float32 [N, V, F], computed now if
        it is not there.
        """
        stored = view_file(views, source)
        return self.features(
            source, open_rows(stored), {"views": stored.name}, what="view features"
        )

    def features(
        self, source: Any, pictures: Rows, shown: Mapping[str, Any], *, what: str
    ) -> pathlib.Path:
        """What the frozen network says of the pictures of every record, uint8 [V, S, S, 3] each:
        float32 [N, V, F], as above.

        shown: what the pictures depend on, JSON-like.
        """
        provenance = {
            "model": self.section,
            "weights": digest(self._frozen_variables),
            "normalisation": self._normalisation,
            **shown,
        }
        return frozen_features(source, pictures, self._embed, provenance=provenance, what=what)

    def apply(
        self, variables: Mapping[str, PyTree], pictures: jax.Array, train: bool
    ) -> tuple[jax.Array, PyTree]:
        """uint8 [B, V, S, S, 3] -> float32 [B, V, F], and the new statistics."""
        flat = normalise(
            pictures.reshape(-1, *pictures.shape[2:]), NORMALISATIONS[self._normalisation]
        )
        state = variables["batch_stats"]
        out: Any
        if train and self._trains:
            out, updated = self.module.apply(variables, flat, train=True, mutable=["batch_stats"])
            state = updated.get("batch_stats", {})
        else:
            out = self.module.apply(variables, flat)
        return out.reshape(*pictures.shape[:2], -1).astype(jnp.float32), state


def _load_cnn(weights: str, key: str) -> tuple[dict[str, PyTree], str]:
    """{"params", "batch_stats"} of imported weights, of an installed package, or of the CNN that a
    run trained; and what kind of weights they are, empty for those of a run.
    """
    folder = pathlib.Path(weights)
    if (folder / MARK).is_file() or packages.find(weights) is not None:
        opened = open_weights(weights)
        return opened.variables, opened.meta.get("kind", "")
    if not (folder / checkpoint.FOLDER).is_dir():
        raise ConfigError(
            f"config.{key}_weights={folder}: neither imported weights (jax3dret weights import "
            "FILE --out DIR) nor the workdir of a "
            "run with config.objective=single_view"
        )
    checkpoints = checkpoint.Checkpoints(folder)
    try:
        model = checkpoints.raw_model()
    finally:
        checkpoints.close()
    if "cnn" not in model["params"]:
        raise ConfigError(
            f"config.{key}_weights={folder}: a run without a CNN that was trained on views"
        )
    variables = {
        "params": model["params"]["cnn"],
        "batch_stats": model["model_state"].get("cnn", {}),
    }
    return variables, ""
