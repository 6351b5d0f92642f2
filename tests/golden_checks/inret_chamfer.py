"""The Chamfer matrix and Category-Chamfer's accuracy, against the equations of INRet."""

import jax
import numpy as np

from golden_checks.case import Case
from jax3dret.metrics.category_chamfer import category_chamfer_hits, category_hits
from jax3dret.metrics.reconstruction import chamfer_distance
from jax3dret.ops.chamfer import chamfer


def check(case: Case) -> None:
    """Within the case's atol; the distance both as the device computes it and as the host does."""
    given, expected = case.group("in/chamfer"), case.group("out/chamfer")
    clouds, labels, found = (given[name] for name in ("clouds", "labels", "retrieved"))
    pairs = jax.jit(jax.vmap(jax.vmap(chamfer, (None, 0)), (0, None)))
    host = np.array([[chamfer_distance(a, b) for b in clouds] for a in clouds])
    for name, matrix in (("device", np.asarray(pairs(clouds, clouds))), ("host", host)):
        np.testing.assert_allclose(
            matrix, expected["matrix"], rtol=0, atol=case.info["atol"], err_msg=name
        )
    itself = np.arange(len(clouds))
    for name, hits in (
        ("category_accuracy", category_hits(found, labels, labels)),
        ("category_chamfer", category_chamfer_hits(found, host, labels, labels, itself)),
    ):
        np.testing.assert_allclose(
            hits.mean(), expected[name][0], rtol=0, atol=case.info["atol"], err_msg=name
        )
