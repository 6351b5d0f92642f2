"""Evaluators from the config: named, ordered, given the task's data; what is wrong names what is
right."""

import dataclasses
import json

import numpy as np
import pytest
from fakes import FakeSource, opener

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError
from jax3dret.data.points import Keep
from jax3dret.tasks import recipe
from jax3dret.tasks.ulip2 import finetune

SOURCES = opener(
    FakeSource(np.arange(12) % 3, lambda row: {"points": np.full((4, 3), row, np.float32)}),
    FakeSource(
        np.arange(6) % 3, lambda row: {"points": np.full((4, 3), row, np.float32)}, split="test"
    ),
)


def made(tmp_path, *overrides, lines=()):
    """The evaluators of a config file with these lines and overrides."""
    file = tmp_path / "toy.py"
    body = "".join(f"    {line}\n" for line in lines)
    file.write_text(
        "from jax3dret.tasks.ulip2 import finetune\nVARIANTS = ('demo',)\n"
        f"def get_config(variant):\n    config = finetune.defaults()\n{body}    return config\n"
    )
    given = [tuple(text.split("=", 1)) for text in overrides]
    config, _ = configs.load(str(file), [("eval.batch_size", "4"), *given])
    data = recipe.shape_data(config, (Keep(("points", "label")),), ("points",))
    found = recipe.evaluators(config, data, SOURCES)
    assert not configs.unused_overrides(config, given)
    return found


def embed(batch):
    return {"shape": batch["points"][:, 0]}


