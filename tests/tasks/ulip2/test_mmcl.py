"""Multi-modal fine-tuning: which picture meets which caption, what trains and what is frozen, what
an embedding holds.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from data.test_wordpiece import tokenizer_json
from fakes import FakeSource

from jax3dret.core import config as configs
from jax3dret.core import optim
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.images import IMAGENET, normalise
from jax3dret.losses.contrastive import INITIAL_LOG_SCALE, MAX_LOG_SCALE, mmcl
from jax3dret.models.conse import conse
from jax3dret.models.minilm import MiniLm
from jax3dret.models.pointbert import PointBert, PointProjection
from jax3dret.models.resnet import ResNet
from jax3dret.tasks import towers
from jax3dret.tasks.ulip2 import mmcl as task_file
from jax3dret.tasks.ulip2.mmcl import PickTriplet, log_scale_rules, triplet_task
from jax3dret.weights.importing import Opened

VIEWS, CAPTIONS, LATENT = 3, 2, 6
SMALL = {
    "trans_dim": 24,
    "depth": 1,
    "num_heads": 2,
    "num_group": 8,
    "group_size": 4,
    "encoder_dims": 16,
    "group_widths": (8, 8, 16),
    "drop_path_rate": 0.0,
}


def record(by_view=True):
    """Picture v is all v; caption p of view v is all 10 v + p."""
    image = np.repeat(np.arange(VIEWS, dtype=np.float32)[:, None], LATENT, 1)
    text = 10 * np.arange(VIEWS if by_view else 1)[:, None] + np.arange(CAPTIONS)
    return {
        "id": "a",
        "image": image,
        "text": np.repeat(text[..., None], LATENT, 2).astype(np.float32),
    }


def draws(picker, given, count=200):
    rng = np.random.default_rng(0)
    return [
        (float(r["image"][0]), float(r["text"][0]))
        for r in (picker(given, rng) for _ in range(count))
    ]


def test_a_caption_is_of_the_view_it_meets():
    seen = draws(PickTriplet(), record())
    assert {text // 10 for _, text in seen} == {0.0, 1.0, 2.0}
    assert all(text // 10 == image for image, text in seen)
    assert len(set(seen)) == VIEWS * CAPTIONS


def test_captions_of_the_whole_object_meet_every_view():
    assert set(draws(PickTriplet(), record(by_view=False))) == {
        (v, p) for v in range(3) for p in range(2)
    }


def test_mean_is_of_unit_vectors():
    given = record()
    given["image"] = np.array([[3.0, 0], [0, 1], [0, 0]], np.float32)
    given["text"] = np.array([[[2.0, 0], [0, 5]]], np.float32)
    picked = PickTriplet("mean")(given, np.random.default_rng(0))
    np.testing.assert_allclose(picked["image"], [1 / 3, 1 / 3])
    np.testing.assert_allclose(picked["text"], [0.5, 0.5])


def test_captions_of_other_views_are_refused():
    given = record()
    given["text"] = given["text"][:2]
    with pytest.raises(DataError, match="captions of 2 views, but 3 views"):
        PickTriplet()(given, np.random.default_rng(0))


@pytest.fixture(scope="module")
def trained():
    """Twelve steps on four triplets: the task, what it began and ended with, the losses."""
    rng = np.random.default_rng(0)
    batch = {
        "points": rng.normal(size=(4, 32, 3)).astype(np.float32),
        "image": rng.normal(size=(4, LATENT)).astype(np.float32),
        "text": rng.normal(size=(4, LATENT)).astype(np.float32),
    }
    task = triplet_task(PointBert(**SMALL), PointProjection(LATENT), mmcl, {})
    params, state = jax.jit(task.init)(jax.random.key(0), batch)
    tx = optim.make_optimizer(
        params,
        steps=12,
        steps_per_epoch=12,
        lr=3e-3,
        schedule="constant",
        rules=log_scale_rules(learn=True),
    ).tx

    @jax.jit
    def step(params, state, opt_state, key):
        (value, (state, metrics)), grads = jax.value_and_grad(task.loss, has_aux=True)(
            params, state, batch, key, 0
        )
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), state, opt_state, value, metrics

    first, opt_state, losses = params, tx.init(params), []
    for i in range(12):
        params, state, opt_state, value, metrics = step(params, state, opt_state, jax.random.key(i))
        losses.append(float(value))
    return task, batch, first, params, state, losses, metrics


def test_it_learns_and_moves_encoder_projection_and_scale(trained):
    _, _, first, params, _, losses, metrics = trained
    assert losses[-1] < 0.6 * losses[0]
    assert first["log_scale"] == pytest.approx(INITIAL_LOG_SCALE)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), first, params)
    assert moved["log_scale"]
    assert moved["head"]["kernel"]
    assert all(jax.tree.leaves(moved["encoder"]))
    assert set(metrics) == {"cloud_image_acc", "cloud_text_acc", "logit_scale"}


def test_embeddings(trained):
    task, batch, _, params, state, _, _ = trained
    pictures = np.stack([batch["image"], 3 * batch["image"]], 1)
    out = jax.jit(task.embed)(params, state, {"points": batch["points"], "image": pictures})
    assert out["shape"].shape == (4, 48)
    np.testing.assert_allclose(
        out["latent"], out["shape"] @ params["head"]["kernel"], rtol=1e-4, atol=1e-5
    )
    unit = batch["image"] / np.linalg.norm(batch["image"], axis=1, keepdims=True)
    np.testing.assert_allclose(out["image"], unit, rtol=1e-5)
    assert set(task.embed(params, state, {"points": batch["points"]})) == {"shape"}


def test_the_scale_stays_in_bounds_or_is_frozen():
    params = {"log_scale": jnp.float32(MAX_LOG_SCALE), "head": jnp.ones(2)}

    def after_one_step(learn):
        rules = log_scale_rules(learn=learn)
        tx = optim.make_optimizer(
            params, steps=4, steps_per_epoch=4, lr=1.0, schedule="constant", rules=rules
        ).tx
        updates, _ = tx.update(
            jax.tree.map(lambda x: -jnp.ones_like(x), params), tx.init(params), params
        )
        return optax.apply_updates(params, updates)

    assert after_one_step(True)["log_scale"] == pytest.approx(MAX_LOG_SCALE)
    assert after_one_step(False)["log_scale"] == params["log_scale"]
    assert after_one_step(False)["head"][0] > 1.5


def test_random_towers():
    settings = towers.defaults() | {
        "image": {
            "name": "jax3dret.models.clip:VisionTower",
            "image_size": 16,
            "patch_size": 8,
            "width": 64,
            "depth": 1,
        },
        "text": {
            "name": "jax3dret.models.clip:TextTower",
            "context_length": 16,
            "width": 64,
            "depth": 1,
        },
        "latent": 8,
    }
    settings["image"]["embedding_dim"] = settings["text"]["embedding_dim"] = 5
    image = towers.image_tower(settings, 16, seed=0)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    found = np.asarray(image.embed(pictures))
    assert found.shape == (2, 8)
    assert np.abs(found[0] - found[1]).max() > 1e-4
    assert towers.image_tower(settings, 16, seed=1).provenance != image.provenance
    text = towers.text_tower(settings, seed=0)
    tokens = text.tokenize(["a bolt", "a very long caption of a bolt"])
    assert tokens.truncated.tolist() == [False, True]
    assert np.asarray(text.embed(tokens.ids)).shape == (2, 8)
    with pytest.raises(ConfigError, match=r"set views\.size=16"):
        towers.image_tower(settings, 32, seed=0)
    with pytest.raises(ConfigError, match="normalisation 'imagnet'"):
        towers.image_tower({**settings, "normalisation": "imagnet"}, 16, seed=0)
    assert task_file.defaults().towers.weights == ""


@pytest.fixture
def small_towers(tmp_path, monkeypatch):
    """Settings of towers by ConSE: a narrow classifier of four classes, and a narrow MiniLM."""
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    text = {"vocab_size": 10, "max_tokens": 16, "width": 8, "depth": 1, "num_heads": 2, "hidden": 8}
    image = {"stage_sizes": (1,), "width": 4}
    classifier = ResNet(**image, num_classes=4)
    made = {
        "text": jax.eval_shape(
            MiniLm(**text).init, jax.random.key(0), jnp.zeros((1, 8), int), jnp.ones((1, 8), bool)
        ),
        "image": jax.eval_shape(classifier.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3))),
    }
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda leaf: np.float32(np.abs(rng.normal(size=leaf.shape))), made)
    monkeypatch.setattr(
        towers, "open_weights", lambda where: Opened({}, drawn[pathlib.Path(where).name], tmp_path)
    )
    monkeypatch.setattr(towers, "class_names", lambda: ("chair", "armchair", "nut", "a hex nut"))
    return drawn, towers.defaults() | {
        "image": {"name": "jax3dret.models.resnet:ResNet", **image},
        "text": {"name": "jax3dret.models.minilm:MiniLm", **text},
        "image_weights": "image",
        "text_weights": "text",
        "latent": 8,
        "conse": True,
    }


def test_pictures_stand_among_the_names_of_their_classes(small_towers):
    drawn, settings = small_towers
    text = towers.text_tower(settings, seed=0)
    names = text.tokenize(["chair", "armchair", "nut", "a hex nut"])
    words = np.asarray(text.embed(names.ids))
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, rtol=1e-5)
    # The padding is masked: a longer row of the same text is the same vector.
    longer = np.pad(names.ids, ((0, 0), (0, 8)))
    np.testing.assert_allclose(text.embed(longer), words, atol=1e-5)
    image = towers.image_tower(settings, 16, seed=0)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    classifier = ResNet(stage_sizes=(1,), width=4, num_classes=4)
    logits = jax.jit(classifier.apply)(drawn["image"], normalise(pictures, IMAGENET))
    np.testing.assert_allclose(image.embed(pictures), conse(logits, words), atol=1e-5)
    assert image.provenance["conse"]["top"] == 0
    one = towers.image_tower({**settings, "conse_top": 1}, 16, seed=0)
    assert one.provenance != image.provenance
    with pytest.raises(ConfigError, match="leave config.towers.weights empty"):
        towers.image_tower({**settings, "weights": "x"}, 16, seed=0)
    with pytest.raises(ConfigError, match=r"config\.towers\.text_weights=image: "):
        towers.text_tower({**settings, "text_weights": "image"}, seed=0)


def things(path, split="train"):
    return FakeSource(np.zeros(3), name="things", split=split, path=path)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Rows of three things with two pictures each, by towers that answer the sum of what they see."""
    pictures = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 2, 2, 1).repeat(3, -1)
    np.save(tmp_path / "views.npy", pictures)
    monkeypatch.setattr(
        task_file.pictures, "view_file", lambda views, source: tmp_path / "views.npy"
    )

    def make(captions, centre=False):
        made = task_file.TripletRows(
            views={"cameras": "objaverse2", "size": 2, "jobs": 1},
            towers={**towers.defaults(), "centre": centre},
            captions=lambda source, views: captions,
            captions_name="given",
            seed=0,
            open_train=lambda: things(tmp_path),
        )
        made.__dict__["_image_tower"] = towers.ImageTower(
            lambda x: x.reshape(len(x), -1).sum(1)[:, None] + [0.0, 1], {}
        )
        tokenizer = towers.Tokenizer([])
        made.__dict__["_text_tower"] = towers.TextTower(
            lambda texts: tokenizer(texts, context_length=12),
            lambda ids: ids.sum(1)[:, None] * [1.0, -1],
            {},
        )
        return made

    return make


