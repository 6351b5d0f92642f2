"""An index, or an import of weights, from a stranger: whatever it names, nothing but networks,
losses and inputs of the package is called.
"""

import json
import shutil

import numpy as np
import pytest

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError
from jax3dret.inputs import describe
from jax3dret.inputs.drawing import Drawing
from jax3dret.inputs.points import Points
from jax3dret.search import encode, own_names
from jax3dret.tasks import towers
from jax3dret.tasks.mvhgnn import experiment
from jax3dret.tasks.ulip2 import finetune, viewgcn

# Callables that are of the package and have no business in an index.
NAMES = (
    "jax3dret.core.config:load",
    "jax3dret.core.config_file:run",
    "jax3dret.main:main",
    "jax3dret.cli:main",
    "jax3dret.core.files:write_text",
    "jax3dret.inputs.describe:restore",
    "jax3dret.models.clip:nn",
    "jax3dret.models.conse:class_names",
    "jax3dret.models.layers:_private",
    "jax3dret.data.captions:from_jsonl",
    "jax3dret.data.captioning:vision_language_model",
    "jax3dret.losses.vicreg:jnp",
    "jax3dret.models.pointbert:__loader__",
    "jax3dret.models:__doc__",
)


@pytest.fixture
def evil(tmp_path):
    """A config file, and what is there once it was run."""
    path, ran = tmp_path / "evil.py", tmp_path / "ran"
    path.write_text(f"open({str(ran)!r}, 'w')\nVARIANTS = ('a',)\n")
    return path, ran


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "copy"
    encode.open_encoder(trained.path).save(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("name", [*NAMES, "jax3dret.inputs.item:Item", "jax3dret.inputs.text:log"])
def test_no_input_but_those_of_the_package_is_called(copy, evil, name):
    path, ran = evil
    shape = {"name": name, "version": 1, "spec": str(path), "argv": [f"--config={path}"]}
    change(copy / "meta.json", inputs={"shape": shape})
    with pytest.raises(ConfigError, match="is no input of jax3dret; nothing of it was called"):
        encode.load_encoder(copy)
    assert not ran.exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("marked", [False, True])
def test_no_network_but_those_of_the_package_is_called(copy, evil, name, marked):
    path, ran = evil
    values = {"spec": str(path), "argv": [f"--config={path}"], "path": str(path)}
    change(copy / "config.json", model={"name": name, **values})
    opens = encode.load_encoder
    if marked:  # an import, as `index --weights` takes it
        (copy / "import.json").write_text("{}")
        (copy / "checkpoints").mkdir()
        opens = encode.open_encoder
    refused = "is no network and no loss of jax3dret; nothing of it|is a module; give a"
    with pytest.raises(ConfigError, match=refused):
        opens(copy)
    assert not ran.exists()


@pytest.mark.parametrize(
    "task", ["jax3dret.main", "jax3dret.tasks", "jax3dret.tasks.recipe:build", "jax3dret.bench.x"]
)
def test_a_task_is_one_of_the_package(copy, task):
    change(copy / "config.json", task=task)
    with pytest.raises(ConfigError, match="which is no task of jax3dret"):
        encode.load_encoder(copy)


@pytest.mark.parametrize("task", [finetune, viewgcn, experiment])
def test_what_a_training_reads_is_left_out_and_not_called(task):
    defaults = task.defaults().to_dict()
    config = {**defaults, "evals": {"a": {"name": "jax3dret.evaluators.gone:make"}}}
    config["optim"] = {**defaults["optim"], "schedule": {"name": "jax3dret.core.schedules:gone"}}
    found = own_names.without_training(config, defaults, where="x")
    assert found["evals"] == {} and "schedule" not in found["optim"]
    assert found["optim"]["lr"] == defaults["optim"]["lr"]
    networks = {key for key in ("model", "head", "cnn", "tower") if defaults.get(key)}
    assert networks and all(found[key] == defaults[key] for key in networks)
    named = [str(v) for k, v in configs.flatten(found) if k.endswith(".name") and ":" in str(v)]
    assert all(v.startswith(("jax3dret.models.", "jax3dret.losses.")) for v in named)
    for section in ({"name": ["os:system"]}, {"name": {"a": "os:system"}}):
        with pytest.raises(ConfigError, match="it is a text"):
            own_names.without_training({**config, "model": section}, defaults, where="x")
    with pytest.raises(ConfigError, match="code outside jax3dret"):
        own_names.without_training({**config, "evals": {"a": {"name": "os:system"}}}, {}, where="x")


def test_functions_that_give_a_network_are_networks():
    lite = {"cnn": {"name": "jax3dret.models.efficientnet_lite:lite0"}}
    assert own_names.without_training(lite, {}, where="x") == lite
    for name in ("scaled", "jnp", "EfficientNetLit"):
        wrong = {"cnn": {"name": f"jax3dret.models.efficientnet_lite:{name}"}}
        with pytest.raises(ConfigError):
            own_names.without_training(wrong, {}, where="x")


def test_an_import_does_not_say_what_its_towers_are(monkeypatch, evil):
    path, ran = evil
    tower = {"name": "jax3dret.core.config:load", "spec": str(path)}
    meta = {"kind": "clip", "model": {"vision": tower, "text": tower}}
    variables = {"params": {"vision": {}, "text": {}, "logit_scale": np.zeros(())}}
    monkeypatch.setattr(towers, "load_imported", lambda folder: (meta, variables))
    monkeypatch.setattr(towers, "load_tokenizer", lambda *a, **k: None)
    settings = {**towers.defaults(), "weights": "somewhere", "merges": "m"}
    for build in (
        lambda: towers.image_tower(settings, 224, 0),
        lambda: towers.text_tower(settings, 0),
    ):
        with pytest.raises(ConfigError, match="takes no 'spec'"):
            build()
    assert not ran.exists()


def test_a_description_that_is_damaged_is_one_line():
    whole = describe.describe(Points(16))
    for damaged, message in (
        ("x", "an input without a name"),
        ({**whole, "name": ""}, "an input without a name"),
        ({**whole, "name": 3}, "an input without a name"),
        ({k: v for k, v in whole.items() if k != "num_points"}, "lacks 'num_points'"),
        ({**whole, "num_points": "16"}, "'num_points' is '16', not of type int"),
        ({**whole, "num_points": 0}, "'num_points' is 0; it is at least 1"),
        (
            describe.describe(Drawing(32)) | {"prepare": "plan"},
            "Drawing: prepare 'plan' is unknown",
        ),
        ({**whole, "num_points": True}, "'num_points' is True, not of type int"),
        ({**whole, "version": 99}, "version 99 .* this is 2"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            describe.restore(damaged, where="meta")
        assert "\n" not in str(caught.value)
