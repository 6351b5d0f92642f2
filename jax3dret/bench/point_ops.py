"""Point operations against compiled CPU libraries: fpsample for farthest-point sampling, SciPy's
k-d tree for neighbours.

Both sides read the same 8 clouds of 8192 points in the same run; theirs build their tree anew for
every cloud, as they would in use. Sides take turns, so that a machine that slows down slows both.
Baselines run on the CPU on any device, one thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy.spatial import cKDTree

from jax3dret.bench.paired_timing import compare
from jax3dret.core.types import ConfigError
from jax3dret.ops.ball_query import ball_query
from jax3dret.ops.fps import farthest_point_sample
from jax3dret.ops.knn import knn

CLOUDS, POINTS, CENTRES, NEIGHBOURS, RADIUS = 8, 8192, 512, 32, 0.2


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """One entry for each operation and baseline: name, ours, baseline, baseline_name, ratio = ours
    / baseline, unit.

    Times are medians of `repeats` calls after one warm-up call, in milliseconds for all clouds
    together. Raises ConfigError if fpsample is not installed.
    """
    try:
        import fpsample
    except ImportError as error:
        raise ConfigError("bench needs fpsample: pip install 'jax3dret[bench]'") from error

    rng = np.random.default_rng(0)
    points = rng.normal(size=(CLOUDS, POINTS, 3))
    points *= rng.random((CLOUDS, POINTS, 1)) ** (1 / 3) / np.linalg.norm(
        points, axis=-1, keepdims=True
    )
    points = points.astype(np.float32)
    on_device = jax.device_put(points)
    centres, centres_on_device = points[:, :CENTRES], jax.device_put(points[:, :CENTRES])

    sizes = f"{CLOUDS}x{POINTS}"
    plan: list[tuple[str, Callable[[], Any], str, Callable[[], Any]]] = []
    ours = functools.partial(farthest_point_sample, on_device, CENTRES)
    for name, sample in (
        (
            "fpsample bucket_fps_kdline_sampling(h=5)",
            functools.partial(fpsample.bucket_fps_kdline_sampling, h=5),
        ),
        ("fpsample fps_sampling", fpsample.fps_sampling),
    ):
        baseline = functools.partial(
            _each, lambda cloud, sample=sample: sample(cloud, CENTRES, start_idx=0), points
        )
        plan.append((f"fps {sizes}->{CENTRES}", ours, name, baseline))
    plan.append(
        (
            f"knn {CLOUDS}x{CENTRES}x{POINTS} k={NEIGHBOURS}",
            lambda: knn(centres_on_device, on_device, NEIGHBOURS),
            "scipy cKDTree.query",
            lambda: _each(lambda cloud, c: cKDTree(cloud).query(c, NEIGHBOURS), points, centres),
        )
    )
    plan.append(
        (
            f"ball query {CLOUDS}x{CENTRES}x{POINTS} r={RADIUS} k={NEIGHBOURS}",
            lambda: ball_query(centres_on_device, on_device, RADIUS, NEIGHBOURS),
            "scipy cKDTree.query_ball_point, sorted",
            lambda: _each(
                lambda cloud, c: cKDTree(cloud).query_ball_point(c, RADIUS, return_sorted=True),
                points,
                centres,
            ),
        )
    )
    return [
        compare(
            name,
            functools.partial(_finished, ours),
            other,
            baseline,
            repeats=repeats,
            scale=1e3,
            unit="ms",
        )
        for name, ours, other, baseline in plan
    ]


def _each(function: Callable[..., Any], *arrays: np.ndarray) -> list[Any]:
    """The function of each cloud, one after the other."""
    return [function(*rows) for rows in zip(*arrays, strict=True)]


def _finished(function: Callable[[], Any]) -> Any:
    """What the function gives, once the device has computed it."""
    return jax.block_until_ready(function())
