"""Sketch towers: where prompts stand, what each tuning mode trains and keeps slots for, and the
small networks.
"""

import functools
import math

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax3dret.core.optim import describe, make_optimizer
from jax3dret.core.types import ConfigError
from jax3dret.models.clip import VisionTower
from jax3dret.models.layers import Block, LayerNorm
from jax3dret.models.resnet import ResNet
from jax3dret.models.sketch_tower import (
    FeatureTower,
    PromptedVisionTower,
    SmallResNet,
    SmallViT,
    check_tuning,
    tuning_rules,
    with_tower,
)
from jax3dret.weights import clip

TOWER = {
    "image_size": 8,
    "patch_size": 4,
    "width": 8,
    "depth": 2,
    "num_heads": 2,
    "embedding_dim": 3,
}
SHALLOW = PromptedVisionTower(**TOWER, num_prompts=3)
DEEP = PromptedVisionTower(**TOWER, num_prompts=3, deep=True, prompt_projection=5, linear=True)
RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.normal(size=(2, 8, 8, 3)), jnp.float32)
# Compiled for the moment: most of the time of these tests would go into optimizing what runs once.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
MODES = ("frozen", "layernorm", "all", "vpt", "prompt_only")


def abstract(model, *shape):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))["params"]


def draw(model, *shape, rng=RNG):
    """Parameters of the model's shapes with nothing at 0 or 1."""

    def one(path, leaf):
        value = (path[-1].key == "scale") + 0.3 * rng.normal(size=leaf.shape)
        return jnp.asarray(value, jnp.float32)

    return jax.tree_util.tree_map_with_path(one, abstract(model, *shape))


def names(tree):
    return {
        jax.tree_util.keystr(p, simple=True, separator="/")
        for p, _ in jax.tree_util.tree_leaves_with_path(tree)
    }


def optimizer(mode, params, name="adam"):
    rules = (*tuning_rules(mode, "sketch"), (".*", {}))
    return make_optimizer(
        params, steps=2, steps_per_epoch=1, lr=0.01, name=name, schedule="constant", rules=rules
    ).tx


def slots(state):
    """Names below "sketch" that Adam keeps a first moment for."""
    found = [
        s
        for s in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState))
        if hasattr(s, "mu")
    ]
    assert len(found) == 1 and names(found[0].mu) == names(found[0].nu)
    return found[0].mu["sketch"]


@pytest.fixture(scope="module")
def full():
    head = {"kernel": jax.ShapeDtypeStruct((512, 512), jnp.float32)}
    return {"sketch": abstract(PromptedVisionTower(), 1, 224, 224, 3), "head": head}


@pytest.mark.parametrize(
    ("mode", "numbers"),
    [
        ("frozen", 512 * 512 + 512),
        ("layernorm", 39936),
        ("all", 86_192_640 + 2304),
        ("vpt", 2304 + 39936),
        ("prompt_only", 2304),
    ],
)
def test_slots_of_the_published_size(full, mode, numbers):
    """Exactly the trainable parameters of ViT-B/16: 3 prompts, 26 layer norms; behind a frozen one
    a linear layer.
    """
    if mode == "frozen":
        linear = {"kernel": jax.ShapeDtypeStruct((512, 512), jnp.float32)}
        linear["bias"] = jax.ShapeDtypeStruct((512,), jnp.float32)
        full = {**full, "sketch": {**full["sketch"], "linear": linear}}
    found = slots(jax.eval_shape(optimizer(mode, full).init, full))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(found)) == numbers
    if mode == "vpt":
        assert len(names(found)) == 1 + 2 * 26
        assert {
            "prompts",
            "tower/norm_pre/scale",
            "tower/norm/bias",
            "tower/block11/norm2/bias",
        } <= names(found)


