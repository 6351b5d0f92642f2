"""Fits of hash grids beside a plain PyTorch loop, what they move in memory, and what they come to.

Eight shapes of 2^17 rows a level, 512 points a step, dense Adam on both sides. PyTorch fits one
after the other, with fused Adam. Quality: Chamfer distances of fitted tori.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jax3dret.bench.paired_timing import compare
from jax3dret.geometry.isosurface import surface_points
from jax3dret.models.fields import devices
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.fit import FitSpec, Fitting, Sampler
from jax3dret.models.fields.hashgrid import HashGrid
from jax3dret.models.fields.presets import preset
from jax3dret.ops.chamfer import chamfer

SHAPES, BATCH, TABLE = 8, 512, 17
# Steps of one measurement: ours in one call, theirs of one shape.
OURS, THEIRS = 32, 16
# Steps of the paper's protocol.
PROTOCOL = 9_766
# Quality: presets, and points of a Chamfer distance.
QUALITY, CLOUD = ("fast", "paper"), 16_384
# Of the torus: distance of its tube's middle from the axis, radius of the tube.
RING, TUBE = 0.6, 0.25


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """Time per step and INR, INRs and points a second under the paper's number of steps, bytes
    moved beside those of an Adam that passes over the whole table, and the Chamfer distance of the
    fast preset beside the paper's (of 2 x 16,384 points, whose own distance is about 0.02).

    Raises ConfigError without PyTorch.
    """
    devices.one_for_each_core()
    grid = HashGrid(table=TABLE)
    theirs = _theirs(grid)
    spec = FitSpec(
        steps=OURS * (repeats + 2),
        learning_rate=1e-3,
        batch=BATCH,
        pool=OURS * BATCH,
        resample=False,
        chunk=OURS,
    )
    time = compare(
        f"hash grid 2^{TABLE}, {BATCH} points",
        _ours(grid, spec),
        "PyTorch, fused Adam",
        theirs,
        repeats=repeats,
        scale=1e3,
        unit="ms/step/INR",
    )
    # Each side ran a number of steps, ours of all shapes.
    time["ours"] /= OURS * SHAPES
    time["baseline"] /= THEIRS
    time["ratio"] = time["ours"] / time["baseline"]
    rates = [
        _row(name, unit, time["baseline_name"], *(scale / time[s] for s in ("ours", "baseline")))
        for name, unit, scale in (
            (f"INRs, {PROTOCOL} steps", "INRs/s", 1e3 / PROTOCOL),
            ("points", "points/s", 1e3 * BATCH),
        )
    ]
    return [time, *rates, _moved(grid, time["ours"]), _quality()]


def torus(points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, " P"]:
    """Signed distance to the torus around the y axis."""
    across = np.hypot(points[:, 0], points[:, 2]) - RING
    return np.hypot(across, points[:, 1]) - TUBE


def _sampler(pool: int) -> Sampler:
    """A fifth anywhere, two fifths near the torus, two fifths on it."""

    def sampler(epoch: int, shape: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([epoch, shape])
        points = _on_torus(pool, rng)
        points[: 3 * pool // 5] += rng.normal(0, 0.015, (3 * pool // 5, 3))
        points[: pool // 5] = rng.uniform(-1, 1, (pool // 5, 3))
        return points.astype(np.float32), torus(points).astype(np.float32)

    return sampler


def _on_torus(count: int, rng: np.random.Generator) -> Float[np.ndarray, "N 3"]:
    """Uniform by area: angles around the tube are kept with the share of their ring's length."""
    around = rng.uniform(0, 2 * np.pi, 4 * count + 64)
    keep = rng.random(len(around)) * (RING + TUBE) < RING + TUBE * np.cos(around)
    tube = around[keep][:count]
    turn = rng.uniform(0, 2 * np.pi, count)
    ring = RING + TUBE * np.cos(tube)
    return np.stack([ring * np.cos(turn), TUBE * np.sin(tube), ring * np.sin(turn)], -1)


def _ours(grid: HashGrid, spec: FitSpec) -> Callable[[], Any]:
    keys = jax.random.split(jax.random.key(0), SHAPES)
    fitting = Fitting(grid, "sdf", _sampler(spec.pool), spec, keys)

    def steps() -> None:
        fitting.advance()
        fitting.wait()

    return steps


def _theirs(grid: HashGrid) -> Callable[[], Any]:
    from jax3dret.bench.torch_inr_fit import torch, torch_steps

    torch.set_num_threads(os.cpu_count() or 1)
    points, values = _sampler(THEIRS * BATCH)(0, 0)
    order = np.random.default_rng(0).permutation(len(points))
    data = np.concatenate([points, values[:, None]], 1)[order].reshape(THEIRS, BATCH, 4)
    return torch_steps(grid, grid.init(jax.random.key(0)), data, 1e-3, 1e-15)


def _moved(grid: HashGrid, milliseconds: float) -> dict[str, Any]:
    """Bytes of the table's part of a step: packed rows are read, added to, read and written; the
    floor of a dense pass is 8: the gradient zeroed, value, gradient and two moments read, value
    and moments written."""
    width, reads = grid.width, BATCH * grid.reads
    ours = 4 * reads * (2 * (4 * width + 1) + 3 * width)
    dense = 4 * 8 * grid.begins[-1] * width
    row = _row("bytes of the table", "MB/step/INR", "dense pass", ours / 1e6, dense / 1e6)
    return {**row, "gigabytes_per_second": ours / milliseconds / 1e6}


def _quality() -> dict[str, Any]:
    """The Chamfer distance of both presets' tori from the true one."""
    found = []
    for name in QUALITY:
        grid, spec = preset(name, "hashgrid")
        key = jax.random.split(jax.random.key(1), 1)
        fitting = Fitting(grid, "sdf", _sampler(spec.pool), spec, key)
        while fitting.advance():
            pass
        fitted = fitting.result()
        field = Field(grid, "sdf", fitted.variables[0])
        points = surface_points(field, "sdf", CLOUD, np.random.default_rng(2))
        truth = _on_torus(CLOUD, np.random.default_rng(3)).astype(np.float32)
        found.append(float(chamfer(jnp.asarray(points), jnp.asarray(truth))))
    return _row("Chamfer of a torus, fast preset", "domain", "paper preset", *found)


def _row(name: str, unit: str, other: str, ours: float, baseline: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "baseline": baseline,
        "baseline_name": other,
        "ratio": ours / baseline,
        "unit": unit,
    }
