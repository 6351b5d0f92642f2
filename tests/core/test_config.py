import errno
import json
import pathlib
import sys

import pytest

from jax3dret.core import components
from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError

CONFIG = """
from jax3dret.tasks.ulip2 import finetune
VARIANTS = ("demo", "paper")
def get_config(variant):
    config = finetune.defaults()
    config.model = {"name": "jax3dret.models.pointbert:PointBert", "depth": 3}
    config.train.batch_size = 8 if variant == "demo" else 64
    return config
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "toy.py"
    file.write_text(CONFIG)
    return str(file)


def test_first_variant_is_the_default(path):
    config, name = configs.load(path)
    assert name == "toy:demo" and config.train.batch_size == 8
    assert configs.load(path + ":paper")[0].train.batch_size == 64


def test_overrides_take_the_type_of_the_default(path):
    given = [
        ("optim.lr", "1"),
        ("train.steps", "7"),
        ("log.tensorboard", "false"),
        ("data.name", "12"),
        ("model.depth", "2"),
        ("model.trans_dim", "96"),
    ]
    config, _ = configs.load(path, given)
    assert config.optim.lr == 1.0 and isinstance(config.optim.lr, float)
    assert config.train.steps == 7 and config.log.tensorboard is False and config.data.name == "12"
    assert config.model.kwargs() == {"depth": 2, "trans_dim": 96}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("optim.lrr", "1", "did you mean 'optim.lr'"),
        ("optm.lr", "1", "did you mean 'optim.lr'"),
        ("train.lrr", "1", "did you mean 'optim.lr'"),
        ("model.lr", "1", "PointBert takes no 'lr'"),
        ("qqqq", "1", "unknown config key 'qqqq'$"),
        (
            "evals.mine.neighbours",
            "5",
            "config.evals has no 'mine'; name one first, with config.evals.mine.name=module:",
        ),
        ("evals.retreival.neighbours", "5", "did you mean 'evals.retrieval.neighbours'"),
        ("evals.mine.name", "broken_plug_im:make", "did you mean 'broken_plug_in'"),
        ("evals.mine.name", "my_package.my_evla:make", "did you mean 'my_package.my_eval'"),
        ("train.batch_size", "8.5", "not of type int"),
        ("train.batch_size", "many", "not of type int"),
        ("log.tensorboard", "maybe", "true or false"),
        ("model.dept", "3", "did you mean 'depth'"),
        ("model.depth", "deep", "not of type int"),
        ("optim", "3", "is a section"),
        ("model.name", "jax3dret.models.pointbert:PointBart", "did you mean 'PointBert'"),
        (
            "model.name",
            "jax3dret.models.pointbart:PointBert",
            "no module 'jax3dret.models.pointbart'; did you mean 'jax3dret.models.pointbert'",
        ),
        (
            "model.name",
            "jax3drte.models.pointbert:PointBert",
            "did you mean 'jax3dret.models.pointbert'",
        ),
        ("model.name", "nothing_of_this_kind:PointBert", "no module 'nothing_of_this_kind'"),
        ("train.batch_size", "0", "config.train.batch_size is 0; give 1 or more"),
        ("log.every", "-3", "config.log.every is -3; give 1 or more"),
        ("checkpoint.every", "0", "config.checkpoint.every is 0"),
        ("eval.every", "-1", "config.eval.every is -1; give 0 or more"),
        ("train.epochs", "-1", "config.train.epochs is -1.0; give 0 or more"),
        ("train.epochs", "1e400", "config.train.epochs is inf"),
        ("train.batch_size.x", "3", "unknown config key 'train.batch_size.x'"),
        ("model.depth.x", "3", "unknown config key 'model.depth.x'; 'model.depth' holds no 'x'"),
    ],
)
def test_a_wrong_override_names_the_right_one(path, key, value, says):
    with pytest.raises(ConfigError, match="(?s)" + says.replace("(", r"\(")) as error:
        config, _ = configs.load(path, [(key, value)])
        config.model.build()
    assert "\n" not in str(error.value)


def test_unknown_variant_and_file(path):
    with pytest.raises(ConfigError, match="has no variant 'papr'; did you mean 'paper'"):
        configs.load(path + ":papr")
    with pytest.raises(ConfigError, match="no such file; did you mean '.*toy.py'"):
        configs.load(path.replace("toy", "tov"))
    with pytest.raises(ConfigError, match="no such file$"):  # a folder alone is no likeness
        configs.load(path.replace("toy", "nope"))


@pytest.mark.parametrize("method", ["is_file", "read_bytes"])
def test_a_file_that_may_not_be_read(path, monkeypatch, method):
    def deny(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(pathlib.Path, method, deny)
    with pytest.raises(
        ConfigError, match=r"^--config=.*toy.py: cannot be read \(permission denied"
    ):
        configs.load(path)


def test_a_key_that_the_file_invents_is_an_error(tmp_path):
    file = tmp_path / "toy.py"
    file.write_text(CONFIG.replace("config.train.batch_size =", "config.train.batchsize ="))
    with pytest.raises(
        ConfigError, match="unknown config key 'train.batchsize'; did you mean 'train.batch_size'"
    ):
        configs.load(str(file))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("    config.tain.steps = 3", 'line 8: AttributeError: .*Did you mean "train"'),
        ("    return None", r"get_config\('demo'\) gives NoneType; give a ConfigDict"),
        (
            "import nothing_of_this_name",
            "line 8: ModuleNotFoundError: No module named 'nothing_of_this_name'",
        ),
        ("VARIANTS = ()", "VARIANTS is empty"),
        ("def", "line 8: invalid syntax"),
    ],
)
@pytest.mark.parametrize("folder", ["", "here"], ids=["absolute", "relative"])
def test_a_file_that_does_not_run_is_one_line(tmp_path, monkeypatch, line, says, folder):
    file = tmp_path / "toy.py"
    file.write_text(
        CONFIG.replace(
            "    return config\n", f"{line}\n    return config\n" if line[0] == " " else f"{line}\n"
        )
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="toy.py.*" + says) as error:
        configs.load("toy.py" if folder else str(file))
    assert "\n" not in str(error.value)


def test_a_component_may_take_a_mapping(tmp_path):
    file = tmp_path / "toy.py"
    file.write_text(CONFIG.replace('"depth": 3', '"depth": {"inner": 3}'))
    config, _ = configs.load(str(file), [("model.depth.inner", "4")])
    assert config.model.kwargs() == {"depth": {"inner": 4}}


OTHER = "jax3dret.models.pointnet2:PointNet2"


def of_three(a, b, c=1):
    return a, b, c


def of_any(a, *rest, **settings):
    return a


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((of_three, {"a": 1}), "^here: of_three needs 'b'; give here.b$"),
        ((of_three, {}), "^here: of_three needs 'a', 'b'; give here.a and here.b$"),
        ((of_three, {"d": 1}, 2), "takes no 'd'"),
        ((of_three, {}, 2, ("d",)), "^here: of_three takes no 'd', which it is given; it takes: a"),
        ((of_three, {}, 1), "needs 'b'"),
        ((of_any, {}), "needs 'a'; give here.a"),
        ((of_three, {"a": 1, "b": 2}), ""),
        ((of_three, {"c": 2}, 2), ""),
        ((of_three, {"b": 2}, 0, ("a",)), ""),
    ],
)
def test_what_a_component_needs_is_asked_for(given, says):
    target, kwargs, *more = given
    settings = dict(zip(("positional", "extra"), more, strict=False))

    def check():
        components.check_call(target, kwargs, where="here", **settings)

    if not says:
        check()
        return
    with pytest.raises(ConfigError, match=says):
        check()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def", "SyntaxError: .*lame.py, line 2"),
        ("import json.nothing", "ModuleNotFoundError|needs the package"),
        ("from json import nothing", "ImportError: cannot import name 'nothing'"),
        ("raise ValueError", r"ValueError:  \(.*lame.py, line 2\)"),
    ],
)
def test_a_module_that_fails_is_one_line_that_names_the_place(tmp_path, monkeypatch, text, says):
    (tmp_path / "lame.py").write_text(f"# a comment\n{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lame", raising=False)
    with pytest.raises(ConfigError, match=f"^here: 'lame' .*({says})") as error:
        components.resolve("lame:f", where="here")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ([("model.name", OTHER)], {"name": OTHER}),
        ([("model.remat", "true"), ("model.name", OTHER)], {"name": OTHER, "remat": True}),
        (  # the same as the file's: no other section
            [("model.name", "jax3dret.models.pointbert:PointBert"), ("model.num_heads", "2")],
            {"name": "jax3dret.models.pointbert:PointBert", "depth": 3, "num_heads": 2},
        ),
    ],
)
def test_another_component_starts_its_section_anew(path, given, left):
    config, _ = configs.load(path, given)
    assert config.model.to_dict() == left


def test_a_name_that_is_no_component_leaves_its_section_alone(path):
    changed, _ = configs.load(path, [("optim.name", "sgd"), ("data.name", "a/b")])
    plain, _ = configs.load(path)
    for section, name in (("optim", "sgd"), ("data", "a/b")):
        assert changed[section].to_dict() == {**plain[section].to_dict(), "name": name}


def test_unused_overrides_are_found(path):
    overrides = [("train.epochs", "3"), ("optim.lr", "0.1")]
    config, _ = configs.load(path, overrides)
    assert configs.unused_overrides(config, overrides) == ["train.epochs", "optim.lr"]
    _ = config.optim.lr
    assert configs.unused_overrides(config, overrides) == ["train.epochs"]
    configs.dump(config)
    assert configs.unused_overrides(config, overrides) == ["train.epochs"], (
        "writing config.json is not reading it"
    )
    config.to_dict()
    assert configs.unused_overrides(config, overrides) == []


def test_differences_ignore_places_and_survive_json(path):
    config, _ = configs.load(path)
    theirs = json.loads(configs.dump(config))
    assert configs.differences(config, theirs) == []
    places = [
        ("data.data_dir", "elsewhere"),
        ("checkpoint.every", "3"),
        ("mesh.fsdp", "2"),
        ("eval.batch_size", "5"),
    ]
    moved, _ = configs.load(path, places)
    assert configs.differences(moved, theirs) == []
    bert = {"name": "jax3dret.models.pointbert:PointBert"}
    for section in ("model", "towers"):  # recomputing changes no result
        values = {"task": "jax3dret.tasks.ulip2.finetune", section: bert}
        less = configs.Config({**values, section: {**bert, "remat": True}})
        assert configs.differences(less, values) == []
    for task, same in (("viewgcn", True), ("finetune", False)):  # a task's own places
        values = {"task": f"jax3dret.tasks.ulip2.{task}", "views": {"jobs": 1}}
        more = configs.Config({**values, "views": {"jobs": 2}})
        assert (configs.differences(more, values) == []) is same
    other, _ = configs.load(path, [("optim.lr", "0.5")])
    assert configs.differences(other, theirs) == ["optim.lr: 0.0003 there, 0.5 here"]


def test_a_section_builds_what_it_names(path):
    encoder = configs.load(path)[0].model.build()
    assert encoder.depth == 3
    with pytest.raises(ConfigError, match="takes no 'deep'"):
        configs.Config({"name": "jax3dret.models.pointbert:PointBert", "deep": 1}).build()


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ((1, 2), "where: 1 is not a pair"),
        (((".*",),), "is not a pair"),
        (((1, {}),), "is not a pair"),
        ((("(", {}),), "'\\(' is not a regular expression: missing"),
    ],
)
def test_rules_are_pairs_of_an_expression_and_a_setting(rules, says):
    with pytest.raises(ConfigError, match=says):
        configs.check_rules(rules, where="where")


def test_other_values_and_what_was_read_of_either(path):
    config, _ = configs.load(str(path), [("train.epochs", "3"), ("optim.lr", "0.5")])
    changed = config.with_values({"train.batch_size": 7, "optim.rules": (("a", {}), (".*", {}))})
    assert (changed.train.batch_size, changed.train.epochs) == (7, 3.0)
    assert config.train.batch_size != 7 and config.optim.rules != changed.optim.rules
    assert configs.unused_overrides(config, [("train.epochs", "3"), ("optim.lr", "0.5")]) == [
        "optim.lr"
    ]
    with pytest.raises(
        ConfigError, match="config has no key 'train.batchsize'; did you mean 'batch_size'"
    ):
        config.with_values({"train.batchsize": 7})
