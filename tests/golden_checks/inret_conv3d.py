"""The Conv3D encoder, against the equations of INRet."""

import jax
import numpy as np

from golden_checks.case import Case
from jax3dret.models.field_encoders.grid_encoder import GridEncoder
from jax3dret.weights import inr2vec


def check(case: Case) -> None:
    """Within the case's atol."""
    config, state_dict = case.info["config"], case.group("param/conv3d")
    variables = inr2vec.grid_encoder_from_torch(state_dict)
    for name, value in inr2vec.grid_encoder_to_torch(variables).items():
        np.testing.assert_array_equal(value, state_dict[name], err_msg=name)
    x = np.moveaxis(case.tensors["in/conv3d/x"], 1, -1)
    model = GridEncoder(config["embed"], groups=config["groups"])
    found = jax.jit(model.apply)(variables, x)
    expected = case.tensors["out/conv3d/y"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=case.info["atol"])
