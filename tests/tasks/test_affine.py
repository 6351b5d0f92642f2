import jax.numpy as jnp
import numpy as np

from jax3dret.tasks import affine


def test_the_identity_changes_no_number():
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    np.testing.assert_array_equal(affine.apply(affine.identity(7), x), x)
    np.testing.assert_array_equal(affine.apply(affine.identity(7, 3), x), x[:, :3])


def test_rows_are_multiplied_from_the_left_and_moved():
    rng = np.random.default_rng(1)
    x, matrix, offset = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=2)
    fitted = {
        "matrix": jnp.asarray(matrix, jnp.float32),
        "offset": jnp.asarray(offset, jnp.float32),
    }
    out = affine.apply(fitted, jnp.asarray(x, jnp.float32))
    assert out.shape == (4, 2) and out.dtype == jnp.float32
    np.testing.assert_allclose(out, x @ matrix + offset, rtol=1e-5, atol=1e-6)