@pytest.fixture(scope="module")
def steps():
    """A deep tower's parameters and the updates of a step in each mode; without Adam, which takes
    longer to compile.
    """
    params = {"sketch": draw(DEEP, 1, 8, 8, 3), "head": {"kernel": np.ones((3, 1), np.float32)}}
    optimizers = {mode: optimizer(mode, params, "sgd") for mode in MODES}

    def loss(params):
        return jnp.square(
            DEEP.apply({"params": params["sketch"]}, IMAGES) @ params["head"]["kernel"]
        ).sum()

    @jit
    def run(params):
        gradient = jax.grad(loss)(params)
        return {
            mode: tx.update(gradient, tx.init(params), params)[0] for mode, tx in optimizers.items()
        }

    return params, run(params)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_else_changes_in_a_step(steps, mode):
    params, done = steps
    updates = done[mode]
    changed = names(
        jax.tree.map(lambda update: 1 if np.any(np.asarray(update)) else None, updates["sketch"])
    )
    norms = {n for n in names(params["sketch"]) if n.endswith(("/scale", "/bias")) and "norm" in n}
    prompts = {"prompts", "deep_prompts", "prompt_projection/kernel", "prompt_projection/bias"}
    everything = names(params["sketch"])
    wanted = {
        "frozen": {"linear/kernel", "linear/bias"},
        "layernorm": norms,
        "all": everything,
        "vpt": norms | prompts,
        "prompt_only": prompts,
    }
    assert len(norms) == 2 * (2 * 2 + 2) and prompts < everything
    assert (
        changed
        == wanted[mode]
        == names(slots(jax.eval_shape(optimizer(mode, params).init, params)))
    )
    assert np.all(np.asarray(updates["head"]["kernel"]))


def test_rate_of_the_layer_norms(full):
    rows = describe(full, (*tuning_rules("vpt", "sketch", layernorm_lr=0.01), (".*", {})))
    assert {row.path.split("/")[-1] for row in rows if row.lr == 0.01} == {"scale", "bias"}
    assert sum(row.lr == 0.01 for row in rows) == 52
    assert {row.path for row in rows if row.lr == 1.0} == {"sketch/prompts", "head/kernel"}


def test_rules_refuse():
    with pytest.raises(
        ConfigError,
        match="'lora' is unknown; it is one of frozen, layernorm, all, vpt, prompt_only",
    ):
        tuning_rules("lora", "sketch")
    # The path is no regular expression, and a tower without prompts has nothing to tune.
    assert tuning_rules("prompt_only", "a.b")[0][0].startswith(r"a\.b/")
    params = {"sketch": abstract(SmallViT(), 1, 64, 64, 3)}
    with pytest.raises(ConfigError, match="matches no parameter"):
        optimizer("vpt", params)
    check_tuning("vpt", 3), check_tuning("all", 3), check_tuning("layernorm", 0)
    with pytest.raises(
        ConfigError, match="'layernorm' never trains the tower's 3 prompts; set num_prompts=0"
    ):
        check_tuning("layernorm", 3)
    with pytest.raises(ConfigError, match="the tower has none"):
        check_tuning("vpt", 0)
    check_tuning("frozen", 0, True), check_tuning("all", 0, True)
    with pytest.raises(ConfigError, match="'frozen' trains a linear layer .* with linear=True has"):
        check_tuning("frozen", 0)
    with pytest.raises(ConfigError, match="'vpt' never trains the linear layer"):
        check_tuning("vpt", 3, True)


