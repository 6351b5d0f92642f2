"""A model and an input outside the package are trained, indexed, queried and reported by the
package's own commands.
"""

import json
import pathlib

import outside_system
import pytest
from search.toy import write_obj

from jax3dret import cli, main

FACES = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Rods and plates, five of each."""
    folder = tmp_path_factory.mktemp("outside") / "parts"
    for kind, sides in (("rod", (8.0, 1.0, 1.0)), ("plate", (6.0, 5.0, 0.3))):
        for i in range(5):
            x, y, z = (side * (1 + 0.04 * i) for side in sides)
            corners = [[0, 0, 0], [x, 0, 0], [0, y, 0], [0.2 * x, 0.3 * y, z]]
            write_obj(folder / kind / f"{i}.obj", corners, FACES)
    return folder


def test_trained_indexed_queried_and_reported(parts, tmp_path, capsys):
    workdir, index = tmp_path / "run", tmp_path / "index"
    code = main.main(
        [
            f"--config={pathlib.Path(outside_system.__file__)}",
            f"--workdir={workdir}",
            f"--config.data.manual_dir={parts}",
            f"--config.data.data_dir={tmp_path / 'prepared'}",
            "--config.reads.scale=2.0",
            "--config.evals.mine.name=my_package.my_eval:make",
        ]
    )
    assert code == 0, capsys.readouterr().err
    report = json.loads((workdir / "report" / "metrics.json").read_text())
    assert report["system"] == "extents" and report["metrics"]["nn_acc"] == 1.0
    described = report["encoder"]["inputs"]["shape"]
    assert described == {"name": "outside_system:Extents", "version": 1, "scale": 2.0}
    own = report["evaluators"]["mine"]
    assert list(own) == ["spread_cosine", "items"] and 0 < own["spread_cosine"] < 100
    page = (workdir / "report" / "index.html").read_text()
    assert "extents" in page and "Evaluation “mine”" in page and "spread cosine" in page

    def call(*words):
        code = cli.main(list(map(str, words)))
        return code, *capsys.readouterr()

    code, out, err = call("index", parts, "--out", index, "--weights", workdir)
    assert code == 0 and "10 indexed" in out, err
    query = ["query", index, parts / "rod" / "2.obj", "-k", "5", "--json"]
    code, out, err = call(*query, "--weights", workdir)
    assert code == 0, err
    results = json.loads(out)["results"]
    assert {result["id"].split("/")[0] for result in results} == {"rod"}
    # Somebody else's index runs none of its own code.
    code, out, err = call(*query)
    assert (code, out) == (2, "") and "code outside jax3dret" in err and "--weights" in err
    # Evaluated again by its own evaluator, which then gives the run's metrics.
    spec = f"{pathlib.Path(outside_system.__file__)}:own_evaluator"
    places = [f"--config.data.{k}={v}" for k, v in (("data_dir", tmp_path / "prepared"),)]
    flags = (f"--workdir={workdir}", "--mode=eval", "--config.reads.scale=2.0", *places)
    assert main.main([f"--config={spec}", *flags]) == 0, capsys.readouterr().err
    again = json.loads((workdir / "report" / "metrics.json").read_text())
    assert again["metrics"] == own and again["protocol"]["distance"] == "cosine"
    assert again["dataset"]["name"] == report["dataset"]["name"]
