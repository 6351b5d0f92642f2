"""The multi-modal contrastive loss against the published code, at four temperatures."""

import jax
import numpy as np

from golden_checks.case import Case
from jax3dret.losses.contrastive import mmcl


def check(case: Case) -> None:
    """Loss within 1e-5 relative or 2e-7 (one rounding of a float32 log-probability near 0),
    accuracies (per cent) equal, gradients within 1e-3 of their largest entry or one rounding of a
    float32 probability times scale / rows: where all triplets are told apart (scale 100), nothing
    but that rounding is left, here as in the published code.
    """
    inputs, out = case.group("in"), case.group("out")

    def loss(cloud, log_scale):
        return mmcl(cloud, inputs["image_embed"], inputs["text_embed"], log_scale[0])

    evaluate = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    scales = [name.removeprefix("log_scale_") for name in inputs if name.startswith("log_scale_")]
    assert scales
    for name in scales:
        (value, metrics), (grad, grad_scale) = evaluate(
            inputs["pc_embed"], inputs[f"log_scale_{name}"]
        )
        np.testing.assert_allclose(
            value, out[f"loss_{name}"].reshape(()), rtol=1e-5, atol=2e-7, err_msg=name
        )
        for ours, key in ((grad, "grad_pc"), (grad_scale, "grad_log_scale")):
            expected = out[f"{key}_{name}"]
            rounding = (
                np.finfo(np.float32).eps
                * np.exp(inputs[f"log_scale_{name}"][0])
                / len(inputs["pc_embed"])
            )
            atol = max(1e-3 * np.abs(expected).max(), rounding)
            np.testing.assert_allclose(ours, expected, rtol=0, atol=atol, err_msg=f"{key}_{name}")
        for ours, key in (("cloud_text_acc", "pc_text_acc"), ("cloud_image_acc", "pc_image_acc")):
            np.testing.assert_allclose(
                100 * metrics[ours],
                out[f"{key}_{name}"].reshape(()),
                rtol=1e-5,
                err_msg=f"{key}_{name}",
            )


CHECKS = {"mmcl_loss": check}
