"""INRs distilled into a store of another architecture, by the command that fits meshes."""

import json

import jax
import numpy as np
import pytest

from jax3dret import cli
from jax3dret.core.types import ConfigError
from jax3dret.fit import distil_folder
from jax3dret.models.fields.distillation import Distilled
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.field_file import read_field, write_field
from jax3dret.models.fields.siren import Siren
from jax3dret.models.fields.triplane import Triplane


def siren(function="sdf", shift=0.0):
    architecture = Siren(hidden=4, depth=1)
    variables = jax.tree.map(np.array, architecture.init(jax.random.key(0)))
    variables["decoder"]["layers"][-1]["bias"] += np.float32(shift)
    return Field(architecture, function, variables, (1.0, 2.0, 3.0), 4.0, {"source": "a.off"})


@pytest.fixture
def calls(monkeypatch):
    """A distillation that gives an untrained INR, and refuses unsigned sources."""
    made = []

    def distil(oracles, architecture, function, spec, *, seed):
        made.append([oracle.name for oracle in oracles])
        variables = jax.tree.map(np.array, architecture.init(jax.random.key(1)))
        return [
            Distilled(None, "does not tell sdf")
            if oracle.function != function
            else Distilled(
                Field(
                    architecture, function, variables, oracle.centre, oracle.scale, {"seed": seed}
                )
            )
            for oracle in oracles
        ]

    monkeypatch.setattr(distil_folder, "distil", distil)
    return made


def run(capsys, *words):
    code = cli.main(["fit", *map(str, words)])
    return (code, *capsys.readouterr())


def test_inrs_are_distilled_once_each(tmp_path, capsys, monkeypatch, calls):
    monkeypatch.chdir(tmp_path)
    write_field(tmp_path / "in" / "a.safetensors", siren())
    write_field(tmp_path / "in" / "b.safetensors", siren("udf"))
    (tmp_path / "in" / "c.safetensors").write_text("nothing")
    files = [f"in/{name}.safetensors" for name in "abc"]
    words = ("--out", "s", "--field", "triplane", "--function", "sdf", "--preset", "fast")
    code, out, err = run(capsys, *files, *words)
    assert (code, out) == (0, "s: 1 distilled, 0 kept, 2 failed, see s/failed.json\n"), err
    assert calls == [["a", "b"]]
    failed = json.loads((tmp_path / "s" / "failed.json").read_text())["failed"]
    assert {each["file"]: each["reason"] for each in failed} == {
        "b.safetensors": "does not tell sdf",
        "c.safetensors": "is no safetensors file, which an INR is kept in",
    }
    field = read_field(tmp_path / "s" / "a.triplane.sdf.safetensors")
    assert isinstance(field.architecture, Triplane) and field.scale == 4.0
    assert field.about["source"] == "a" and field.about["preset"] == "fast"
    # Again: what is there is kept, and a store of INRs is a source as its files are.
    code, out, _ = run(capsys, *files, *words)
    assert out.startswith("s: 0 distilled, 1 kept, 2 failed") and calls[1:] == [["b"]]
    calls.clear()
    code, out, err = run(capsys, "s", "--out", "t", *words[2:])
    assert (code, out) == (0, "t: 1 distilled, 0 kept, 0 failed\n"), err
    # What a store's manifest lists and is not there is said.
    (tmp_path / "s" / "a.triplane.sdf.safetensors").unlink()
    code, out, err = run(capsys, "s", *files[:1], "--out", "u", *words[2:])
    assert code == 0 and out.startswith("u: 1 distilled, 0 kept, 1 failed"), err
    failed = json.loads((tmp_path / "u" / "failed.json").read_text())["failed"]
    assert "is missing; the manifest of its store lists it" in failed[0]["reason"]
    # A source that has changed is distilled anew.
    write_field(tmp_path / "in" / "a.safetensors", siren(shift=0.1))
    assert run(capsys, files[0], *words)[1].startswith("s: 1 distilled, 0 kept")


def test_what_is_refused(tmp_path, capsys, monkeypatch, calls):
    monkeypatch.chdir(tmp_path)
    write_field(tmp_path / "a.safetensors", siren("udf"))
    (tmp_path / "m.off").write_text("OFF\n")
    words = ("--out", "s", "--field", "triplane", "--function", "sdf")
    for given, code, says in (
        (["a.safetensors", "m.off"], 2, "a.safetensors holds INRs, m.off does not"),
        (["a.safetensors", "--evaluate"], 2, "--evaluate is for meshes"),
        (["a.safetensors"], 1, "none of 1 INRs could be distilled, the first is "),
        (["b.safetensors"], 2, "b.safetensors: no such file or folder"),
    ):
        got, out, err = run(capsys, *given, *words)
        assert (got, out) == (code, "") and says in err, err
    with pytest.raises(ConfigError, match="--out is empty"):
        distil_folder.distil_folder(["a.safetensors"], "", None)
