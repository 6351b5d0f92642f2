"""View-GCN against the published network: graph, each level, selected views, descriptor, loss,
gradients, statistics.
"""

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks import recipe
from golden_checks.case import Case
from jax3dret.losses.views import view_gcn
from jax3dret.models.view_choice import nearest_views, sample_cameras
from jax3dret.models.viewgcn import LocalGCN, NonLocalMP, ViewGCN, ViewSelector
from jax3dret.ops.gather import gather
from jax3dret.weights import mapping
from jax3dret.weights import viewgcn as weights

ATOL = 2e-5
# Name of an output -> what the network records under.
RECORDED = {
    **{f"local{i}": f"convolved{i}" for i in (1, 2, 3)},
    **{f"nonlocal{i}": f"exchanged{i}" for i in (1, 2)},
    **{f"sel{i}_F": f"features{i}" for i in (1, 2)},
    **{f"sel{i}_vertices": f"vertices{i}" for i in (1, 2)},
    **{f"fps_sel{i}": f"fps{i}" for i in (1, 2)},
}
GRAPH = {
    **{f"knn_local{i}": f"local{i}" for i in (1, 2, 3)},
    **{f"knn_sel{i}": f"select{i}" for i in (1, 2)},
}


def close(found: jax.Array, expected: np.ndarray, name: str, atol: float = ATOL) -> None:
    """Within atol of values of unit scale; larger values have larger rounding errors."""
    assert found.shape == expected.shape, name
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=atol * max(1.0, np.abs(expected).max()), err_msg=name
    )


def network(case: Case) -> tuple[ViewGCN, dict]:
    """The model of a case, with the published code's softmax and no dropout, and its variables."""
    state_dict = recipe.weights(case.info) if "weight_recipe" in case.info else case.group("param")
    config, fields = case.info["config"], weights.architecture(state_dict)
    wanted = {
        "num_classes": config["num_classes"],
        "width": config["feature_dim"],
        "sampled": tuple(config["sampled"]),
    }
    assert fields == {**wanted, "selector_classes": 0}
    model = ViewGCN(**fields, k=config["k"], softmax="views", dropout=0.0, fps_start_train="zero")
    return model, weights.from_torch(state_dict)


def compare(case: Case, out: dict[str, np.ndarray], result, inner) -> None:
    """The tensors of a forward pass in the order of the computation, so that the first mismatch is
    the cause; pops them.
    """
    found = {name: inner[key][0] for name, key in RECORDED.items()}
    found |= {"descriptor": result.descriptor, "logits": result.logits}
    found |= {f"F_score{i + 1}": score for i, score in enumerate(result.scores)}
    for name, value in found.items():
        if name not in out:
            continue
        if name.startswith("fps"):
            np.testing.assert_array_equal(value, out.pop(name), err_msg=name)
        else:
            close(value, out.pop(name), name)


def injected(out: dict[str, np.ndarray]) -> dict:
    """The case's own graph, as the network takes it."""
    return {
        "fps_indices": tuple(out[f"fps_sel{i}"] for i in (1, 2)),
        "knn_indices": {key: out.pop(name) for name, key in GRAPH.items()},
    }


def check_eval(case: Case) -> None:
    """Evaluation, twice: with the graph of the case, and, where no distances tie, with our own."""
    model, variables = network(case)
    everything = case.group("out")
    tied = "weight_recipe" in case.info  # the full cases have the regular cameras
    inputs = case.group("in")

    # Weights are arguments: as constants they would be compiled into the program.
    @jax.jit
    def run(variables, features, vertices, graph):
        return model.apply(
            variables, features, vertices, method="outputs", mutable=["intermediates"], **graph
        )

    for own in (False,) if tied else (False, True):
        out = dict(everything)
        graph = injected(out)
        result, state = run(
            variables, inputs["view_features"], inputs["vertices"], {} if own else graph
        )
        compare(case, out, result, state["intermediates"])
        if "loss" in out:
            close(
                view_gcn(result.logits, result.scores, inputs["labels"])[0],
                out.pop("loss").reshape(()),
                "loss",
            )
        assert not out, f"no check for {sorted(out)}"
    # Our own neighbours of the first level are the case's, in order where nothing ties. Later
    # levels can hold a view twice.
    ours = nearest_views(
        jnp.broadcast_to(inputs["vertices"], (*everything["knn_local1"].shape[:2], 3)), model.k
    )
    if tied:
        np.testing.assert_array_equal(np.sort(ours), np.sort(everything["knn_local1"]))
    else:
        np.testing.assert_array_equal(ours, everything["knn_local1"])


