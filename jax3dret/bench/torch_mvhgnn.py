"""MV-HGNN's graph encoder in plain PyTorch: what the JAX encoder is timed against.

Written as a user of PyTorch would write it from the paper's equations (arXiv 2604.18019, Eq. 4-7),
with the library's own layers and batched products. It computes what `jax3dret.models.mvhgnn.MVHGNN`
computes with its defaults.
"""

from __future__ import annotations

import math

from jax3dret.core.types import ConfigError

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    raise ConfigError(
        "the PyTorch baseline needs PyTorch: pip install 'jax3dret[torch]'"
    ) from error


class TorchMVHGNN(nn.Module):
    """Features [B, V, D] and camera positions [B, V, 3] -> descriptor [B, out_dim]."""

    def __init__(
        self,
        width: int = 512,
        views: int = 12,
        k: int = 3,
        selector_hidden: int = 256,
        head_hidden: int = 512,
        out_dim: int = 512,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.k, self.dropout = k, dropout
        self.gcn_W = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(3))
        self.gcn_bn = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(3))
        self.wq = nn.ModuleList(nn.Linear(width, width // 2, bias=False) for _ in range(3))
        self.wk = nn.ModuleList(nn.Linear(width, width // 2, bias=False) for _ in range(3))
        self.wv = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(3))
        self.sel = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, selector_hidden),
                nn.LeakyReLU(0.2),
                nn.Linear(selector_hidden, count),
            )
            for count in (max(1, views // 2), max(1, views // 4))
        )
        self.head = nn.Sequential(
            nn.Linear(3 * width, head_hidden), nn.LeakyReLU(0.2), nn.Linear(head_hidden, out_dim)
        )

    def forward(self, features: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        pooled = []
        for level in range(3):
            features = self.attention(
                level, self.local(level, features, self.neighbourhood(positions))
            )
            pooled.append(features.amax(1))
            if level < 2:
                assignment = self.sel[level](features).transpose(1, 2).softmax(-1)
                features, positions = assignment @ features, assignment @ positions
        hidden = self.head[1](self.head[0](torch.cat(pooled, 1)))
        return self.head[2](functional.dropout(hidden, self.dropout, self.training))

    def neighbourhood(self, positions: torch.Tensor) -> torch.Tensor:
        """True where a camera is among the k nearest of another, or is that one."""
        with torch.no_grad():
            square = (positions[:, :, None] - positions[:, None]).square().sum(-1)
            square.diagonal(dim1=1, dim2=2).fill_(-1)
            near = square.topk(min(self.k, positions.shape[1]), largest=False, sorted=False).indices
            return torch.zeros_like(square, dtype=torch.bool).scatter_(2, near, True)

    def local(self, level: int, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        similar = features @ features.transpose(1, 2) / math.sqrt(features.shape[-1])
        weights = similar.masked_fill(~mask, -torch.inf).softmax(-1)
        mixed = self.gcn_W[level](weights @ features)
        return functional.leaky_relu(self.gcn_bn[level](mixed.flatten(0, 1)), 0.2).reshape(
            mixed.shape
        )

    def attention(self, level: int, features: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            self.wq[level](features),
            self.wk[level](features),
            self.wv[level](features),
        )
        weights = (query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])).softmax(-1)
        return features + weights @ value
