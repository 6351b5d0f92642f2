"""inr2vec's networks against its published code: encoder in both modes, decoder, classifier."""

import jax
import numpy as np

from golden_checks.case import Case
from jax3dret.models.field_encoders.classifier import classifier
from jax3dret.models.field_encoders.mlp_encoder import MlpEncoder
from jax3dret.models.field_encoders.shape_decoder import ShapeDecoder, encode_coordinates
from jax3dret.weights import inr2vec


def close(case: Case, found, expected: np.ndarray, name: str) -> None:
    """Within the case's atol of values of unit scale; larger ones have larger rounding errors."""
    atol = case.info["atol"] * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=name)


def check_encoder(case: Case) -> None:
    """Evaluation with its running statistics, training with those of the batch, and what they then
    become; names and layouts there and back.
    """
    config, state_dict = case.info["config"], case.group("param")
    variables = inr2vec.encoder_from_torch(state_dict)
    back = inr2vec.encoder_to_torch(variables)
    for name, value in back.items():
        np.testing.assert_array_equal(value, state_dict[name], err_msg=name)
    model = MlpEncoder(tuple(config["hidden_dims"]), config["embed_dim"])
    x, out = case.tensors["in/x"], case.group("out")
    y = jax.jit(model.apply)(variables, x)
    for name in ("y", "y_f64"):
        close(case, y, out.pop(name), name)
    y_train, updated = jax.jit(lambda v: model.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables
    )
    close(case, y_train, out.pop("y_train"), "y_train")
    after = inr2vec.encoder_to_torch({**variables, **updated})
    for name, value in out.items():
        close(case, after[name.removeprefix("after_train/")], value, name)


def check_decoder(case: Case) -> None:
    """The encoded coordinates and the values."""
    config, state_dict = case.info["config"], case.group("param")
    variables = inr2vec.decoder_from_torch(state_dict)
    for name, value in inr2vec.decoder_to_torch(variables).items():
        np.testing.assert_array_equal(value, state_dict[name], err_msg=name)
    # The code's own spelling of its keys.
    model = ShapeDecoder(
        config["hidden_dim"],
        config["num_hidden_layes_before_skip"],
        config["num_hidden_layes_after_skip"],
    )
    inputs, out = case.group("in"), case.group("out")
    close(case, encode_coordinates(inputs["coords"]), out.pop("coords_enc"), "coords_enc")
    y = jax.jit(model.apply)(variables, inputs["embeddings"], inputs["coords"])
    for name, value in out.items():
        assert name in ("y", "y_f64"), name
        close(case, y, value, name)


def check_classifier(case: Case) -> None:
    """The logits in evaluation."""
    config, state_dict = case.info["config"], case.group("param")
    variables = inr2vec.classifier_from_torch(state_dict)
    for name, value in inr2vec.classifier_to_torch(variables).items():
        np.testing.assert_array_equal(value, state_dict[name], err_msg=name)
    model = classifier(config["num_classes"], tuple(config["layers_dim"][1:]))
    out = case.group("out")
    assert set(out) == {"y"}
    close(case, jax.jit(model.apply)(variables, case.tensors["in/x"]), out["y"], "y")


CHECKS = {
    "inr2vec_encoder": check_encoder,
    "inr2vec_decoder": check_decoder,
    "inr2vec_classifier": check_classifier,
}