def test_an_evaluator_outside_the_package_is_found_by_its_name(tmp_path):
    found = made(
        tmp_path,
        "evals.mine.name=evaluators.outside:make",
        "evals.mine.scale=2.0",
        "evals.retrieval.neighbours=5",
        "distance=euclidean",
    )
    assert list(found) == ["retrieval", "mine"]
    assert found["mine"](embed, None) == {"spread_euclidean": 10.0, "items": 6.0}
    metrics = found["retrieval"](embed, None)
    assert "ndcg_5" in metrics and "ndcg_100" not in metrics


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One of the points, by chance."""

    def __call__(self, record, rng):
        return {"points": record["points"][[rng.integers(len(record["points"]))]]}


def seeded(tmp_path, seeds, folder=None, **settings):
    """Metrics over points that are drawn, so that evaluations differ."""
    config = finetune.defaults()
    config.eval.update(seeds=seeds, batch_size=4)
    config.evals.retrieval.update(neighbours=3, **settings)
    rng = np.random.default_rng(5)
    clouds = rng.normal(size=(30, 6, 3)).astype(np.float32)
    sources = opener(
        *(
            FakeSource(
                np.arange(15) % 3,
                lambda row, base=base: {"points": clouds[base + row]},
                split=split,
            )
            for base, split in ((0, "train"), (15, "test"))
        )
    )
    config = configs.Config(config.to_dict())
    data = recipe.shape_data(config, (Drawn(),), ("points",))
    return recipe.evaluators(config, data, sources)["retrieval"](embed, folder)


def test_several_evaluations_of_the_same_weights(tmp_path):
    """Means and sample deviations of the evaluations that each seed gives alone."""
    seeds = (3, 0, 8)
    alone = [seeded(tmp_path, (seed,)) for seed in seeds]
    assert len({metrics["ndcg_3"] for metrics in alone}) == 3
    assert seeded(tmp_path, ()) == alone[1]  # that of the run: 0
    metrics = seeded(tmp_path, seeds, tmp_path / "retrieval")
    result = json.loads((tmp_path / "retrieval" / "result.json").read_text())
    for key, mean in metrics.items():
        values = [each[key] for each in alone]
        assert mean == pytest.approx(np.mean(values))
        assert result["spread"][key] == pytest.approx(np.std(values, ddof=1))
    assert result["metrics"] == metrics
    assert result["by_seed"] == [
        {"seed": seed, "metrics": each} for seed, each in zip(seeds, alone, strict=True)
    ]
    assert result["protocol"]["evaluation_seeds"] == [3, 0, 8]
    assert "over 3 evaluations of the same weights" in result["protocol"]["evaluations"]
    assert result["protocol"]["search"] == "exact"  # what was said before stays
    one = tmp_path / "one"
    assert seeded(tmp_path, (8,), one) == alone[2]
    result = json.loads((one / "result.json").read_text())
    assert result["spread"] == {} and "evaluations" not in result["protocol"]


def test_several_evaluations_of_an_evaluator_that_writes_nothing(tmp_path):
    given = ("evals.mine.name=evaluators.outside:make", "eval.seeds=(3, 1)")
    found = made(tmp_path, *given, "evals.mine.offset=1e400", "evals.retrieval.neighbours=5")
    assert made(tmp_path, *given)["mine"](embed, None) == {"spread_cosine": 5.0, "items": 6.0}
    metrics = found["mine"](embed, tmp_path / "mine")
    assert np.isinf(metrics["offset"])
    result = json.loads((tmp_path / "mine" / "result.json").read_text())
    wanted = {"spread_cosine": 5.0, "items": 6.0, "offset": None}
    assert (result["name"], result["metrics"]) == ("mine", wanted)
    assert result["spread"] == {"spread_cosine": 0.0, "items": 0.0, "offset": None}
    assert result["by_seed"] == [{"seed": seed, "metrics": wanted} for seed in (3, 1)]


def test_the_first_entry_is_the_first_that_was_added(tmp_path):
    """Not the first by name, which a plain ConfigDict would make of it."""
    outside = '{"name": "evaluators.outside:make"}'
    lines = (f"config.evals.{name} = {outside}" for name in ("z", "a"))
    assert list(made(tmp_path, lines=lines)) == ["retrieval", "z", "a"]
    lines = ("del config.evals.retrieval", f"config.evals.mine = {outside}")
    assert list(made(tmp_path, lines=lines)) == ["mine"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["evals.retrieval.name=jax3dret.evaluators.retreival:make"],
            "config.evals.retrieval.name: there is no module 'jax3dret.evaluators.retreival'; "
            "did you mean 'jax3dret.evaluators.retrieval'",
        ),
        (
            ["evals.retrieval.name=jax3dret.evaluators.retrieval:mke"],
            "retrieval has no 'mke'; did you mean 'make'",
        ),
        (["evals.retrieval.neighbors=5"], "takes no 'neighbors'; did you mean 'neighbours'"),
        (["evals.retreival.neighbours=5"], "did you mean 'evals.retrieval.neighbours'"),
        (["evals.mine.name=outside"], "config.evals.mine.name: 'outside' is not of the form"),
        (
            ["evals.mine.name=evaluators.outside:make", "evals.mine.scal=2.0"],
            "did you mean 'scale'",
        ),
        (["evals.retrieval.distance=euclidean"], "config.distance is that of the whole run"),
        (["evals.retrieval.data=x"], "config.evals.retrieval.data: no setting of an evaluator"),
        (["evals.retrieval.query=sketch"], "no data of 'sketch'; it has: shape"),
        (["evals.retrieval.neighbours=0"], "neighbours=0"),
        (["evals.retrieval.index.kind=tree"], "kind='tree': choose one of"),
        (["eval.seeds=(1, 1)"], "give distinct whole numbers, such as"),
        (["eval.seeds=(0.5,)"], "give distinct whole numbers, such as"),
        (["distance=cosin"], "distance='cosin': choose one of cosine"),
        (["evals.mine.name=evaluators.outside:make", "evals.mine.data=x"], "no setting of an eval"),
        (["eval.neighbours=5"], "did you mean 'evals.retrieval.neighbours'"),
        (["evals.mine.name=nowhere.at.all:make"], "there is no module 'nowhere.at.all'"),
    ],
)
def test_a_wrong_name_or_setting_is_one_line_that_names_the_right_one(
    unchecked, tmp_path, overrides, says
):
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")) as error:
        made(tmp_path, *overrides)
    assert "\n" not in str(error.value)


def test_an_evaluator_without_a_name(unchecked):
    with pytest.raises(ConfigError, match="config has no key 'evals.mine.name'"):
        recipe.evaluators(
            configs.Config({"evals": {"mine": {}}, "distance": "cosine", "eval": {"seeds": ()}}),
            None,
            SOURCES,
        )


def test_the_defaults_score_shapes_by_shapes():
    assert finetune.defaults().evals.to_dict() == {
        "retrieval": {
            "name": "jax3dret.evaluators.retrieval:make",
            "gallery_split": "train",
            "query_split": "test",
            "neighbours": 100,
            "index": {"kind": "auto", "scoring": "brute_force"},
        }
    }
