"""The README's commands that name code of the user's own, as they stand there."""

import pathlib
import shlex

import jax
import numpy as np
import pytest
from test_configs import described

from jax3dret import main
from jax3dret.core import config as configs
from jax3dret.core import train

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text().replace("\\\n", " ")
COMMANDS = [line for line in README.splitlines() if "my_package." in line]


def test_there_is_one_for_each_kind_of_component():
    assert [name in " ".join(COMMANDS) for name in ("my_loss", "my_net", "my_eval")] == [True] * 3


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.partition("my_package.")[2][:7])
def test_what_the_readme_names_can_be_trained(monkeypatch, command):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "jax3dret.main"]
    args, overrides = main.parse(words[3:])
    config, _ = configs.load(args.config, overrides)
    recipe = configs.resolve_module(config.task, where="task").make(
        config, lambda split, name=None: described(10)
    )
    assert not configs.unused_overrides(config, overrides)
    state = train.abstract_state(recipe, 0)
    _, metrics = jax.eval_shape(train.make_step(recipe, 0), state, recipe.example)
    if "my_net" in command:
        assert recipe.meta["embedding_dim"] == 256 == recipe.model.width
        assert jax.tree.map(np.shape, state.params["encoder"])["Dense_0"]["kernel"] == (3, 256)
    if "my_loss" in command:
        assert "own" in metrics
    if "my_eval" in command:
        assert list(recipe.evaluators) == ["retrieval", "mine"]
