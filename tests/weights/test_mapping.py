"""Layouts of tensors on their way in and out, and what is left out."""

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, Shapes, Squeezed, conv, left_out, load, save, within

RNG = np.random.default_rng(0)


def test_filters_give_the_same_convolution():
    table = conv("c", ("c",), (2, 3, 1, 2), bias=True)
    state = {
        "c.weight": RNG.normal(size=(2, 3, 1, 2)).astype(np.float32),
        "c.bias": np.ones(2, np.float32),
    }
    variables = load(state, table, "", "net")
    kernel = variables["params"]["c"]["kernel"]
    assert kernel.shape == (1, 2, 3, 2) and kernel.flags.c_contiguous
    window = RNG.normal(size=(3, 1, 2))  # channels, height, width
    np.testing.assert_allclose(
        np.einsum("chw,hwcd->d", window, kernel),
        np.einsum("chw,dchw->d", window, state["c.weight"]),
        rtol=1e-6,
    )
    back = save(variables, table, "")
    assert set(back) == set(state) and back["c.weight"].flags.c_contiguous
    np.testing.assert_array_equal(back["c.weight"], state["c.weight"])


def test_depthwise_filters():
    state = {"c.weight": RNG.normal(size=(4, 1, 3, 3)).astype(np.float32)}
    kernel = load(state, conv("c", ("c",), (4, 1, 3, 3)), "", "net")["params"]["c"]["kernel"]
    assert kernel.shape == (3, 3, 1, 4)
    np.testing.assert_array_equal(kernel[0, 2, 0], state["c.weight"][:, 0, 0, 2])


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 5, 4), (1, 1, 1)])
def test_squeezed(shape):
    table = [Squeezed("x", shape, ("params", "x"))]
    state = {"x": RNG.normal(size=shape).astype(np.float32)}
    variables = load(state, table, "", "net")
    assert variables["params"]["x"].shape == tuple(n for n in shape if n != 1) or shape == (1, 1, 1)
    np.testing.assert_array_equal(save(variables, table, "")["x"], state["x"])


def test_half_precision_becomes_float32_and_a_vector_of_one_a_scalar():
    table = [Entry("a", (), ("params", "a")), Entry("b", (2,), ("params", "b"))]
    state = {"a": np.array([2.66], np.float16), "b": np.array([0.1, 6e-8], np.float16)}
    params = load(state, table, "", "net")["params"]
    assert params["a"].shape == () and params["b"].dtype == np.float32
    np.testing.assert_array_equal(params["b"], state["b"].astype(np.float64))
    assert save({"params": params}, table, "")["a"].shape == ()


def test_ignored_names_are_left_out_and_told():
    table = [Entry("a", (1,), ("params", "a"))]
    state = {
        "p.a": np.ones(1),
        "p.extra.w": np.ones(2),
        "p.extra2": np.ones(2),
        "extra.v": np.ones(1),
    }
    assert left_out(state, r"extra\..*", "p.") == ("p.extra.w",)
    with pytest.raises(DataError, match="p.extra2 has no place") as error:
        load(state, table, "p.", "net", r"extra\..*")
    assert "extra.w" not in str(error.value)


def test_within():
    moved = within(("vision", "stem"), conv("c", ("c",), (1, 1, 1, 1)))
    assert moved[0].path == ("params", "vision", "stem", "c", "kernel")
    # Still a convolution: height and width come first.
    assert moved[0].ours(np.zeros((5, 4, 3, 2))).shape == (3, 2, 4, 5)


def test_shapes():
    shapes = Shapes(
        {"p.b.0.w": np.zeros((2, 3)), "p.b.10.w": np.zeros(1), "b.11.w": np.zeros(1)}, "p.", "Net"
    )
    assert shapes.count(r"b\.(\d+)\.") == 11 and shapes.count(r"c\.(\d+)\.") == 0
    assert shapes("b.0.w", 2) == (2, 3) and "b.11.w" not in shapes
    with pytest.raises(
        DataError, match=r"Net weights do not fit: p\.b\.0\.w has shape \(2, 3\), not 4 axes"
    ):
        shapes("b.0.w", 4)
    with pytest.raises(DataError, match=r"p\.x is missing"):
        shapes("x", 1)
