"""PointNet++ against the published encoder: centres, balls, features of each level, embedding,
gradients, statistics.
"""

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks import recipe
from golden_checks.case import Case
from jax3dret.models.pointnet2 import PointNet2
from jax3dret.weights import pointnet2 as weights

ATOL = 2e-5
# In training the last BatchNorm divides by the deviation of a handful of rows. The published code's
# own float32 embedding is 2.2e-5 away from its float64 one there, and two roundings may differ by
# twice that.
TRAIN_ATOL = 1e-4


def close(found: np.ndarray, expected: np.ndarray, atol: float, name: str) -> None:
    """Within `atol` of values of unit scale; larger values have larger rounding errors."""
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=atol * max(1.0, np.abs(expected).max()), err_msg=name
    )


def network(case: Case) -> tuple[PointNet2, dict]:
    """The model of a case and its variables; a case whose config is a sentence has the default
    sizes.
    """
    state_dict = recipe.weights(case.info) if "weight_recipe" in case.info else case.group("param")
    config = case.info["config"] if isinstance(case.info["config"], dict) else {}
    fields = {
        key: tuple(tuple(v) if isinstance(v, list) else v for v in value)
        for key, value in config.items()
    }
    return PointNet2(**fields, dropout=0.0, fps_start_train="zero"), weights.from_torch(state_dict)


def check_eval(case: Case) -> None:
    """Evaluation: indices exactly, everything else within 2e-5 of its scale (these embeddings reach
    25 to 70).
    """
    model, variables = network(case)
    out = case.group("out")
    # Weights are arguments: as constants they would be compiled into the program.
    run = jax.jit(lambda variables, points: model.apply(variables, points, mutable="intermediates"))
    embedding, state = run(variables, case.tensors["in/points"])
    inner = state["intermediates"]
    found = {
        "sa1_fps_idx": inner["sa1"]["centre_index"][0],
        "sa1_group_idx": inner["sa1"]["member_index"][0],
        "l1_xyz": inner["position1"][0].swapaxes(1, 2),
        "l1_points": inner["values1"][0].swapaxes(1, 2),
        "l1_points_first16": inner["values1"][0].swapaxes(1, 2)[..., :16],
        "l2_xyz": inner["position2"][0].swapaxes(1, 2),
        "l2_points": inner["values2"][0].swapaxes(1, 2),
        "l3_points": inner["values3"][0],
        "embedding": embedding,
    }
    # In the order of the computation, so that the first mismatch is the cause.
    for name in found:
        if name.endswith("_idx") and name in out:
            np.testing.assert_array_equal(found[name], out[name], err_msg=name)
        elif name in out:
            close(found[name], out[name], ATOL, name)
    assert set(out) <= set(found), f"no check for {sorted(set(out) - set(found))}"


def check_train(case: Case) -> None:
    """One training step's loss, gradients and statistics; a gradient within 1e-3 of its own largest
    entry.

    The bias of a layer in front of a BatchNorm has no gradient: there both sides hold rounding
    errors, which are compared with the scale of the weight's gradient.
    """
    model, variables = network(case)
    out = case.group("out")

    @jax.jit
    def run(variables, points, loss_weights):
        def loss(params):
            embedding, state = model.apply(
                {**variables, "params": params}, points, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(embedding * loss_weights), (embedding, state)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    (loss, (embedding, state)), grads = run(
        variables, case.tensors["in/points"], case.tensors["in/loss_weights"]
    )
    close(embedding, out.pop("embedding"), TRAIN_ATOL, "embedding")
    close(loss, out.pop("loss").reshape(()), TRAIN_ATOL, "loss")
    gradients = weights.to_torch({"params": grads})
    updated = weights.to_torch({"params": variables["params"], **state})
    for name, value in out.items():
        kind, key = name.split("/", 1)
        if kind == "updated":
            close(updated[key], value, ATOL, name)
            continue
        assert kind == "grad", name
        scale = np.abs(value).max()
        if key.endswith(".bias") and "_bns." not in key and not key.startswith("bn"):
            scale = max(scale, np.abs(gradients[key.removesuffix("bias") + "weight"]).max())
        np.testing.assert_allclose(gradients[key], value, rtol=0, atol=1e-3 * scale, err_msg=name)


CHECKS = {
    "pointnet2_ssg_eval": check_eval,
    "pointnet2_ssg_full": check_eval,
    "pointnet2_ssg_train": check_train,
}
