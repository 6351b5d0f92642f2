"""Search time and recall of the index beside faiss: exhaustive and approximate, both sides in the
same run.

The vectors are drawn around 1000 centres in a 32-dimensional subspace and scaled to unit length;
the queries are new draws. All queries are given at once, which is how an evaluation searches; the
time is per query, ours with the float64 re-scoring that every search includes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.index.index import Index

QUERIES = 512
K = 10


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """[{"name", "ours", "baseline", "baseline_name", "ratio", "unit", "recall_at_10",
    "baseline_recall_at_10"}], medians of `repeats` warm searches, alternating. Raises ConfigError
    without faiss (extra "bench").
    """
    faiss = _faiss()
    exact, exact_queries = _vectors(20_000, 512, seed=0), _vectors(QUERIES, 512, seed=1)
    flat = faiss.IndexFlatIP(512)
    flat.add(exact)
    rows = [
        _compare(
            "brute force 20k x 512",
            Index.build(exact, _ids(exact), scoring="brute_force"),
            flat,
            "faiss Flat",
            exact_queries,
            exact,
            repeats,
        )
    ]
    many, many_queries = _vectors(100_000, 128, seed=2), _vectors(QUERIES, 128, seed=3)
    ours = Index.build(many, _ids(many), scoring="tree_ah")
    lists = ours.report()["leaves"]
    ivf = faiss.IndexIVFFlat(faiss.IndexFlatIP(128), 128, lists, faiss.METRIC_INNER_PRODUCT)
    ivf.train(many)
    ivf.add(many)
    truth = _truth(many, many_queries)
    found = ours.search(many_queries, K)[0]
    # The fewest probes whose recall is no lower than ours: times are comparable only at equal
    # recall.
    for probes in sorted({*np.unique(np.geomspace(1, lists, 24).astype(int)).tolist(), lists}):
        ivf.nprobe = probes
        if _recall(ivf.search(many_queries, K)[1], truth) >= _recall(found, truth):
            break
    name = f"faiss IVF{lists}, nprobe {ivf.nprobe}"
    rows.append(_compare("tree_ah 100k x 128", ours, ivf, name, many_queries, many, repeats))
    return rows


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ConfigError(
            "the index benchmark compares with faiss: pip install 'jax3dret[bench]'"
        ) from None
    return faiss


def _vectors(num: int, width: int, seed: int) -> Float[np.ndarray, "num width"]:
    shared = np.random.default_rng(99)
    centers, basis = shared.normal(size=(1000, 32)), shared.normal(size=(32, width))
    rng = np.random.default_rng(seed)
    values = (centers[rng.integers(0, 1000, num)] + 0.7 * rng.normal(size=(num, 32))) @ basis
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def _ids(vectors: np.ndarray) -> list[str]:
    return [str(row) for row in range(len(vectors))]


def _truth(vectors: np.ndarray, queries: np.ndarray) -> Int[np.ndarray, "Q K"]:
    scores = queries @ vectors.T
    return np.argpartition(-scores, K, axis=1)[:, :K]


def _recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(
        np.mean(
            [len(set(a) & set(b)) / K for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
        )
    )


def _compare(
    name: str,
    ours: Index,
    theirs: Any,
    baseline_name: str,
    queries: np.ndarray,
    vectors: np.ndarray,
    repeats: int,
) -> dict[str, Any]:
    truth = _truth(vectors, queries)
    recall = _recall(ours.search(queries, K)[0], truth)
    baseline_recall = _recall(theirs.search(queries, K)[1], truth)
    times: dict[str, list[float]] = {"ours": [], "baseline": []}
    for _ in range(repeats):
        times["ours"].append(_timed(lambda: ours.search(queries, K)))
        times["baseline"].append(_timed(lambda: theirs.search(queries, K)))
    mine, other = float(np.median(times["ours"])), float(np.median(times["baseline"]))
    return {
        "name": name,
        "ours": mine,
        "baseline": other,
        "baseline_name": baseline_name,
        "ratio": mine / other,
        "unit": "ms/query",
        "recall_at_10": recall,
        "baseline_recall_at_10": baseline_recall,
    }


def _timed(search: Callable[[], Any]) -> float:
    start = time.perf_counter()
    search()
    return 1e3 * (time.perf_counter() - start) / QUERIES