def test_rows_are_of_their_records_and_captions(rows, tmp_path):
    made = rows([[["a", "b"], ["c"]], [["d", "e"], ["f", "g"]], [["h"], ["i", "j"]]])
    image, text = np.load(made.image(things(tmp_path))), np.load(made.text(things(tmp_path)))
    np.testing.assert_array_equal(image[..., 0], 3 * np.arange(24).reshape(3, 2, 4).sum(-1))
    # A view with one caption says it twice.
    letters = (text[..., 0] - text[0, 0, 0, 0]).astype(int)
    assert letters.tolist() == [[[0, 1], [2, 2]], [[3, 4], [5, 6]], [[7, 7], [8, 9]]]


def test_centring_is_by_the_training_split(rows, tmp_path):
    made = rows([[["a"]]] * 3, centre=True)
    np.testing.assert_allclose(np.load(made.image(things(tmp_path))).mean((0, 1)), 0, atol=1e-5)
    test = things(tmp_path, "test")
    np.testing.assert_allclose(np.load(made.image(test)), np.load(made.image(things(tmp_path))))


def test_that_captions_are_missing_is_found_before_anything_is_rendered(
    rows, tmp_path, monkeypatch
):
    class Captions:
        def require(self, source, path):
            raise ConfigError(f"no captions of {source.split} for {path}")

    made = rows([])
    made._captions = Captions()
    monkeypatch.setattr(task_file.pictures, "view_path", lambda views, source: "store")
    with pytest.raises(ConfigError, match="no captions of train for store"):
        made.image(things(tmp_path))
    made.image(things(tmp_path, "test"))  # an evaluation reads pictures alone