def test_the_linear_layer_stands_behind_the_tower_and_starts_as_the_identity():
    """Inside the descriptor: neither before the tower's projection nor beside what is compared."""
    model = PromptedVisionTower(**TOWER, num_prompts=0, linear=True)
    bare = PromptedVisionTower(**TOWER, num_prompts=0)
    params = draw(model, 1, 8, 8, 3)
    kernel, bias = params["linear"]["kernel"], params["linear"]["bias"]
    started = jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"]
    assert started["linear"]["kernel"].shape == kernel.shape == (bare.embedding_dim,) * 2

    @jit
    def run(params):
        first = {**params, "linear": {"kernel": jnp.eye(len(kernel)), "bias": 0 * bias}}
        return (
            bare.apply({"params": {"tower": params["tower"]}}, IMAGES),
            model.apply({"params": params}, IMAGES),
            model.apply({"params": first}, IMAGES),
            model.init(jax.random.key(0), IMAGES)["params"]["linear"],
        )

    without, behind, first, start = map(jax.device_get, run(params))
    np.testing.assert_allclose(behind, without @ kernel + bias, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(first, without)
    np.testing.assert_array_equal(start["kernel"], np.eye(len(kernel)))
    assert not start["bias"].any()


@pytest.fixture(scope="module")
def places():
    """Parameters of a tower with deep prompts, and what it and its variants say of IMAGES."""
    params = draw(PromptedVisionTower(**TOWER, num_prompts=3, deep=True), 1, 8, 8, 3)
    fields = {
        "append": {"deep": True},
        "prepend": {"deep": True, "position": "prepend"},
        "shallow": {},
    }
    fields |= {"none": {"num_prompts": 0}}
    models = {
        name: PromptedVisionTower(**{**TOWER, "num_prompts": 3, **own})
        for name, own in fields.items()
    }
    found = jit(
        lambda params: {
            name: model.apply({"params": params}, IMAGES) for name, model in models.items()
        }
    )(params)
    return params, {name: np.asarray(value) for name, value in found.items()}


def test_append_and_prepend_are_the_same_function(places):
    _, found = places
    np.testing.assert_allclose(found["append"], found["prepend"], rtol=0, atol=1e-5)
    for one, other in (("append", "shallow"), ("shallow", "none"), ("append", "none")):
        assert np.abs(found[one] - found[other]).max() > 1e-2, (one, other)


def test_prompts_against_the_sequence_written_out(places):
    """Token by token, and the variants that prompts are most easily mistaken for."""
    params, found = places
    tower, prompts, deep = params["tower"], params["prompts"], params["deep_prompts"]
    module = Block(num_heads=2, qkv_bias=True, activation="quick_gelu")
    block = jit(lambda own, x: module.apply({"params": own}, x, False))

    def norm(name, x):
        return LayerNorm().apply({"params": tower[name]}, jnp.asarray(x))

    patches = [
        np.einsum("bhwc,hwcd->bd", IMAGES[:, i : i + 4, j : j + 4], tower["patch_embed"]["kernel"])
        for i in (0, 4)
        for j in (0, 4)
    ]
    own = (
        np.stack([np.broadcast_to(tower["class_embedding"], (2, 8)), *patches], 1)
        + tower["position_embedding"]
    )

    def run(own, added, later, read=0, after_norm=False):
        """later: (tokens before the second block) -> those that go into it."""
        added = np.broadcast_to(added, (2, 3, 8))
        x = (
            norm("norm_pre", own)
            if after_norm
            else norm("norm_pre", np.concatenate([own, added], 1))
        )
        x = np.concatenate([x, added], 1) if after_norm else x
        x = block(tower["block1"], later(np.asarray(block(tower["block0"], x))))
        return norm("norm", x[:, read]) @ tower["projection"]

    def replaced(x):
        return np.concatenate([x[:, :5], np.broadcast_to(deep[0], (2, 3, 8))], 1)

    np.testing.assert_allclose(found["shallow"], run(own, prompts, lambda x: x), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["append"], run(own, prompts, replaced), rtol=0, atol=1e-5)
    wrong = {
        "after the first norm": run(own, prompts, lambda x: x, after_norm=True),
        "a prompt is read": run(own, prompts, lambda x: x, read=5),
        "prompts with a position": run(own, prompts + tower["position_embedding"][:3], lambda x: x),
    }
    for name, other in wrong.items():
        assert np.abs(other - found["shallow"]).max() > 1e-2, name
    wrong = {
        "the first patches replaced": run(
            own, prompts, lambda x: np.concatenate([x[:, :1], replaced(x)[:, 5:], x[:, 4:]], 1)
        ),
        "summed": run(
            own,
            prompts,
            lambda x: x + np.pad(np.broadcast_to(deep[0], (2, 3, 8)), ((0, 0), (5, 0), (0, 0))),
        ),
    }
    for name, other in wrong.items():
        assert np.abs(other - found["append"]).max() > 1e-2, name


def test_prompt_dropout():
    """Of the prompts alone, each image its own draw; none in evaluation."""
    model = PromptedVisionTower(**{**TOWER, "depth": 1}, num_prompts=3, prompt_dropout=0.5)
    params = draw(model, 1, 8, 8, 3)
    same = jnp.repeat(IMAGES[:1], 4, 0)

    @jit
    def run(key):
        return [
            model.apply({"params": params}, same, train, rngs={"dropout": key})
            for train in (True, False)
        ]

    train, evaluation = run(jax.random.key(1))
    np.testing.assert_array_equal(train, run(jax.random.key(1))[0])
    assert np.abs(train - run(jax.random.key(2))[0]).max() > 1e-3
    assert (
        len(np.unique(np.asarray(train), axis=0)) == 4
        and len(np.unique(np.asarray(evaluation), axis=0)) == 1
    )
    assert np.abs(train - evaluation).max(1).min() > 1e-3


def test_start_of_prompts():
    @jit
    def start(key):
        """Of the prompts alone, so that nothing else is compiled."""
        models = [
            PromptedVisionTower(**TOWER, num_prompts=40, deep=True, prompt_init=name)
            for name in ("xavier_uniform", "normal")
        ]
        params = [model.init(key, IMAGES)["params"] for model in models]
        return [{name: own[name] for name in ("prompts", "deep_prompts")} for own in params]

    uniform, normal = start(jax.random.key(0))
    bound = math.sqrt(6 / (3 * 4 * 4 + 8))
    for name in ("prompts", "deep_prompts"):
        assert 0.95 * bound < np.abs(uniform[name]).max() <= bound, name
        assert abs(float(normal[name].std()) - 1) < 0.15, name
    assert uniform["deep_prompts"].shape == (1, 40, 8)
    assert np.abs(uniform["prompts"][None] - uniform["deep_prompts"]).max() > 0.1
    assert math.isclose(math.sqrt(6 / (3 * 16 * 16 + 768)), 0.0625)


def test_layer_norms_are_float32_under_bfloat16():
    model = PromptedVisionTower(**TOWER, dtype="bfloat16")
    jaxpr = jax.make_jaxpr(model.apply)({"params": abstract(model, 1, 8, 8, 3)}, IMAGES)
    roots = list(operands(jaxpr.jaxpr, "rsqrt"))
    assert roots == [jnp.dtype("float32")] * 6
    assert jnp.dtype("bfloat16") in set(operands(jaxpr.jaxpr, "dot_general"))
    assert jaxpr.out_avals[0].dtype == jnp.float32
    # At 256 neighbours in bfloat16 are 2 apart: a mean in that type would fall on one of them.
    x = jnp.array([[256, 258] * 4], jnp.bfloat16)
    out = LayerNorm().apply({"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}, x)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out.astype(jnp.float32), [[-1, 1] * 4])


def operands(jaxpr, primitive):
    """Types of the first operand wherever this primitive stands, also in inner functions."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == primitive:
            yield equation.invars[0].aval.dtype
        for inner in jax.core.jaxprs_in_params(equation.params):
            yield from operands(inner, primitive)


def test_published_weights_drop_in():
    """Every parameter below `tower` has a name in CLIP's file, and what does not fit is refused."""
    fields = {**TOWER, "num_heads": 0, "width": 64, "depth": 1}
    vision = draw(VisionTower(**fields), 1, 8, 8, 3)
    entries = clip.vision_entries(**{k: v for k, v in fields.items() if k != "num_heads"})
    table = {entry.path[1:] for entry in entries}
    assert {tuple(name.split("/")) for name in names(vision)} == table
    params = draw(PromptedVisionTower(**fields), 1, 8, 8, 3)
    filled = with_tower(params, vision)
    assert filled["tower"] == vision and filled["prompts"] is params["prompts"]
    short = {name: tree for name, tree in vision.items() if name != "norm_pre"}
    with pytest.raises(
        ConfigError, match=r"2 parameters differ; norm_pre/bias is missing, expected \(64,\)"
    ):
        with_tower(params, short)
    wide = {**vision, "projection": np.zeros((64, 5))}
    with pytest.raises(ConfigError, match=r"projection is \(64, 5\), expected \(64, 3\)"):
        with_tower(params, wide)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            PromptedVisionTower(**TOWER, position="before"),
            "position 'before'; expected append or prepend",
        ),
        (PromptedVisionTower(**TOWER, prompt_init="zeros"), "prompt_init 'zeros'"),
        (PromptedVisionTower(**TOWER, num_prompts=-1), "num_prompts=-1"),
        (
            PromptedVisionTower(**{**TOWER, "depth": 1}, deep=True),
            "for deep prompts 1 or more, and 2 blocks or more",
        ),
        (
            PromptedVisionTower(**TOWER, num_prompts=0, deep=True),
            "num_prompts=0, .* for deep prompts 1 or more",
        ),
        (PromptedVisionTower(**TOWER, prompt_dropout=1.0), "prompt_dropout is 1.0"),
        (SmallViT(image_size=8), None),
        (SmallViT(image_size=8, patch_size=6), "a power of 2"),
        (SmallViT(image_size=16), r"expected \[B, 16, 16, 3\]"),
        (SmallViT(image_size=8, width=32), "num_heads 0"),
        (SmallViT(image_size=8, drop_path=1.0), "drop_path is 1.0"),
    ],
)
def test_refuses(model, message):
    if message is None:
        assert abstract(model, 1, 8, 8, 3)["position_embedding"].shape == (1, 192)
        return
    with pytest.raises(ConfigError, match=message):
        abstract(model, 1, 8, 8, 3)


