"""Every variant of every config resolves, builds its recipe and traces its train step at full size."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from jax3dret.core import config as configs
from jax3dret.core import train
from jax3dret.core.types import TrainState

FILES = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))
CASES = [f"{path}:{variant}" for path in FILES for variant in configs._load_file(path).VARIANTS]


class FakeSource:
    """As much of a data set as a recipe looks at before training."""

    def __init__(self, classes, items=4000):
        self.class_names = tuple(f"class{i}" for i in range(classes))
        self.name, self.split = "fake", "train"
        self.manifest = {"up_axis": "y"}
        self.items = items

    def __len__(self):
        return self.items


def test_there_are_configs():
    assert {p.stem for p in FILES} >= {"ulip2_vicreg", "ulip2_classify", "pointnet2_vicreg", "pointnet2_classify"}


@pytest.mark.parametrize("spec", CASES, ids=lambda s: pathlib.Path(s).name)
def test_a_variant_traces_at_full_size(spec):
    config, name = configs.load(spec)
    recipe = configs.resolve_module(config.task, where="task").make(
        config, lambda split: FakeSource(config.data.num_classes or 10)
    )
    state = train.abstract_state(recipe, 0)
    new, metrics = jax.eval_shape(train.make_step(recipe, 0), state, recipe.example)
    assert isinstance(new, TrainState)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert all(m.shape == () for m in metrics.values()) and "loss" in metrics
    embedded = jax.eval_shape(
        recipe.task.embed, state.params, state.model_state, {"points": jnp.zeros((2, config.data.num_points, 3))}
    )
    assert embedded["shape"].shape == (2, recipe.meta["embedding_dim"]) and embedded["shape"].dtype == jnp.float32
    assert recipe.steps > 0 or "random" in name
    jax.eval_shape(lambda: recipe.learning_rate(jnp.int32(0)))


def test_paper_variants_have_the_published_size():
    sizes = {}
    for name in ("ulip2_classify", "pointnet2_classify"):
        config, _ = configs.load(f"{FILES[0].parent / name}.py:paper")
        recipe = configs.resolve_module(config.task, where="task").make(config, lambda split: FakeSource(40))
        sizes[name] = recipe.meta["parameters"]
    assert sizes == {"ulip2_classify": 21_858_816, "pointnet2_classify": 1_465_408}