def test_a_caption_of_500_words_is_cut_and_counted(rows, tmp_path, caplog):
    with caplog.at_level("WARNING", "jax3dret"):
        rows([[["bolt " * 500, "b"]], [["c"]], [["d"]]]).text(things(tmp_path))
    assert (
        "1 of 6 captions are longer than the text tower reads (12 tokens) and were cut"
        in caplog.text
    )


def test_captions_of_one_item_for_more_views_than_another(rows, tmp_path):
    with pytest.raises(DataError, match="captions for 1 views, some for 2"):
        rows([[["a"], ["b"]], [["c"]], [["d"]]]).text(things(tmp_path))


@pytest.mark.parametrize(
    ("learn", "weights", "begins"),
    [("True", "slip", INITIAL_LOG_SCALE), ("False", "slip", 4.5), ("False", "", INITIAL_LOG_SCALE)],
)
def test_the_scale_is_frozen_at_that_of_the_imported_towers(monkeypatch, learn, weights, begins):
    class Planned(Exception):
        pass

    seen = {}

    def plan(config, open_source, task, **rest):
        seen["rules"] = dict(config.optim.rules)
        raise Planned

    monkeypatch.setattr(
        towers, "load_imported", lambda folder: ({"kind": "slip"}, {"params": {"logit_scale": 4.5}})
    )
    monkeypatch.setattr(task_file, "triplet_task", lambda *given: seen.update(begins=given[4]))
    monkeypatch.setattr(task_file.recipe, "build", plan)
    path = pathlib.Path(__file__).parents[3] / "configs" / "ulip2_mmcl.py"
    config, _ = configs.load(
        f"{path}:demo", [("learn_log_scale", learn), ("towers.weights", weights)]
    )
    with pytest.raises(Planned):
        task_file.make(config, lambda split, name=None: FakeSource(items=3, up_axis="y"))
    assert seen["begins"] == begins and seen["rules"].keys() == {"log_scale", ".*"}
    assert ("freeze" in seen["rules"]["log_scale"]) == (learn == "False")
    assert not configs.unused_overrides(config, [("learn_log_scale", learn)])
