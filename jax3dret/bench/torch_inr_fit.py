"""The fit of one hash grid in plain PyTorch: what the batched fit is timed against.

Written as a user of PyTorch would write it: a table as one parameter, fused Adam, a loop of steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jax3dret.core.types import ConfigError, PyTree
from jax3dret.models.fields.hashgrid import PRIMES, HashGrid

try:
    import torch
    from torch import nn
except ImportError as error:
    raise ConfigError(
        "the PyTorch baseline needs PyTorch: pip install 'jax3dret[torch]'"
    ) from error


class TorchHashGrid(nn.Module):
    """The field of `HashGrid`, with its variables."""

    def __init__(self, grid: HashGrid, variables: PyTree):
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.tensor(np.asarray(variables["grid"]["table"])))
        layers = []
        for layer in variables["decoder"]["layers"]:
            linear = nn.Linear(*reversed(layer["weight"].shape))
            linear.weight.data = torch.tensor(np.asarray(layer["weight"]))
            linear.bias.data = torch.tensor(np.asarray(layer["bias"]))
            layers += [linear, nn.ReLU()]
        self.decoder = nn.Sequential(*layers[:-1])
        self.offsets = torch.tensor([[j >> 2 & 1, j >> 1 & 1, j & 1] for j in range(8)])

    def features(self, points: torch.Tensor) -> torch.Tensor:
        out = []
        for level, n in enumerate(self.grid.resolutions):
            begin, end = self.grid.begins[level], self.grid.begins[level + 1]
            place = (n * (0.5 * points + 0.5)).clamp(0, n - 1 - 1e-5)
            cell = place.floor()
            fraction = (place - cell)[:, None]
            corner = cell.long()[:, None] + self.offsets
            if n**3 <= 2**self.grid.table:
                index = corner[..., 0] + corner[..., 1] * n + corner[..., 2] * n * n
                index = index.clamp(max=end - begin - 1)
            else:
                mixed = corner * torch.tensor(PRIMES.astype(np.int64))
                index = (mixed[..., 0] ^ mixed[..., 1] ^ mixed[..., 2]) & (end - begin - 1)
            weights = torch.where(self.offsets == 1, fraction, 1 - fraction).prod(-1)
            rows = self.table[begin + index]
            out.append((rows * weights[..., None]).sum(1))
        return torch.cat(out, -1)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.decoder(torch.cat([points, self.features(points)], -1))[:, 0]


def torch_steps(
    grid: HashGrid, variables: PyTree, data: np.ndarray, learning_rate: float, eps: float
) -> Callable[[], list[float]]:
    """A function that takes one step on each of data[steps, batch, 4], points and signed
    distances, and gives the losses."""
    model = TorchHashGrid(grid, variables)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, eps=eps, fused=True)
    batches = torch.from_numpy(data)

    def run() -> list[float]:
        found = []
        for batch in batches:
            optimizer.zero_grad()
            loss = (model(batch[:, :3]) - batch[:, 3]).square().mean()
            loss.backward()
            optimizer.step()
            found.append(loss.detach())
        return [float(loss) for loss in found]

    return run