def test_prompts_that_do_not_fit():
    model = VisionTower(**TOWER)
    params = {"params": abstract(model, 1, 8, 8, 3)}
    for kwargs in (
        {"prompts": jnp.zeros((3, 7))},
        {"deep_prompts": jnp.zeros((1, 3, 8))},
        {"prompts": jnp.zeros((3, 8)), "deep_prompts": jnp.zeros((2, 3, 8))},
    ):
        with pytest.raises(ConfigError, match="expected "):
            jax.eval_shape(lambda p, kwargs=kwargs: model.apply(p, IMAGES, **kwargs), params)


SMALL = SmallViT(
    image_size=16, patch_size=4, width=16, depth=1, num_heads=2, embedding_dim=5, drop_path=0.5
)


@pytest.fixture(scope="module")
def small():
    params = draw(SMALL, 1, 16, 16, 3)
    images = RNG.normal(size=(2, 16, 16, 3)).astype(np.float32)

    def read(images, train):
        return SMALL.apply({"params": params}, images, train, rngs={"drop_path": jax.random.key(3)})

    @jit
    def everything(images):
        def total(images):
            found = read(jnp.concatenate([images, jnp.roll(images, 4, 1)]), False)
            return jnp.square(found[:2]).sum(), found

        gradient, found = jax.grad(total, has_aux=True)(images)
        return found[:2], found[2:], read(images, True), gradient

    return params, [np.asarray(x) for x in everything(images)]


