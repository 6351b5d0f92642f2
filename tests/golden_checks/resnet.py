"""A narrow ResNet-18 against torchvision's: maps, features and logits, and one forward pass with
batch statistics.
"""

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.case import Case
from jax3dret.models.resnet import ResNet
from jax3dret.weights import resnet


def check(case: Case) -> None:
    """Each tensor of `out/` within the tolerance that the case states."""
    state_dict, out = case.group("param"), case.group("out")
    variables = resnet.from_torch(state_dict)
    model = ResNet(**resnet.architecture(state_dict))
    image = case.tensors["in/x"].transpose(0, 2, 3, 1)

    @jax.jit
    def run(variables, image):
        logits, state = model.apply(variables, image, mutable=["intermediates"])
        trained, updated = model.apply(variables, image, train=True, mutable=["batch_stats"])
        return logits, state["intermediates"], trained, updated

    logits, inner, trained, updated = run(variables, image)
    after = resnet.to_torch({"params": variables["params"], **updated})
    maps = {
        name: inner[name][0].transpose(0, 3, 1, 2)
        for name in inner
        if name.startswith(("stem", "layer"))
    }
    found = {
        "logits": logits,
        "feat": inner["features"][0],
        "logits_trainbn": trained,
        **maps,
        **{f"{name}_mean_hw": value.mean((2, 3)) for name, value in maps.items()},
        **{
            name.replace(".", "_") + "_after": jnp.asarray(value)
            for name, value in after.items()
            if "running" in name
        },
    }
    assert set(out) <= set(found), f"no check for {sorted(set(out) - set(found))}"
    for name, value in out.items():
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=case.info.get("atol", 2e-5), err_msg=name
        )


CHECKS = {"resnet18_narrow": check}
