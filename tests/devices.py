"""The first steps of a small task of MV-HGNN, on this process's devices or on those of several
processes.

As a program, `python tests/devices.py STEPS [HOST:PORT PROCESSES ID]`, it prints them as JSON.
Parameters and batches are drawn from what the recipe describes, so that every process has the same
parameters and the rows that are its own of the same batch.
"""

from __future__ import annotations

import json
import pathlib
import sys

import jax
import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]

import drawn
from search import toy

from jax3dret.core import processes, sharding, train

BATCH = 8


def recipe_of_both_sides():
    """Quadruplets couple the batch, as do the statistics of its normalisations."""
    return toy.recipe_of_sketches(batch=BATCH)


def global_batch(recipe, step):
    """Arrays as the recipe's example has them."""
    rng = np.random.default_rng(step)

    def draw(name, leaf):
        if leaf.dtype == np.bool_:
            return np.ones(leaf.shape, bool)
        if "label" in name:
            return rng.integers(0, 2, leaf.shape).astype(leaf.dtype)
        if np.issubdtype(leaf.dtype, np.integer):
            return rng.integers(0, 255, leaf.shape).astype(leaf.dtype)
        return rng.normal(size=leaf.shape).astype(leaf.dtype)

    return {name: draw(name, leaf) for name, leaf in sorted(recipe.example.items())}


def first_steps(devices, steps=1):
    """[loss, gradient norm] of each step, the same on every process."""
    mesh = jax.sharding.Mesh(np.array(devices).reshape(-1, 1), ("data", "fsdp"))
    recipe = recipe_of_both_sides()
    state, shardings = drawn.sharded_state(recipe, mesh)
    step_fn = jax.jit(
        train.make_step(recipe, seed=0), out_shardings=(shardings, sharding.replicated(mesh))
    )
    rows = BATCH // jax.process_count()
    own = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
    found = []
    for step in range(steps):
        batch = {key: value[own] for key, value in global_batch(recipe, step).items()}
        state, metrics = step_fn(state, sharding.put_batch(batch, mesh))
        found.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return found


if __name__ == "__main__":
    steps, *place = sys.argv[1:]
    if place:
        processes.join(place[0], int(place[1]), int(place[2]))
    sys.stdout.write(json.dumps(first_steps(jax.devices(), int(steps))) + "\n")
