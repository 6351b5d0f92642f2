"""VICReg against loops over the definitions, and against the variants it is most easily mistaken
for.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from on_device import on_device

from jax3dret.core.types import ConfigError
from jax3dret.losses import vicreg as module

vicreg = on_device(module.vicreg)


def views(rows=6, width=4, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(2, rows, width)) * rng.uniform(0.2, 1.5, size=width)).astype(
        np.float32
    )


def literal(za, zb, eps=1e-4):
    za, zb = za.astype(np.float64), zb.astype(np.float64)
    rows, width = za.shape
    invariance = sum((za[b, d] - zb[b, d]) ** 2 for b in range(rows) for d in range(width)) / (
        rows * width
    )
    variance = covariance = 0.0
    for z in (za, zb):
        mean = [sum(z[:, d]) / rows for d in range(width)]
        cov = np.zeros((width, width))
        for i in range(width):
            for j in range(width):
                cov[i, j] = sum((z[b, i] - mean[i]) * (z[b, j] - mean[j]) for b in range(rows)) / (
                    rows - 1
                )
        variance += sum(max(0.0, 1 - np.sqrt(cov[d, d] + eps)) for d in range(width)) / width / 2
        covariance += (
            sum(cov[i, j] ** 2 for i in range(width) for j in range(width) if i != j) / width
        )
    return {"invariance": invariance, "variance": variance, "covariance": covariance}


@pytest.mark.parametrize("rows, width", [(2, 1), (2, 5), (6, 4), (9, 3)])
def test_equals_the_literal_loops(rows, width):
    za, zb = views(rows, width)
    expected = literal(za, zb)
    total, terms = jax.jit(vicreg)(za, zb)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(
        total,
        25 * expected["invariance"] + 25 * expected["variance"] + expected["covariance"],
        rtol=1e-5,
    )
    total, _ = vicreg(za, zb, invariance=1.0, variance=2.0, covariance=3.0)
    np.testing.assert_allclose(
        total,
        expected["invariance"] + 2 * expected["variance"] + 3 * expected["covariance"],
        rtol=1e-5,
    )


def test_differs_from_what_it_is_mistaken_for():
    za, zb = views()
    rows, width = za.shape
    _, terms = vicreg(za, zb)
    wrong = {
        "invariance": [
            ((za - zb) ** 2).sum() / rows,
            ((za - zb) ** 2).sum(),
            np.abs(za - zb).mean(),
        ]
    }

    def hinge(ddof, inside, half):
        total = 0.0
        for z in (za, zb):
            var = z.var(0, ddof=ddof)
            deviation = np.sqrt(var + 1e-2) if inside else np.sqrt(var) + 1e-2
            total += np.maximum(0, 1 - deviation).mean() / half
        return total

    np.testing.assert_allclose(
        vicreg(za, zb, eps=1e-2)[1]["variance"], hinge(1, True, 2), rtol=1e-5
    )
    coarse = vicreg(za, zb, eps=1e-2)[1]["variance"]
    for other in (hinge(0, True, 2), hinge(1, False, 2), hinge(1, True, 1)):
        assert abs(coarse - other) > 1e-3
    np.testing.assert_allclose(
        terms["covariance"], sum(_off(z, 1).sum() / width for z in (za, zb)), rtol=1e-5
    )
    wrong["covariance"] = [
        sum(_off(z, 1).sum() / width for z in (za, zb)) / 2,  # halved
        sum(_off(z, 0).sum() / width for z in (za, zb)),  # biased
        sum(_off(z, 1).sum() for z in (za, zb)),  # not per dimension
        sum((np.cov(z.T) ** 2).sum() / width for z in (za, zb)),  # with the diagonal
    ]
    for name, values in wrong.items():
        for value in values:
            assert abs(terms[name] - value) > 1e-2 * abs(value), name


def _off(z, ddof):
    cov = np.cov(z.T, ddof=ddof)
    return (cov - np.diag(np.diag(cov))) ** 2


def test_collapsed_views_have_finite_gradients():
    z = jnp.ones((4, 3))
    (total, terms), grads = jax.value_and_grad(vicreg, argnums=(0, 1), has_aux=True)(z, z)
    assert terms["invariance"] == 0 and terms["covariance"] == 0
    np.testing.assert_allclose(terms["variance"], 1 - 1e-2, rtol=1e-6)
    np.testing.assert_allclose(total, 25 * (1 - 1e-2), rtol=1e-6)
    assert all(jnp.isfinite(g).all() for g in grads)


def test_gradient_equals_differences():
    za, zb = views()
    with jax.enable_x64(True):
        gradient = jax.grad(lambda a: vicreg(a, zb)[0])(jnp.asarray(za))
    direction = np.random.default_rng(1).normal(size=za.shape)
    total = [
        sum(
            w * v
            for w, v in zip((25, 25, 1), literal(za + s * direction, zb).values(), strict=True)
        )
        for s in (1e-5, -1e-5)
    ]
    np.testing.assert_allclose(
        (np.asarray(gradient) * direction).sum(), (total[0] - total[1]) / 2e-5, rtol=1e-3
    )


def test_bfloat16_is_cast_up_and_nan_shows():
    za, zb = (jnp.asarray(v, jnp.bfloat16) for v in views())
    total, terms = vicreg(za, zb)
    assert total.dtype == jnp.float32 and all(v.dtype == jnp.float32 for v in terms.values())
    np.testing.assert_array_equal(total, vicreg(za.astype(jnp.float32), zb.astype(jnp.float32))[0])
    assert jnp.isnan(vicreg(za.at[0, 0].set(jnp.nan), zb)[0])


@pytest.mark.parametrize(
    "a, b", [((1, 4), (1, 4)), ((0, 4), (0, 4)), ((3, 4), (3, 5)), ((3,), (3,))]
)
def test_errors_name_the_shape(unchecked, a, b):
    with pytest.raises(ConfigError, match=r"vicreg: .*\("):
        vicreg(jnp.zeros(a), jnp.zeros(b))
