"""E-Stitchup: more embeddings of a class, put together from coordinates of two of it.

Wolfe and Lundgaard, "E-Stitchup: Data Augmentation for Pre-Trained Embeddings", 2019, in the form
in which inr2vec's classifier has it and INRet takes it over (section 11.3): both embeddings are of
one class, and the new one keeps its label. The paper of that name also mixes classes, with a weight
of a Beta distribution; not done here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jax3dret.core.types import ConfigError

# A class with fewer items in the batch, the item itself among them, gets no new ones.
LEAST = 3


def stitchup(
    key: Key[Array, ""], embeddings: Float[Array, "B D"], labels: Int[Array, " B"]
) -> tuple[Float[Array, "B2 D"], Int[Array, " B2"], Bool[Array, " B2"]]:
    """A batch of B embeddings followed by B new ones, their labels, and which of the 2 B count.

    New row i: a partner is drawn among the rows of the class of row i, row i itself among them, and
    a threshold t of U(0, 1); each coordinate is the partner's where a draw of U(0, 1) is at least
    t, else row i's own. Where a class has fewer than three rows in the batch, the new row does not
    count and is row i again.

    Raises ConfigError where shapes do not fit together.
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ConfigError(
            f"stitchup: embeddings {embeddings.shape} and labels {labels.shape}; expected [B, D] "
            "and [B]"
        )
    of_partner, of_threshold, of_coordinate = jax.random.split(key, 3)
    same = labels[:, None] == labels[None]
    count = len(labels)
    # The largest of uniform draws is any of those that may win with equal chance.
    partner = jnp.argmax(
        jnp.where(same, jax.random.uniform(of_partner, (count, count)), -1.0), axis=1
    )
    threshold = jax.random.uniform(of_threshold, (count, 1))
    taken = jax.random.uniform(of_coordinate, embeddings.shape) >= threshold
    enough = same.sum(1) >= LEAST
    new = jnp.where(taken & enough[:, None], embeddings[partner], embeddings)
    return (
        jnp.concatenate([embeddings, new]),
        jnp.concatenate([labels, labels]),
        jnp.concatenate([jnp.ones_like(enough), enough]),
    )
