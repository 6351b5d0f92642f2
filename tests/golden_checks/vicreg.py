"""VICReg against the published code: the terms, their gradients, and the loss through the
projector.
"""

import jax
import numpy as np

from golden_checks.case import Case
from jax3dret.losses.vicreg import vicreg
from jax3dret.models.heads import VicregProjector
from jax3dret.weights import heads

ATOL = 2e-5


def check(case: Case) -> None:
    """Terms and totals within 1e-5 relative, gradients within 1e-3 of their largest entry,
    statistics within 2e-5.
    """
    out = case.group("out")
    inputs = case.group("in")
    inv, var, cov = case.info["coeffs"]
    widths = tuple(int(width) for width in case.info["projector_mlp"].split("-"))

    def loss(za, zb):
        return vicreg(za, zb, invariance=inv, variance=var, covariance=cov)

    (total, terms), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
        inputs["embed_a"], inputs["embed_b"]
    )
    for name, value in {**terms, "total": total}.items():
        np.testing.assert_allclose(value, out[name].reshape(()), rtol=1e-5, err_msg=name)
    for name, value in zip(("grad_embed_a", "grad_embed_b"), grads, strict=True):
        np.testing.assert_allclose(
            value, out[name], rtol=0, atol=1e-3 * np.abs(out[name]).max(), err_msg=name
        )

    model = VicregProjector(widths[1:])
    variables = heads.projector_from_torch(case.group("param"))

    def through(a, b):
        za, state = model.apply(variables, a, train=True, mutable=["batch_stats"])
        zb, state = model.apply({**variables, **state}, b, train=True, mutable=["batch_stats"])
        return loss(za, zb)[0], (za, state)

    (total, (za, state)), grad = jax.jit(jax.value_and_grad(through, has_aux=True))(
        inputs["backbone_a"], inputs["backbone_b"]
    )
    np.testing.assert_allclose(za, out["projector_out_a_train"], rtol=0, atol=ATOL)
    np.testing.assert_allclose(total, out["loss_through_projector"].reshape(()), rtol=1e-5)
    expected = out["grad_backbone_a"]
    np.testing.assert_allclose(grad, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    updated = heads.projector_to_torch({"params": variables["params"], **state})
    for name in out:
        if name.startswith("updated/"):
            np.testing.assert_allclose(
                updated[name.removeprefix("updated/")], out[name], rtol=0, atol=ATOL, err_msg=name
            )


CHECKS = {"vicreg": check}
