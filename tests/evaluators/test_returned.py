"""The numbers that an evaluator returns, in the result.json that the report reads."""

import json
import math

from jax3dret.evaluators import write

ABOUT = {"protocol": {"distance": "cosine"}, "dataset": {"name": "d"}}


def read(folder):
    return json.loads((folder / "result.json").read_text())


def test_an_evaluator_that_wrote_nothing_has_a_result(tmp_path):
    write.add_returned(tmp_path / "mine", {"a": 0.5, "b": 2}, ABOUT)
    assert read(tmp_path / "mine") == {"name": "mine", "metrics": {"a": 0.5, "b": 2}, **ABOUT}


def test_what_an_evaluator_wrote_stays(tmp_path):
    own = {"name": "mine", "metrics": {"z": 1, "a": 0.25}, "protocol": {"p": 1}, "confusion": [3]}
    write.write_result(tmp_path / "mine", own)
    write.add_returned(tmp_path / "mine", {"a": 0.5, "b": 2}, ABOUT)
    wanted = {"z": 1, "a": 0.5, "b": 2}
    found = read(tmp_path / "mine")
    assert found == {**own, "metrics": wanted} and list(found["metrics"]) == list(wanted)


def test_what_is_not_finite_is_null_and_said(tmp_path, caplog):
    write.add_returned(tmp_path / "m", {"a": math.nan, "b": -math.inf, "c": 0.0}, ABOUT)
    found = read(tmp_path / "m")
    assert found["metrics"] == {"a": None, "b": None, "c": 0.0}
    said = "a (nan), b (-inf): not finite, so undefined"
    assert found["protocol"] == {"distance": "cosine", "undefined": said}
    assert "evaluation 'm': not finite, so undefined: a (nan), b (-inf)" in caplog.text
