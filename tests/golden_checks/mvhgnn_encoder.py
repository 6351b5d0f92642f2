"""MV-HGNN's graph encoder against a rendering of its equations: each level, descriptor, BatchNorm
in training, gradients.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.case import Case
from jax3dret.models.mvhgnn import MVHGNN
from jax3dret.models.view_graph import GlobalAttention, neighbourhood
from jax3dret.weights import mapping

# What runs once is not worth optimizing.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def table(config: dict, state: dict[str, np.ndarray]) -> list[mapping.Entry]:
    """The names of a case, and where each tensor stands in our variables. The last level may have
    no attention.
    """
    width, hidden = config["d"], config["selector_hidden"]
    entries = []
    for i in range(3):
        level = i + 1
        entries += mapping.dense(
            f"gcn_W.{i}", (f"local{level}", "linear"), (width, width), bias=False
        )
        entries += mapping.norm(f"gcn_bn.{i}", (f"local{level}", "norm"), width, running=True)
        if level == 3 and f"wq.{i}.weight" not in state:
            continue
        for letter, name, out in (
            ("q", "query", width // 2),
            ("k", "key", width // 2),
            ("v", "value", width),
        ):
            entries += mapping.dense(
                f"w{letter}.{i}", (f"global{level}", name), (out, width), bias=False
            )
    for i, count in enumerate(config["prototypes"]):
        entries += mapping.dense(f"sel.{i}.0", (f"selector{i + 1}", "hidden"), (hidden, width))
        entries += mapping.dense(f"sel.{i}.2", (f"selector{i + 1}", "score"), (count, hidden))
    entries += mapping.dense("head.0", ("head0",), (width, 3 * width))
    return entries + mapping.dense("head.2", ("head1",), (config["out_dim"], width))


def network(case: Case) -> tuple[MVHGNN, dict, list[mapping.Entry]]:
    """The model of a case, without dropout, its variables, and the table of names."""
    config, state = case.info["config"], case.group("param")
    model = MVHGNN(
        out_dim=config["out_dim"],
        k=config["k_including_self"],
        nodes=tuple(config["prototypes"]),
        pool_from=config["pool_from"],
        last_level_global=config["last_level_global"],
        selector_hidden=config["selector_hidden"],
        head_hidden=config["d"],
        dropout=0.0,
    )
    entries = table(config, state)
    return model, mapping.load(state, entries, "", "MV-HGNN"), entries


def check(case: Case) -> None:
    """All tensors of a case in the order of the computation, so that the first mismatch is the
    cause.
    """
    model, variables, entries = network(case)
    params = variables["params"]
    inputs, out, grads, atol = (
        case.group("in"),
        case.group("out"),
        case.group("grad"),
        case.info["atol"],
    )

    def run(params, features):
        return model.apply(
            {**variables, "params": params},
            features,
            inputs["vertices"],
            method="outputs",
            mutable=["intermediates"],
        )

    @jit
    def gradients(params, features):
        def loss(params, features):
            result, state = run(params, features)
            return jnp.sum(result.descriptor * inputs["cotangent"]), (
                result,
                state["intermediates"],
            )

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, features)

    (param_grads, feature_grads), (result, inner) = gradients(params, inputs["F"])
    attend = jit(
        lambda level, x: GlobalAttention().apply({"params": params[f"global{level}"]}, x),
        static_argnums=0,
    )
    found = {}
    for i in range(3):
        level = i + 1
        positions = inner[f"positions{level}"][0]
        found[f"level{i}/knn_mask"] = neighbourhood(positions, model.k)
        found[f"level{i}/adj"] = inner[f"local{level}"]["adjacency"][0]
        local, attended = inner[f"convolved{level}"][0], inner[f"attended{level}"][0]
        if level == 3 and model.last_level_global and model.pool_from == "local":
            attended = attend(level, local)  # nothing of the network reads it
        found |= {f"level{i}/local": local, f"level{i}/global": attended}
        found[f"level{i}/pool"] = (attended if model.pool_from == "global" else local).max(1)
        if i < 2:
            found[f"level{i}/select"] = result.assignments[i]
            found[f"level{i}/proto"] = inner[f"nodes{level + 1}"][0]
            found[f"level{i}/proto_pos"] = inner[f"positions{level + 1}"][0]
    found["feature"] = result.descriptor
    trained, _ = jit(
        lambda: model.apply(
            variables, inputs["F"], inputs["vertices"], train=True, mutable=["batch_stats"]
        )
    )()
    found["feature_trainbn"] = trained
    for name in [
        *sorted(out.keys() - {"feature", "feature_trainbn"}),
        "feature",
        "feature_trainbn",
    ]:
        assert name in found, f"no check for {name}"
        np.testing.assert_allclose(found[name], out[name], rtol=0, atol=atol, err_msg=name)

    only = [entry for entry in entries if entry.path[0] == "params"]
    ours = {**mapping.save({"params": param_grads}, only, ""), "F": feature_grads}
    for name, value in grads.items():
        limit = 1e-4 * max(1.0, np.abs(value).max())
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=limit, err_msg=f"grad/{name}")


CHECKS = {"mvhgnn_encoder_spec": check}
