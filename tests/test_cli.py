"""The `jax3dret` command: exit codes, what stands on stdout and on stderr, and the everyday
commands as a user runs them.
"""

import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from models.fields.meshes_of import box, quick, sheet, write_off
from search.toy import make_workdir, tetrahedron

from jax3dret import __version__, cli
from jax3dret.core.types import DataError
from jax3dret.models.fields.fit_meshes import Job

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    make_workdir(folder / "run")
    for i in range(3):
        tetrahedron(folder / "parts" / f"part_{i}.obj", height=0.3 + i)
    (folder / "parts" / "broken.stl").write_text("solid")
    return folder


def shell(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "jax3dret.cli", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def call(capsys, *words):
    """Exit code, stdout and stderr of one command in this process."""
    code = cli.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_index_and_query_as_a_user_runs_them(parts):
    done = shell(parts, "index", "parts", "--out", "parts.index", "--weights", "run", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    counts = "parts.index: 3 indexed (3 new, 0 changed, 0 dropped; 3 embedded), 1 skipped, see parts.index/skipped.json"
    assert done.stdout.splitlines() == [counts]
    assert "index 4/4" in done.stderr and "Traceback" not in done.stderr
    (skipped,) = json.loads((parts / "parts.index" / "skipped.json").read_text())
    assert skipped["file"] == "broken.stl" and "STL" in skipped["reason"]

    files = ["parts/part_1.obj", "parts/part_2.obj"]
    done = shell(parts, "query", "parts.index", *files, "-k", "2", "--json")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer.keys() for answer in answers] == [{"query", "results"}] * 2
    for file, answer in zip(files, answers, strict=True):
        assert answer["query"] == file and [r["rank"] for r in answer["results"]] == [1, 2]
        best = answer["results"][0]
        assert best["id"] == pathlib.Path(file).name and best["path"] == str(parts / file)
        assert best["score"] == pytest.approx(1, abs=1e-4)


def test_queries_that_go_wrong_are_one_line(parts, capsys, monkeypatch):
    monkeypatch.chdir(parts)
    if not (parts / "parts.index").is_dir():
        assert cli.main(["index", "parts", "--out", "parts.index", "--weights", "run"]) == 0
        capsys.readouterr()
    for name in ("README.md", "a.png", "a.step"):
        (parts / name).write_text("x")
    for words, expected, says in [
        (
            ["query", "parts", "parts/part_0.obj"],
            1,
            "parts/index.json: not found; parts is not an index",
        ),
        (["query", "parts.index", "parts/broken.stl", "--json"], 1, "parts/broken.stl: "),
        (
            ["query", "parts.index", "--text", "a bolt"],
            2,
            "text 'a bolt': a text, which the model does not read",
        ),
        (["query", "parts.index"], 2, "give FILE... or --text"),
        (["query", "parts.index", "parts/part_0.obj", "-k", "0"], 2, "-k 0: give 1 or more"),
        (
            ["query", "parts.index", "parts/part_0.obj", "--weights", "parts"],
            2,
            "not a trained workdir",
        ),
        (["query", "parts.index", ""], 2, "a file's name is empty"),
        (["query", "parts.index", "nope"], 1, "nope: cannot be read (no such file or directory)"),
        (["query", "parts.index", "nope.png"], 1, "nope.png: cannot be read (no such file or"),
        (["query", "parts.index", "README.md"], 2, "README.md: a file of another kind; it reads"),
        (["query", "parts.index", "a.png"], 2, "a.png: an image, which the model does not read"),
        (["query", "parts.index", "a.step"], 2, "a.step: is a STEP file, which is not read"),
        (["query", "parts.index", "-k", "1", "--", "-nope"], 1, "-nope: cannot be read"),
    ]:
        code, out, err = call(capsys, *words)
        assert (code, out) == (expected, "") and says in err and err.count("\n") == 1, (words, err)
    # Flags may stand before the files, and between them.
    for words in (
        ["-k", "1", "a.obj", "b.obj"],
        ["a.obj", "-k", "1", "b.obj"],
        ["a.obj", "--json", "b.obj"],
        ["-k", "1", "--", "a.obj", "b.obj"],
        ["a.obj", "-k", "1", "--", "b.obj"],
        ["--", "a.obj", "b.obj"],
    ):
        files = [
            word.replace("a.obj", "parts/part_0.obj").replace("b.obj", "parts/part_1.obj")
            for word in words
        ]
        code, out, _ = call(capsys, "query", "parts.index", *files)
        assert code == 0 and "parts/part_0.obj" in out and "parts/part_1.obj" in out
    code, out, _ = call(capsys, "query", "parts.index", "parts/part_0.obj", "-k", "99")
    assert code == 0 and out.splitlines()[0] == "parts/part_0.obj" and len(out.splitlines()) == 4
    assert out.splitlines()[1].split() == ["1", "1.0000", "part_0.obj"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["index", "parts", "--out", "new"], "a new index needs --weights WORKDIR"),
        (
            ["index", "parts", "--out", "new", "--weights", "parts"],
            "--weights parts: not a trained workdir",
        ),
        (
            ["index", "nowhere", "--out", "new", "--weights", "run"],
            "nowhere: no such file or folder",
        ),
        (
            ["index", "parts", "--out", "parts", "--weights", "run"],
            "--out parts: is a folder with other things in it",
        ),
        (
            ["index", "parts", "--out", "new", "--weights", "run", "--jobs", "0"],
            "--jobs=0: give 1 or more",
        ),
        (["index", "parts"], "the following arguments are required: --out"),
        (["index", "parts", "--out", "new", "--up-axis", "x"], "invalid choice: 'x'"),
        (["indx"], "invalid choice: 'indx'"),
        (["index", "parts", "--out", "new", "nowhere"], "nowhere: no such file or folder"),
        (
            ["index", "parts", "--out", "new", "--jbs", "3", "nowhere"],
            "unrecognized arguments: --jbs 3 nowhere",
        ),
        (["info", "more"], "unrecognized arguments: more"),
        (["info", "--", "more"], "unrecognized arguments: "),
        (["index", "", "--out", "new", "--weights", "run"], "a SOURCE is empty"),
        (["index", "parts", "", "--out", "new", "--weights", "run"], "a SOURCE is empty"),
        (["index", "parts", "--out", "", "--weights", "run"], "--out is empty"),
        (["index", "parts", "--out", "new", "--weights", ""], "--weights is empty"),
        (["query", "", "a.obj"], "INDEX is empty"),
        (["report", ""], "argument WORKDIR: is empty"),
        (["weights", "import", "a.pt", "--out", ""], "argument --out: is empty"),
        (["data", "build", "mesh_folder", "--manual-dir", ""], "argument --manual-dir: is empty"),
        (["bench", "point_op"], "there is no bench 'point_op'; did you mean 'point_ops'?"),
        (["bench", "--repeats", "0"], "--repeats=0: give 1 or more"),
        (["data", "build", "parametric_shape/demo"], "unknown data set 'parametric_shape/demo'"),
        ([], "required"),
    ],
)
def test_a_wrong_command_is_one_line_and_code_2(parts, capsys, monkeypatch, words, says):
    monkeypatch.chdir(parts)
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1
    assert not (parts / "new").exists()


