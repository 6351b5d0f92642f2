"""MVTN's views against the published code: the fixed arrangements, and the learned ones through the
view transformer.
"""

import jax
import numpy as np

from golden_checks.case import Case
from jax3dret.models.mvtn import LEARNED, ViewSelector
from jax3dret.weights.mvtn import selector_from_torch

# Degrees. The published code's own float32 angles are up to 1.7e-4 away from its float64 ones.
ATOL = 1e-3


def check(case: Case) -> None:
    """Every arrangement of the case, in evaluation: azimuth, elevation and distance of all views."""
    features = case.tensors["in/shape_features"]
    names = {key.split("/")[1] for key in case.tensors if key.startswith("out/")}
    assert names
    for name in sorted(names):
        learned = name in LEARNED
        selector = ViewSelector(
            name,
            case.info["num_views"],
            case.info["canonical_elevation"],
            case.info["canonical_distance"],
        )
        expected = case.group(f"out/{name}")
        variables = selector_from_torch(case.group(f"param/{name}")) if learned else {}
        given = features if learned else features[: len(expected["azim"])]
        views = jax.jit(selector.apply)(variables, given)
        for key, ours in zip(("azim", "elev", "dist"), views, strict=True):
            np.testing.assert_allclose(
                ours, expected[key], rtol=0, atol=ATOL, err_msg=f"{name}/{key}"
            )


CHECKS = {"mvtn_views": check}
