import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core import measured
from jax3dret.core.types import ConfigError


def test_numbers_of_any_kind_become_python_s():
    given = {
        "a": 0.5,
        "b": np.float32(0.25),
        "c": jnp.bfloat16(1.5),
        "d": np.int64(7),
        "e": jnp.asarray(3.0),
        "f": True,
        "g": float("nan"),
    }
    found = measured.numbers(given, where="here")
    assert list(found) == list(given) and np.isnan(found.pop("g"))
    assert found == {"a": 0.5, "b": 0.25, "c": 1.5, "d": 7, "e": 3.0, "f": True}
    assert {type(value) for value in found.values()} == {float, int, bool}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "gives NoneType; give numbers by name"),
        (0.5, "gives float"),
        ([("a", 1.0)], "gives list"),
        ({"a": None}, "'a' is NoneType"),
        ({"a": "good"}, "'a' is str"),
        ({"a": np.zeros(2)}, r"'a' is ndarray of shape \(2,\)"),
        ({"a": 1j}, "'a' is complex"),
        ({"a": {"b": 1.0}}, "'a' is dict"),
        ({"step": 1.0}, "calls a number 'step'; give it another name"),
        ({3: 1.0}, "calls a number 3"),
    ],
)
def test_what_is_no_number_by_name_is_refused_in_one_line(given, says):
    evaluate = measured.checked(lambda embed, folder: given, where="config.evals.mine")
    with pytest.raises(ConfigError, match="^config.evals.mine: .*" + says) as error:
        evaluate(dict, None)
    assert "\n" not in str(error.value)


def test_an_evaluator_must_be_callable():
    with pytest.raises(ConfigError, match="config.evals.mine: make gives dict; give a function"):
        measured.checked({}, where="config.evals.mine")