def check_train(case: Case) -> None:
    """One training step's loss, gradients and statistics; a gradient within 1e-3 of its own largest
    entry.
    """
    model, variables = network(case)
    out, inputs = case.group("out"), case.group("in")
    graph = injected(out)

    @jax.jit
    def run(variables, features, vertices, graph):
        def loss(params, features):
            result, state = model.apply(
                {**variables, "params": params},
                features,
                vertices,
                train=True,
                method="outputs",
                mutable=["batch_stats", "intermediates"],
                **graph,
            )
            return view_gcn(result.logits, result.scores, inputs["labels"])[0], (result, state)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], features)

    (loss, (result, state)), (grads, feature_grads) = run(
        variables, inputs["view_features"], inputs["vertices"], graph
    )
    compare(case, out, result, state["intermediates"])
    close(loss, out.pop("loss").reshape(()), "loss")
    gradients = {
        f"grad/{name}": value for name, value in weights.to_torch({"params": grads}).items()
    }
    gradients["grad_view_features"] = feature_grads
    updated = weights.to_torch({"params": variables["params"], "batch_stats": state["batch_stats"]})
    for name, value in out.items():
        if name.startswith("updated/"):
            close(updated[name.removeprefix("updated/")], value, name)
        else:
            limit = 1e-3 * np.abs(value).max()
            np.testing.assert_allclose(gradients[name], value, rtol=0, atol=limit, err_msg=name)


def check_modules(case: Case) -> None:
    """Each module alone, in evaluation and in training."""
    config, atol = case.info["config"], case.info["atol"]
    state_dict, inputs, out = case.group("param"), case.group("in"), case.group("out")
    features, vertices, width = inputs["F"], inputs["vertices"], config["width"]
    tables = {
        "LocalGCN": weights.local_entries("LocalGCN", (), width, width),
        "NonLocalMP": weights.nonlocal_entries("NonLocalMP", (), width),
        "View_selector": weights.selector_entries(
            "View_selector", (), width, config["sampled"], config["score_classes"]
        ),
    }
    loaded = {
        name: mapping.load(
            {k: v for k, v in state_dict.items() if k.startswith(name + ".")}, table, "", name
        )
        for name, table in tables.items()
    }
    near = nearest_views(jnp.asarray(vertices), config["k"])
    np.testing.assert_array_equal(near, out.pop("knn_idx"))
    # The published sampling may start anywhere; ours at 0 or at random. Turning the list of views
    # moves the start to 0.
    rows = (np.arange(config["n_views"]) + inputs["fps_start"][:, None]) % config["n_views"]
    turned = sample_cameras(
        jnp.take_along_axis(jnp.asarray(vertices), rows[..., None], 1), config["sampled"]
    )
    sampled = np.take_along_axis(rows, np.asarray(turned), 1)
    np.testing.assert_array_equal(sampled, out.pop("fps_idx"))

    local, everyone = LocalGCN(width), NonLocalMP()
    selector = ViewSelector(config["score_classes"], softmax="views")

    @jax.jit
    def run(loaded, features, vertices, near, sampled):
        found = {}
        found["local_gcn"], state = local.apply(
            loaded["LocalGCN"], features, vertices, near, mutable=["intermediates"]
        )
        found["knn_agg"] = state["intermediates"]["mixed"][0]
        found["local_gcn_train"], state = local.apply(
            loaded["LocalGCN"], features, vertices, near, train=True, mutable=["batch_stats"]
        )
        found["local_bn_running_mean_after"] = state["batch_stats"]["norm"]["mean"]
        found["local_bn_running_var_after"] = state["batch_stats"]["norm"]["var"]
        found["nonlocal"] = everyone.apply(loaded["NonLocalMP"], features)
        found["nonlocal_train"], _ = everyone.apply(
            loaded["NonLocalMP"], features, train=True, mutable=["batch_stats"]
        )
        found["sel_F"], found["sel_score"], found["sel_vertices"] = selector.apply(
            loaded["View_selector"], features, vertices, gather(near, sampled)
        )
        return found

    found = run(loaded, features, vertices, near, sampled)
    assert set(found) == set(out)
    for name, value in out.items():
        close(found[name], value, name, atol)


CHECKS = {
    "viewgcn_eval": check_eval,
    "viewgcn_train": check_train,
    "viewgcn_full": check_eval,
    "viewgcn_modules": check_modules,
}
