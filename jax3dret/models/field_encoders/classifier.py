"""inr2vec's classifier of embeddings."""

from __future__ import annotations

from jax3dret.models.heads import ClassificationHead


def classifier(
    num_classes: int, hidden: tuple[int, ...] = (512, 256), dropout: float = 0.5
) -> ClassificationHead:
    """Embedding [B, D] -> logits [B, num_classes] by (Dense, BatchNorm, ReLU, dropout) for each
    hidden width, then Dense: inr2vec's published head for embeddings of 1024 numbers.
    """
    return ClassificationHead(num_classes, hidden, dropout)
