"""Candidate generators of the index: ScaNN, and an exact JAX search that runs wherever JAX does.

Both hold float32 vectors and answer "the k rows nearest in Euclidean distance", best first, as
int64[Q, k], with -1 where fewer were found. They check nothing and score nothing: `index` validates
before, and measures the distances again after. ScaNN ends the process on NaN and answers row 0 at
distance NaN when a search runs dry, so nothing else may call it.
"""

from __future__ import annotations

import functools
import importlib.util
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax3dret.core.types import ConfigError, DataError

MIN_TREE_ITEMS = (
    256  # asymmetric hashing trains 16 clusters per block and a tree needs a few leaves
)
_PICKLED = "scann_docids.pkl"


def scann_available() -> bool:
    """Whether ScaNN can be imported here: it has wheels for Linux only."""
    return importlib.util.find_spec("scann") is not None


def _scann():
    try:
        from scann.scann_ops.py import scann_ops_pybind
    except ImportError as error:
        raise ConfigError(
            f"kind='scann' needs the package scann, which has wheels for Linux only ({error}); "
            "kind='exact' needs nothing"
        ) from None
    return scann_ops_pybind


class Exact:
    """All distances by one matrix product, then top-k; shapes are padded so that few programs are
    compiled.
    """

    def __init__(self, vectors: Float[np.ndarray, "N D"]):
        self._num = len(vectors)
        pad = -self._num % 256
        self._vectors = jnp.asarray(np.pad(vectors, ((0, pad), (0, 0))))
        # A padding row is at infinite distance.
        half = 0.5 * np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
        self._half = jnp.asarray(np.pad(half, (0, pad), constant_values=np.inf).astype(np.float32))
        rows = max(1, (1 << 25) // len(self._vectors))
        self._chunk = min(1024, 1 << (rows.bit_length() - 1))

    def candidates(self, queries: Float[np.ndarray, "Q D"], k: int) -> Int[np.ndarray, "Q k"]:
        out = np.empty((len(queries), k), np.int64)
        wide = min(1 << (k - 1).bit_length(), len(self._vectors))
        for start in range(0, len(queries), self._chunk):
            part = queries[start : start + self._chunk]
            size = 1 << (len(part) - 1).bit_length()
            rows = _nearest(
                self._vectors, self._half, np.pad(part, ((0, size - len(part)), (0, 0))), wide
            )
            out[start : start + len(part)] = np.asarray(rows)[: len(part), :k]
        return out


@functools.partial(jax.jit, static_argnames="k")
def _nearest(
    vectors: Float[Array, "N D"], half: Float[Array, " N"], queries: Float[Array, "q D"], k: int
) -> Int[Array, "q k"]:
    # |q|^2 is the same for all rows; full precision because accelerators would otherwise multiply
    # in bfloat16 or TF32.
    scores = jnp.matmul(queries, vectors.T, precision=jax.lax.Precision.HIGHEST) - half[None]
    return jax.lax.top_k(scores, k)[1]


class ScannBrute:
    """ScaNN's multi-threaded exhaustive search in float32."""

    def __init__(self, vectors: Float[np.ndarray, "N D"]):
        self._searcher = _scann().builder(vectors, 10, "squared_l2").score_brute_force().build()

    def candidates(self, queries: Float[np.ndarray, "Q D"], k: int) -> Int[np.ndarray, "Q k"]:
        rows, distances = self._searcher.search_batched_parallel(queries, final_num_neighbors=k)
        return _valid(rows, distances, k)


class ScannTree:
    """A k-means tree over leaves of asymmetrically hashed vectors, the best of which are compared
    exactly.

    `leaves_searched` trades time for recall and may change between searches.
    """

    def __init__(self, searcher, leaves: int, leaves_searched: int):
        self._searcher = searcher
        self.leaves = leaves
        self.leaves_searched = leaves_searched

    @classmethod
    def build(cls, vectors: Float[np.ndarray, "N D"], leaves: int | None = None) -> ScannTree:
        num = len(vectors)
        leaves = max(1, min(round(1.5 * num**0.5), num // 50)) if leaves is None else leaves
        sample = min(num, max(20_000, 128 * leaves))
        builder = _scann().builder(vectors, 10, "squared_l2")
        # k-means++ start: with the random start, which is the default, two builds of the same data
        # differ.
        builder = builder.tree(leaves, 1, training_sample_size=sample, random_init=False)
        # Built without docids: ScaNN would write them as a pickle. The index keeps its own ids.
        return cls(builder.score_ah(2, training_sample_size=sample).reorder(200).build(), leaves, 1)

    def candidates(self, queries: Float[np.ndarray, "Q D"], k: int) -> Int[np.ndarray, "Q k"]:
        rows, distances = self._searcher.search_batched_parallel(
            queries,
            final_num_neighbors=k,
            pre_reorder_num_neighbors=max(200, 4 * k),
            leaves_to_search=self.leaves_searched,
        )
        return _valid(rows, distances, k)

    def save(self, folder: pathlib.Path) -> None:
        """Writes the tree into `folder`, with paths relative to it, so that the folder can be
        moved.
        """
        folder.mkdir(parents=True)
        self._searcher.serialize(str(folder), relative_path=True)
        if (folder / _PICKLED).exists():
            raise DataError(f"{folder / _PICKLED}: a pickled file is not part of an index")

    @classmethod
    def load(cls, folder: pathlib.Path, leaves: int, leaves_searched: int) -> ScannTree:
        # Loading a searcher unpickles this file where there is one: a way to run somebody else's
        # code.
        if (folder / _PICKLED).exists():
            raise DataError(f"{folder / _PICKLED}: a pickled file is not part of an index; refused")
        try:
            return cls(_scann().load_searcher(str(folder)), leaves, leaves_searched)
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(
                f"{folder}: ScaNN cannot read it ({str(error).splitlines()[0]}); build the index "
                "again"
            ) from None


def _valid(rows: np.ndarray, distances: np.ndarray, k: int) -> Int[np.ndarray, "Q k"]:
    """Rows with -1 in place of what ScaNN did not find, which it reports as row 0 at distance NaN."""
    found = np.full((len(rows), k), -1, np.int64)
    width = min(k, rows.shape[1])
    found[:, :width] = np.where(
        np.isnan(distances[:, :width]), -1, rows[:, :width].astype(np.int64)
    )
    return found


def tree_settings(backend: object) -> Mapping[str, int]:
    """{"leaves", "leaves_searched"} of a tree; empty for the exhaustive searches."""
    if isinstance(backend, ScannTree):
        return {"leaves": backend.leaves, "leaves_searched": backend.leaves_searched}
    return {}
