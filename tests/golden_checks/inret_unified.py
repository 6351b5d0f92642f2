"""The loss of the unified latent space, against the equations of INRet."""

import numpy as np

from golden_checks.case import Case
from jax3dret.losses import unified_latent


def check(case: Case) -> None:
    """Within the case's atol."""
    inputs, out = case.group("in/unified"), case.group("out/unified")
    embeddings = dict(zip(("udf", "sdf", "occ"), inputs["embeddings"], strict=True))
    by_shape = unified_latent.reconstruction(inputs["pred"], inputs["udf"])
    found = {
        "reconstruction": by_shape.mean(-1).sum(),
        "alignment": unified_latent.alignment(embeddings),
    }
    found["total"] = found["reconstruction"] + found["alignment"]
    assert set(out) == set(found)
    for name, value in found.items():
        np.testing.assert_allclose(
            value, out[name][0], rtol=0, atol=case.info["atol"], err_msg=name
        )
