"""The command that makes captions: whose captions, where from, and what is refused."""

import pathlib

import pytest

from jax3dret import caption, run
from jax3dret.tasks.ulip2 import mmcl

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


@pytest.fixture(autouse=True)
def nothing_prepared(monkeypatch):
    monkeypatch.setattr(run, "opener", lambda config: lambda split, name=None: f"source {split}")


def test_the_flags_are_those_of_the_run(monkeypatch, tmp_path, capsys):
    given = {}

    class Model:
        def write(self, source, path, open_views):
            given.update(source=source, path=path)
            return tmp_path / "captions.jsonl"

    monkeypatch.setattr(mmcl.pictures, "view_path", lambda views, source: (views, source))
    settings = "jax3dret.data.captioning:vision_language_model"
    monkeypatch.setattr(settings.replace(":", "."), lambda model="": Model())
    flags = [f"--config={CONFIGS}/ulip2_mmcl.py:paper", "--workdir=w", "--config.views.size=32"]
    assert caption.main(flags) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "captions.jsonl")
    assert given["source"] == "source train" and given["path"][0]["size"] == 32


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("ulip2_mmcl.py", "captions:templates' makes no captions from pictures"),
        ("ulip2_vicreg.py", "ulip2_vicreg:demo: its task, jax3dret.tasks.ulip2.finetune, reads no"),
    ],
)
def test_a_config_without_such_captions(capsys, config, says):
    assert caption.main([f"--config={CONFIGS}/{config}"]) == 2
    assert says in capsys.readouterr().err


def test_a_wrong_flag_is_answered_under_the_commands_own_name(capsys):
    assert caption.main([]) == 2
    assert "python -m jax3dret.caption --help" in capsys.readouterr().err