def test_a_bench_prints_one_object_whatever_its_baseline_says(capsys, monkeypatch):
    case = {"name": "a", "ours": 1, "baseline": 2, "baseline_name": "b", "ratio": 0.5, "unit": "s"}

    def cases(repeats):
        sys.stdout.write("Loaded weights\n")
        return [case]

    bench = types.SimpleNamespace(cases=cases)
    monkeypatch.setitem(sys.modules, "jax3dret.bench.towers", bench)
    code, out, err = call(capsys, "bench", "towers", "--json")
    assert code == 0 and json.loads(out)["cases"] == [case] and "Loaded weights" in err
    assert json.loads(out)["run"]["command"] == "jax3dret bench towers --json"


def test_help_and_version(capsys):
    for words in (["--help"], ["query", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as left:
            cli.main(words)
        assert left.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("index", "query", "data", "report", "bench", "info"))
    assert out.endswith(f"jax3dret {__version__}\n")


def test_info_and_data_list(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    code, out, _ = call(capsys, "info")
    assert (
        code == 0
        and f"jax3dret {__version__}" in out
        and "devices: cpu:0" in out
        and "nothing yet" in out
    )
    code, out, _ = call(capsys, "data", "list", "--data-dir", tmp_path)
    assert (
        code == 0
        and str(tmp_path) in out
        and "parametric_shapes/demo" in out
        and "modelnet/10" in out
    )
    assert "prepared " not in out.split("\n", 1)[1]


def test_a_report_of_no_workdir(capsys, tmp_path):
    code, out, err = call(capsys, "report", tmp_path / "nowhere")
    assert code in (1, 2) and out == "" and err.startswith("error: ") and err.count("\n") == 1


def test_fit_resumes_and_lists_what_failed(tmp_path, capsys, monkeypatch):
    """Boxes, a sheet and a broken file; then again, with a truncated INR, then with all as it is."""
    monkeypatch.setattr(Job, "of", lambda field, function, preset: quick(field, function))
    monkeypatch.setattr("jax3dret.geometry.watertight.available", lambda: False)
    monkeypatch.chdir(tmp_path)
    for i in (1, 2):
        write_off(tmp_path / "parts" / "box" / f"{i}.off", box(1, 1, i))
    write_off(tmp_path / "parts" / "flat.off", sheet())
    (tmp_path / "parts" / "broken.stl").write_text("solid")
    words = ["fit", "parts", "--out", "s", "--field", "triplane", "--function", "sdf"]
    code, out, err = call(capsys, *words)
    assert (code, out) == (0, "s: 2 fitted, 0 kept, 2 failed, see s/failed.json\n")
    assert "fit 4/4 (100 %)" in err and "2 fitted, 0 kept, 2 failed" in err
    failed = json.loads((tmp_path / "s" / "failed.json").read_text())["failed"]
    assert [each["file"] for each in failed] == ["broken.stl", "flat.off"]
    assert "encloses no volume" in failed[1]["reason"] and failed[1]["path"].endswith("flat.off")
    store = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    assert len(store) == 4
    cut = tmp_path / "s" / "box" / "1.off.triplane.sdf.safetensors"
    cut.write_bytes(cut.read_bytes()[:-9])
    code, out, err = call(capsys, *words)
    assert (code, out) == (0, "s: 1 fitted, 1 kept, 2 failed, see s/failed.json\n")
    assert "1.off.triplane.sdf.safetensors: is of" in err and "it is fitted again" in err
    assert {path: path.read_bytes() for path in store} == store
    code, out, err = call(capsys, *words)
    assert out.startswith("s: 0 fitted, 2 kept, 2 failed") and "Traceback" not in err
    # Each INR against its mesh in the frame of the INR; the one without a surface is told.
    seen = []

    def reconstruction(field, function, mesh, count, rng):
        seen.append((field.about["source"], np.ptp(mesh.vertices, axis=0).argmax(), count))
        if field.about["source"] == "box/1.off":
            raise DataError("the field has no surface")
        return {"chamfer": 0.25, "giou": 0.5}

    monkeypatch.setattr("jax3dret.metrics.reconstruction.reconstruction", reconstruction)
    code, out, err = call(capsys, *words, "--evaluate")
    assert code == 0 and "means: chamfer 0.2500, giou 0.5000; each in s/evaluated.json" in out
    assert [s[0] for s in seen] == ["box/1.off", "box/2.off"] and seen[1][1:] == (1, 1 << 17)
    assert "1.off.triplane.sdf.safetensors: cannot be evaluated: the field has no surface" in err
    scores = json.loads((tmp_path / "s" / "evaluated.json").read_text())
    assert scores["box/2.off.triplane.sdf.safetensors"] == {"chamfer": 0.25, "giou": 0.5}
    assert scores["box/1.off.triplane.sdf.safetensors"] == {}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["parts"], 2, "required: --out, --field, --function"),
        (["parts", "--field", "hashgird"], 2, "invalid choice: 'hashgird'"),
        (["parts", "--function", "sfd"], 2, "did you mean 'sdf'"),
        (["parts", "--preset", "slow"], 2, "invalid choice: 'slow'"),
        (["nowhere"], 2, "nowhere: no such file or folder"),
        (["parts", "--jobs", "0"], 2, "--jobs=0: give 1 or more"),
        (["parts", "--out", ""], 2, "--out is empty"),
        (["parts", "--out", "parts"], 2, "other things in it, such as broken.stl"),
        (["run"], 1, "run: no meshes; supported are"),
    ],
)
def test_fit_refuses(parts, capsys, monkeypatch, words, code, says):
    monkeypatch.chdir(parts)
    given = {"--out": "s", "--field": "siren", "--function": "udf"}
    full = [w for flag, v in given.items() if flag not in words for w in (flag, v)]
    got, out, err = call(capsys, "fit", *words, *([] if says.startswith("required") else full))
    assert (got, out) == (code, "") and says in err and len(err.splitlines()) == 1
    assert not (parts / "s").exists()
