"""Embeddings laid out in the plane: principal components, and t-SNE without a dependency.

Both are deterministic: principal components fix the sign of each axis; t-SNE starts from them and
draws nothing at random.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

MAX_POINTS = 2000
MIN_TSNE = 30  # below this a neighbourhood of a few points is no neighbourhood


class EmbeddingMap(NamedTuple):
    """points: the layout, [M, 2]. rows: which embeddings were laid out, ascending. method: which
    layout it is.

    explained: share of the variance that the two principal components hold (of the rows laid out).
    not_finite: embeddings left out because they hold NaN or infinity.
    """

    points: Float[np.ndarray, "M 2"]
    rows: Int[np.ndarray, " M"]
    method: Literal["t-SNE", "PCA"]
    explained: float
    not_finite: int


def embedding_map(
    embeddings: Float[np.ndarray, "Q D"], *, unit_length: bool, max_points: int = MAX_POINTS
) -> EmbeddingMap:
    """t-SNE of the embeddings, or their principal components where there are fewer than 30.

    Of more than `max_points` every so-manieth is taken, which keeps the shares of the classes where
    the data set is in class order. `unit_length`: compare directions (cosine) instead of positions.
    """
    embeddings = np.asarray(embeddings, np.float64)
    finite = np.isfinite(embeddings).all(1)
    rows = np.flatnonzero(finite)
    if len(rows) > max_points:
        rows = rows[np.linspace(0, len(rows) - 1, max_points).round().astype(np.int64)]
    x = embeddings[rows]
    if unit_length:
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    axes, explained = principal_components(x, 2)
    few = len(rows) < MIN_TSNE or explained == 0.0
    points = axes if few else tsne(x)
    return EmbeddingMap(points, rows, "PCA" if few else "t-SNE", explained, int((~finite).sum()))


def principal_components(
    x: Float[np.ndarray, "N D"], num: int
) -> tuple[Float[np.ndarray, "N num"], float]:
    """Scores on the first `num` principal axes, zero-padded where there are fewer, and their share
    of the variance.

    The largest loading of each axis is made positive, so that a singular vector's arbitrary sign
    does not flip the map.
    """
    x = np.asarray(x, np.float64)
    scores = np.zeros((len(x), num))
    if not x.size:
        return scores, 0.0
    size = np.abs(x).max()
    centered = x - x.mean(0)
    if np.abs(centered).max() <= 1e-9 * max(size, 1e-30):
        return scores, 0.0
    # The smaller of the two symmetric problems: D x D (axes) or N x N (scores).
    tall = len(x) >= x.shape[1]
    symmetric = centered.T @ centered if tall else centered @ centered.T
    kept = min(num, len(symmetric))
    values, vectors = scipy.linalg.eigh(
        symmetric, subset_by_index=(len(symmetric) - kept, len(symmetric) - 1)
    )
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    axes = vectors if tall else centered.T @ vectors
    sign = np.sign(axes[np.abs(axes).argmax(0), np.arange(kept)])
    scores[:, :kept] = (centered @ vectors if tall else vectors * np.sqrt(values)) * sign
    return scores, float(values.sum() / np.trace(symmetric))


def tsne(
    x: Float[np.ndarray, "N D"], *, perplexity: float = 30.0, iterations: int = 500
) -> Float[np.ndarray, "N 2"]:
    """t-distributed stochastic neighbour embedding in two dimensions (van der Maaten and Hinton,
    JMLR 2008).

    Attraction over each point's 3 * perplexity nearest neighbours, repulsion over all pairs
    (exact). Starts from the principal components; step size N / exaggeration as Belkina et al.
    (Nature Communications 2019) advise.
    """
    n = len(x)
    perplexity = min(perplexity, (n - 1) / 3)
    neighbours = min(int(3 * perplexity) + 1, n - 1)
    source, target, p = _joint_probabilities(np.asarray(x, np.float64), perplexity, neighbours)
    start = principal_components(x, 2)[0]
    y = (start / max(start[:, 0].std(), 1e-12) * 1e-2).astype(np.float32)
    exaggeration, early = 12.0, iterations // 4
    rate = max(n / exaggeration / 4, 12.0)
    velocity, gain = np.zeros_like(y), np.ones_like(y)
    for step in range(iterations):
        weighted, total = _repulsion(y)
        repulsion = (weighted[:, 2:] * y - weighted[:, :2]) / total
        dx, dy = y[:, 0][source] - y[:, 0][target], y[:, 1][source] - y[:, 1][target]
        pull = p / (1 + dx * dx + dy * dy)
        attraction = np.stack([np.bincount(source, pull * d, n) for d in (dx, dy)], -1)
        gradient = 4 * ((exaggeration if step < early else 1.0) * attraction - repulsion)
        gain = np.where(
            np.sign(gradient) != np.sign(velocity), gain + 0.2, np.maximum(gain * 0.8, 0.01)
        )
        velocity = (0.5 if step < early else 0.8) * velocity - rate * gain * gradient
        y = (y + velocity).astype(np.float32)
        y -= y.mean(0)
    return y.astype(np.float64)


def _repulsion(y: Float[np.ndarray, "N 2"]) -> tuple[Float[np.ndarray, "N 3"], float]:
    """Sums over j of k_ij^2 (y_j, 1) with k_ij = 1 / (1 + |y_i - y_j|^2), and the sum of k over all
    pairs i != j.

    By blocks of rows: the kernel then passes through the cache instead of memory, and each product
    stays below the size at which BLAS wakes its threads, whose hand-over costs more than these
    products (15 times more on a busy machine).
    """
    n = len(y)
    block = max(1, 250_000 // (4 * n))
    square = (y * y).sum(1, keepdims=True)
    one = np.ones((n, 1), np.float32)
    # 1 + squared distance as one product: [-2y, |y|^2 + 1, 1] . [y, 1, |y|^2].
    left = np.concatenate([-2 * y, square + 1, one], 1)
    right = np.ascontiguousarray(np.concatenate([y, one, square], 1).T)
    values = np.concatenate([y, one], 1)
    weighted = np.empty((n, 3), np.float32)
    total = 0.0
    for first in range(0, n, block):
        kernel = left[first : first + block] @ right
        np.reciprocal(kernel, out=kernel)
        total += float(kernel.sum())
        np.square(kernel, out=kernel)
        np.matmul(kernel, values, out=weighted[first : first + block])
    return weighted, total - n


def _joint_probabilities(
    x: Float[np.ndarray, "N D"], perplexity: float, neighbours: int
) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"], Float[np.ndarray, " E"]]:
    """Symmetric p_ij over directed edges (source, target, p), summing to one.

    Each point's bandwidth is bisected until the entropy of its neighbour distribution is
    log(perplexity).
    """
    n = len(x)
    square = (x * x).sum(1)
    distance = np.maximum(square[:, None] + square - 2 * x @ x.T, 0.0)
    np.fill_diagonal(distance, np.inf)
    near = np.argpartition(distance, neighbours - 1, axis=1)[:, :neighbours]
    d = np.take_along_axis(distance, near, axis=1)
    d = d - d.min(1, keepdims=True)
    low, high = np.zeros(n), np.full(n, np.inf)
    beta = 1.0 / np.maximum(d.mean(1), 1e-12)
    for _ in range(64):
        weight = np.exp(-d * beta[:, None])
        total = weight.sum(1)
        entropy = np.log(total) + beta * (d * weight).sum(1) / total
        flat = entropy > np.log(perplexity)
        low, high = np.where(flat, beta, low), np.where(flat, high, beta)
        beta = np.where(np.isinf(high), beta * 2, (low + high) / 2)
        beta = np.minimum(beta, 1e30)
    weight = np.exp(-d * beta[:, None])
    conditional = weight / weight.sum(1, keepdims=True)
    source = np.repeat(np.arange(n), neighbours)
    target = near.reshape(-1)
    p = conditional.reshape(-1) / (2 * n)
    pair, row = np.unique(
        np.concatenate([source * n + target, target * n + source]), return_inverse=True
    )
    return pair // n, pair % n, np.bincount(row, np.concatenate([p, p])).astype(np.float32)