def test_small_vit_reads_every_patch_and_knows_its_place(small):
    params, (found, moved, dropped, gradient) = small
    assert found.shape == (2, 5) and found.dtype == np.float32
    seen = np.abs(gradient).reshape(2, 4, 4, 4, 4, 3).max((2, 4, 5))
    assert (seen > 0).all()
    assert np.abs(found - moved).max() > 1e-2
    assert np.abs(found - dropped).max() > 1e-2
    assert params["position_embedding"].shape == (16, 16)


def test_feature_tower():
    model = FeatureTower(out_dim=4, hidden=(6,), dropout=0.5)
    assert model.embedding_dim == 4
    x = RNG.normal(size=(3, 5)).astype(np.float32)
    stats = {
        "batch_norm0": {
            "mean": np.arange(6, dtype=np.float32),
            "var": 1 + np.arange(6, dtype=np.float32),
        }
    }
    params = draw(model, 1, 5)

    @jit
    def run(x):
        variables = {"params": params, "batch_stats": stats}
        options = {"rngs": {"dropout": jax.random.key(0)}, "mutable": ["batch_stats"]}
        return model.apply(variables, x), model.apply(variables, x, True, **options)

    found, (trained, changed) = run(x)
    hidden = (x @ params["linear0"]["kernel"] + params["linear0"]["bias"] - np.arange(6)) / np.sqrt(
        1 + np.arange(6) + 1e-5
    )
    hidden = np.maximum(hidden * params["batch_norm0"]["scale"] + params["batch_norm0"]["bias"], 0)
    np.testing.assert_allclose(
        found, hidden @ params["linear1"]["kernel"] + params["linear1"]["bias"], rtol=0, atol=1e-5
    )
    assert trained.shape == (3, 4) and np.abs(trained - found).max() > 1e-3
    assert np.any(changed["batch_stats"]["batch_norm0"]["mean"] != stats["batch_norm0"]["mean"])
    with pytest.raises(ConfigError, match="single row"):
        run(x[:1])


def test_small_resnet_is_a_resnet_and_a_projection():
    tower = SmallResNet(width=4, stage_sizes=(1, 1), embedding_dim=6)
    images = jax.random.normal(jax.random.key(0), (3, 16, 16, 3))
    variables = drawn.arrays(jax.eval_shape(tower.init, jax.random.key(1), images))
    assert set(variables["params"]) == {"resnet", "projection"}
    run = jax.jit(lambda v: tower.apply(v, images, train=True, mutable=["batch_stats"]))
    out, changed = run(variables)
    features = ResNet((1, 1), 4).apply(
        {name: variables[name]["resnet"] for name in ("params", "batch_stats")},
        images,
        train=True,
        mutable=["batch_stats"],
    )[0]
    np.testing.assert_allclose(
        out,
        features @ variables["params"]["projection"]["kernel"]
        + variables["params"]["projection"]["bias"][None],
        atol=1e-5,
    )
    assert out.shape == (3, tower.embedding_dim) and bool(
        jnp.any(out < 0)
    )  # a bare ResNet's features are never negative
    assert jax.tree.leaves(changed)
