"""PointBERT in plain PyTorch: what the JAX encoder is timed against.

Written as a user of PyTorch would write it, with the library's own layers and fused attention,
under the parameter names of the published checkpoints, so the same weights load into both.
"""

from __future__ import annotations

from jax3dret.core.types import ConfigError

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    raise ConfigError(
        "the PyTorch baseline needs PyTorch: pip install 'jax3dret[torch]'"
    ) from error


def farthest_point_sample(points: torch.Tensor, num: int) -> torch.Tensor:
    """Indices [B, num], the first point of each cloud first."""
    batch, count, _ = points.shape
    rows = torch.arange(batch)
    chosen = torch.zeros(batch, num, dtype=torch.long)
    distance = torch.full((batch, count), 1e10)
    farthest = torch.zeros(batch, dtype=torch.long)
    for i in range(num):
        chosen[:, i] = farthest
        square = ((points - points[rows, farthest][:, None]) ** 2).sum(-1)
        distance = torch.minimum(distance, square)
        farthest = distance.argmax(-1)
    return chosen


def gather(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """values[b, index[b, ...]] for every cloud b."""
    rows = torch.arange(len(values)).reshape(-1, *[1] * (index.ndim - 1))
    return values[rows, index]


def group(
    points: torch.Tensor, num_group: int, group_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Neighbourhoods relative to their centre [B, G, K, 3] and the centres [B, G, 3]."""
    with torch.no_grad():
        centres = gather(points, farthest_point_sample(points, num_group))
        square = -2 * centres @ points.transpose(1, 2)
        square = square + (centres**2).sum(-1)[:, :, None] + (points**2).sum(-1)[:, None]
        members = square.topk(group_size, dim=-1, largest=False, sorted=False).indices
    return gather(points, members) - centres[:, :, None], centres


class GroupEncoder(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.first_conv = nn.Sequential(
            nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1)
        )
        self.second_conv = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, features, 1)
        )

    def forward(self, groups: torch.Tensor) -> torch.Tensor:
        batch, num_group, size, _ = groups.shape
        x = self.first_conv(groups.reshape(batch * num_group, size, 3).transpose(1, 2))
        whole = x.max(2, keepdim=True).values
        x = self.second_conv(torch.cat([whole.expand(-1, -1, size), x], 1))
        return x.max(2).values.reshape(batch, num_group, -1)


class Attention(nn.Module):
    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, num_heads: int, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.rate = drop_path

    def drop_path(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * (torch.rand(len(x), 1, 1) < keep) / keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Blocks(nn.Module):
    def __init__(self, width: int, depth: int, num_heads: int, drop_path_rate: float):
        super().__init__()
        rates = torch.linspace(0, drop_path_rate, depth).tolist()
        self.blocks = nn.ModuleList([Block(width, num_heads, rate) for rate in rates])

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x + position)
        return x


class TorchPointBert(nn.Module):
    """Clouds [B, N, 3] -> embedding [B, 2 * trans_dim]; fields as those of
    `jax3dret.models.pointbert.PointBert`.
    """

    def __init__(
        self,
        trans_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        num_group: int = 512,
        group_size: int = 32,
        encoder_dims: int = 256,
        drop_path_rate: float = 0.1,
    ):
        super().__init__()
        self.num_group, self.group_size = num_group, group_size
        self.encoder = GroupEncoder(encoder_dims)
        self.reduce_dim = nn.Linear(encoder_dims, trans_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, trans_dim))
        self.cls_pos = nn.Parameter(torch.randn(1, 1, trans_dim))
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, trans_dim))
        self.blocks = Blocks(trans_dim, depth, num_heads, drop_path_rate)
        self.norm = nn.LayerNorm(trans_dim)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        groups, centres = group(points, self.num_group, self.group_size)
        tokens = self.reduce_dim(self.encoder(groups))
        x = torch.cat([self.cls_token.expand(len(points), -1, -1), tokens], 1)
        position = torch.cat([self.cls_pos.expand(len(points), -1, -1), self.pos_embed(centres)], 1)
        x = self.norm(self.blocks(x, position))
        return torch.cat([x[:, 0], x[:, 1:].max(1).values], -1)


class TorchClassifier(nn.Module):
    """PointBERT and the classification head of the published checkpoints: Linear, BatchNorm, ReLU,
    Dropout, Linear.
    """

    def __init__(
        self, encoder: TorchPointBert, hidden: int, num_classes: int, dropout: float = 0.25
    ):
        super().__init__()
        self.encoder = encoder
        width = encoder.cls_token.shape[-1] * 2
        self.head = nn.Sequential(
            nn.Linear(width, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(points))
