"""The losses of sketch-based retrieval: AM-Softmax against published code, alignment and
quadruplets against the equations.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.case import Case
from jax3dret.losses.alignment import semantic_alignment
from jax3dret.losses.am_softmax import am_softmax, cosines
from jax3dret.losses.quadruplet import quadruplet

# What runs once is not worth optimizing.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
# Names of the reference -> ours.
METRICS = {
    "l2norm_euclid": "unit_euclidean",
    "raw_euclid": "euclidean",
    "l2norm_sqeuclid": "unit_squared",
    "cosine": "cosine",
}


def check_am_softmax(case: Case) -> None:
    config, atol = case.info["config"], case.info.get("atol", 1e-5)
    features, weight, labels = (
        case.tensors[f"in/{name}"] for name in ("features", "weight", "labels")
    )
    options = {"scale": config["scale"], "margin": config["margin"]}

    @jit
    def everything(features, weight):
        def loss(features, weight):
            return am_softmax(cosines(features, weight), labels, **options)

        value, (by_features, by_weight) = jax.value_and_grad(loss, (0, 1))(features, weight)
        angle = cosines(features, weight)
        rows = jax.vmap(lambda row, label: am_softmax(row[None], label[None], **options))(
            angle, labels
        )
        smooth = am_softmax(angle, labels, smoothing=0.1, **options)
        return {
            "out/cosine_logits": angle,
            "out/loss": value,
            "out/loss_per_sample": rows,
            "out/loss_label_smoothing_0.1": smooth,
            "grad/features": by_features,
            "grad/weight": by_weight,
        }

    compare(case, everything(features, weight), atol)


def check_losses(case: Case) -> None:
    config, given = case.info["config"], case.group("in")
    four = [given[name] for name in ("anchor_sketch", "pos_3d", "neg_3d", "neg_sketch")]

    @jit
    def everything(four, projected, prototypes):
        def alignment(projected):
            return semantic_alignment(
                projected, given["labels"], prototypes, temperature=config["tau"]
            )

        value, gradient = jax.value_and_grad(alignment)(projected)
        found = {
            "out/sem/loss": value,
            "out/sem/logits": cosines(projected, prototypes.T) / config["tau"],
            "grad/sem/projected": gradient,
        }
        for name, metric in METRICS.items():

            def loss(*four, metric=metric):
                return quadruplet(*four, margin=config["margin"], metric=metric)

            value, gradient = jax.value_and_grad(loss, (0, 1, 2, 3))(*four)
            rows = jax.vmap(lambda *row, loss=loss: loss(*(x[None] for x in row)))(*four)
            found |= {f"out/{name}/mean": value, f"out/{name}/per_sample": rows}
            for which, g in zip(
                ("anchor_sketch", "pos_3d", "neg_3d", "neg_sketch"), gradient, strict=True
            ):
                found[f"grad/{name}/{which}"] = g
        return found

    compare(
        case, everything(four, given["projected"], given["prototypes"]), case.info.get("atol", 1e-5)
    )


def compare(case: Case, found: dict[str, jax.Array], atol: float) -> None:
    """Every output and gradient of the case, within atol of values of unit scale."""
    for name, expected in case.tensors.items():
        if name.startswith("in/"):
            continue
        assert name in found, f"no check for {name}"
        value = jnp.reshape(found[name], expected.shape)
        limit = atol * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(value, expected, rtol=0, atol=limit, err_msg=name)


CHECKS = {"am_softmax": check_am_softmax, "mvhgnn_losses_spec": check_losses}
