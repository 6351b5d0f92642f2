"""PointBERT against the published encoder: grouping, group tokens, embeddings, loss, gradients,
updated statistics.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from golden_checks import recipe
from golden_checks.case import Case
from jax3dret.models.heads import ClassificationHead
from jax3dret.models.pointbert import PointBert, PointProjection
from jax3dret.weights import heads
from jax3dret.weights import pointbert as weights

BACKBONE = "backbone.model."
FIELDS = (
    "trans_dim",
    "depth",
    "drop_path_rate",
    "num_heads",
    "group_size",
    "num_group",
    "encoder_dims",
)
HANDLED = {
    "cls_feature",
    "cross_entropy",
    "embedding",
    "fps_idx",
    "group_tokens",
    "group_tokens_first8",
    "knn_idx_sorted",
    "logits",
    "max_feature",
    "pc_embed",
    "pc_embed_normalized",
}


def networks(
    case: Case, state_dict: dict[str, np.ndarray]
) -> tuple[PointBert, dict, ClassificationHead, dict]:
    """Encoder and head of a case, each with its variables."""
    model = PointBert(
        **{name: case.info["config"][name] for name in FIELDS}, fps_start_train="zero"
    )
    head = ClassificationHead(
        hidden=tuple(case.info["head"]["hidden_channels"][1:]),
        num_classes=case.info["head"]["output_dim"],
        dropout=case.info["head"]["dropout"] or 0.0,
    )
    return (
        model,
        weights.from_torch(state_dict, BACKBONE),
        head,
        heads.from_torch(state_dict, "head."),
    )


def check_eval(case: Case) -> None:
    """Evaluation: each tensor of `out/`, within 2e-5 unless the case says otherwise; indices
    exactly.
    """
    state_dict = recipe.weights(case.info) if "weight_recipe" in case.info else case.group("param")
    out = case.group("out")
    assert set(out) <= HANDLED, f"no check for {sorted(set(out) - HANDLED)}"
    atol = case.info.get("atol", 2e-5)
    model, variables, head, head_variables = networks(case, state_dict)

    # Weights are arguments: as constants they would be compiled into the program.
    @jax.jit
    def run(variables, head_variables, points):
        embedding, state = model.apply(variables, points, mutable=["intermediates"])
        return embedding, head.apply(head_variables, embedding), state["intermediates"]

    embedding, logits, inner = run(variables, head_variables, case.tensors["in/points"])
    (centres,), (members,), (tokens,) = (
        inner["centre_index"],
        inner["member_index"],
        inner["group_tokens"],
    )
    np.testing.assert_array_equal(centres, out["fps_idx"])
    np.testing.assert_array_equal(np.sort(members, -1), out["knn_idx_sorted"])
    found = {
        "embedding": embedding,
        "logits": logits,
        "group_tokens": tokens,
        "group_tokens_first8": tokens[:, :8],
        "cls_feature": embedding[:, : model.trans_dim],
        "max_feature": embedding[:, model.trans_dim :],
    }
    if "pc_projection" in state_dict:
        kernel = {"params": {"kernel": state_dict["pc_projection"]}}
        found["pc_embed"] = PointProjection(state_dict["pc_projection"].shape[1]).apply(
            kernel, embedding
        )
        found["pc_embed_normalized"] = found["pc_embed"] / jnp.linalg.norm(
            found["pc_embed"], axis=-1, keepdims=True
        )
    if "in/labels" in case.tensors:
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, case.tensors["in/labels"])
        found["cross_entropy"] = loss.mean().reshape(out["cross_entropy"].shape)
    for name in set(out) - {"fps_idx", "knn_idx_sorted"}:
        np.testing.assert_allclose(found[name], out[name], rtol=0, atol=atol, err_msg=name)


def check_train(case: Case) -> None:
    """One training step's loss, gradients and statistics; a gradient within 1e-3 of its own largest
    entry.
    """
    state_dict = case.group("param")
    out = case.group("out")
    atol = case.info.get("atol", 2e-5)
    model, variables, head, head_variables = networks(case, state_dict)
    names = ["batch_stats"]

    @jax.jit
    def run(variables, head_variables, points, labels):
        def loss(params, head_params):
            embedding, state = model.apply(
                {**variables, "params": params}, points, train=True, mutable=names
            )
            logits, head_state = head.apply(
                {**head_variables, "params": head_params}, embedding, train=True, mutable=names
            )
            rows = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return rows.mean(), (embedding, logits, state, head_state)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
            variables["params"], head_variables["params"]
        )

    (loss, (embedding, logits, state, head_state)), grads = run(
        variables, head_variables, case.tensors["in/points"], case.tensors["in/labels"]
    )
    np.testing.assert_allclose(
        embedding, out.pop("embedding"), rtol=0, atol=atol, err_msg="embedding"
    )
    np.testing.assert_allclose(logits, out.pop("logits"), rtol=0, atol=atol, err_msg="logits")
    np.testing.assert_allclose(loss, out.pop("loss").reshape(()), rtol=0, atol=atol, err_msg="loss")
    found = {
        f"grad/{name}": value
        for name, value in {
            **weights.to_torch({"params": grads[0]}, BACKBONE),
            **heads.to_torch({"params": grads[1]}, "head."),
        }.items()
    } | {
        f"updated/{name}": value
        for name, value in {
            **weights.to_torch({"params": variables["params"], **state}, BACKBONE),
            **heads.to_torch({"params": head_variables["params"], **head_state}, "head."),
        }.items()
    }
    for name, value in out.items():
        # A bias before BatchNorm has no gradient, only rounding: hence at least atol.
        tolerance = max(1e-3 * np.abs(value).max(), atol) if name.startswith("grad/") else atol
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)


CHECKS = {
    "pointbert_eval": check_eval,
    "pointbert_train": check_train,
    "pointbert_full": check_eval,
}
