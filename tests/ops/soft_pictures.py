"""What the tests of both soft renderers ask of the gradient of the camera angles, and of values
that are not finite.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

SIZE = 32
AZIMUTH = np.array([[20.0, -75.0], [130.0, 250.0]], np.float32)
ELEVATION = np.array([[30.0, -10.0], [-55.0, 70.0]], np.float32)


@functools.cache
def compiled(picture):
    """(angles [2, B, V], shape, target, weights) -> value, picture and slope of a loss, in float64:
    compiled once.
    """

    def loss(angles, shape, target, weights):
        image = picture(*angles, shape)
        return jnp.sum(weights * (image - target) ** 2), image

    # Little optimization: what takes time is to compile.
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=options)

    def call(angles, shape, target=0.5, weights=1.0):
        with jax.enable_x64(True):
            full = [
                np.broadcast_to(np.asarray(x, np.float64), (2, 2, SIZE, SIZE, 3))
                for x in (target, weights)
            ]
            wide = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype.kind == "f" else x, shape)
            (value, image), slope = run(np.asarray(angles, np.float64), wide, *full)
            return float(value), np.asarray(image), np.asarray(slope)

    return call


def check_the_gradient_is_that_of_finite_differences(picture, shape):
    """At four views."""
    run, step = compiled(picture), 1e-6
    weights = np.random.default_rng(1).normal(size=(2, 2, SIZE, SIZE, 3))
    angles = np.stack([AZIMUTH, ELEVATION]).astype(np.float64)
    found = run(angles, shape, weights=weights)[2]
    for index in np.ndindex(angles.shape):
        moved = [angles.copy(), angles.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        high, low = (run(m, shape, weights=weights)[0] for m in moved)
        assert abs(high - low) / (2 * step) > 1e-4
        np.testing.assert_allclose(
            found[index], (high - low) / (2 * step), rtol=1e-5, atol=1e-7, err_msg=str(index)
        )


def check_the_gradient_leads_back(picture, shape):
    """Not only the slope at a point: from 5 degrees away on either side it points home, for azimuth
    and for elevation.
    """
    run = compiled(picture)
    goal = np.full((2, 2, 2), 40.0)
    target = run(goal, shape)[1]
    off = np.array([[5.0, -5.0], [5.0, -5.0]])
    for angle in (0, 1):
        start = goal.copy()
        start[angle] += off
        slope = run(start, shape, target=target)[2][angle]
        np.testing.assert_array_equal(
            np.sign(slope), np.sign(off), err_msg=("azimuth", "elevation")[angle]
        )


def check_what_is_not_finite_marks_its_own_pictures_alone(picture, shape, broken):
    """broken: the shape with a value of its first item that is not finite."""
    run = compiled(picture)
    angles = np.stack([AZIMUTH, ELEVATION])
    clean = run(angles, shape)[1]
    found = run(angles, broken)[1]
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], clean[1])
    angles[0, 1, 0] = np.inf
    found = run(angles, shape)[1]
    assert (
        np.isnan(found[1, 0]).all()
        and np.isfinite(found[1, 1]).all()
        and np.isfinite(found[0]).all()
    )
