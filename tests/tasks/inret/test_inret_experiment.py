"""INRet as a task: what is read and kept, what is trained on which terms, what is embedded, what is
refused; and its evaluator.
"""

import dataclasses
import json

import drawn
import inr_fake
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jax3dret.core import config as configs
from jax3dret.core import rng as streams
from jax3dret.core import sharding, train
from jax3dret.core.types import ConfigError, DataError, Loaded
from jax3dret.data import pipeline
from jax3dret.evaluators import fields as evaluator
from jax3dret.inputs import describe
from jax3dret.losses import fields, unified_latent
from jax3dret.models.field_encoders.inr_row import InrRow
from jax3dret.models.field_encoders.shape_decoder import ShapeDecoder
from jax3dret.models.fields.field_records import FieldRecords
from jax3dret.tasks.inret import experiment, networks, training_data

RNG = np.random.default_rng(0)  # of an input, which draws nothing
KINDS = ("hashgrid_udf", "hashgrid_sdf", "hashgrid_occ")


def config(**changes):
    return configs.Config(inr_fake.settings(experiment, **changes).to_dict())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def recipe(place):
    return experiment.make(config(), inr_fake.both(place))


@pytest.fixture(scope="module")
def state(recipe):
    return drawn.state(recipe)


@pytest.fixture(scope="module")
def batch(recipe, place):
    source = inr_fake.source(place)
    iterator = pipeline.train_iterator(source, recipe.train)
    found = next(iterator)
    iterator.close()
    return found


def test_a_batch_is_what_the_recipe_says(recipe, batch):
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (v.shape, np.dtype(v.dtype)) for k, v in recipe.example.items()
    }
    assert set(recipe.meta["kinds"]) == set(KINDS) and recipe.task.batch_coupled
    # Points and their values belong together, and rows to the class.
    radius = np.linalg.norm(batch["points"], axis=-1) - (0.3 + 0.2 * batch["label"])[:, None]
    np.testing.assert_allclose(batch["udf"], np.abs(radius), atol=1e-6)
    assert "sdf" not in batch  # the target is the UDF alone
    assert all(len({*map(tuple, points)}) == 16 for points in batch["points"])  # none twice


def test_rows_are_kept_once_and_are_those_of_the_inrs(recipe, place):
    source = inr_fake.source(place)
    for name, path in recipe.train.arrays:
        kept = np.load(path(source))
        kind = name.partition("/")[0]
        records = FieldRecords.from_manifest(source.manifest)
        field = records.field(source[5], *kind.rsplit("_", 1))
        made = InrRow(2, "float32")(field)[name]
        np.testing.assert_array_equal(kept[5], made)
        assert kept.shape == (12, *made.shape)
        assert path(source) == path(source) and not list(place.rglob("*.partial"))
    other = inr_fake.source(place, "test", each=3)
    assert recipe.train.arrays[0][1](other) != recipe.train.arrays[0][1](source)


def test_the_loss_is_equation_4(recipe, state, batch):
    encoders, decoder = experiment._encoders(config()), config().head.build()

    @jax.jit
    def ours_and_theirs(state, batch):
        embeddings, updated, values = [], [], []
        for kind in KINDS:
            variables = {
                "params": state.params["encoder"][kind],
                "batch_stats": state.model_state["encoder"][kind],
            }
            read = batch[f"{kind}/rows"], batch[f"{kind}/lattice"]
            embedding, stats = encoders[kind].network.apply(
                variables, *read, train=True, mutable=["batch_stats"]
            )
            embeddings.append(embedding)
            updated.append(stats["batch_stats"])
            head = {"params": state.params["head"]}
            values.append(decoder.apply(head, embedding, batch["points"]))
        key, step = jax.random.key(0), jnp.int32(0)
        loss = recipe.task.loss(state.params, state.model_state, batch, key, step)
        return loss, embeddings, updated, values

    (loss, (new, terms)), each, updated, values = ours_and_theirs(state, batch)
    udf = np.minimum(batch["udf"], 0.1)
    parts = [np.abs(np.minimum(value, 0.1) - udf).mean() for value in values]
    alignment = sum(np.square(each[i] - each[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2)))
    for kind, stats in zip(KINDS, updated, strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stats, new["encoder"][kind]
        )
    np.testing.assert_allclose(terms["reconstruction"], sum(parts), rtol=1e-5)
    np.testing.assert_allclose(terms["alignment"], alignment, rtol=1e-5)
    np.testing.assert_allclose(loss, sum(parts) + alignment, rtol=1e-5)
    # Each function has its own weights and statistics.
    means = [new["encoder"][kind]["mlp"]["norm0"]["mean"] for kind in KINDS]
    assert not np.allclose(means[0], means[1]) and not np.allclose(means[1], means[2])


def test_each_function_alone_is_trained_by_the_loss_of_its_fit():
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.normal(size=(2, 3, 5)), jnp.float32)
    batch = {
        key: jnp.asarray(rng.normal(size=(3, 5)), jnp.float32) for key in ("udf", "sdf", "occ")
    }
    own = networks.Objective(target="own", alignment=False)
    found = networks._reconstruction(values, batch, ["siren_sdf", "siren_udf"], own)
    wanted = fields.sdf(values[0], batch["sdf"]).mean()
    wanted += fields.udf(values[1], batch["udf"]).mean()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for target, norm in (("sdf", "l2"), ("occ", "l1")):
        one = networks.Objective(target=target)
        found = networks._reconstruction(values, batch, ["a_sdf", "a_udf"], one)
        wanted = unified_latent.reconstruction(values, batch[target], norm=norm, clamp=None)
        np.testing.assert_allclose(found, wanted.mean(-1).sum(), rtol=1e-6)
    weights = networks._weights(
        ["a_sdf", "a_udf", "a_occ", "b_occ"], networks.Objective(pairs={"udf_sdf": 2.0})
    )
    assert weights["a_sdf", "a_udf"] == 2.0 and set(weights.values()) == {1.0, 2.0}


def test_without_the_unified_decoder_each_kind_has_one_of_its_own():
    class Rows(nn.Module):
        embedding_dim: int = 4

        @nn.compact
        def __call__(self, rows, train=False):
            return nn.Dense(self.embedding_dim)(rows.mean(1))

    rng = np.random.default_rng(1)
    kinds, decoder = ("siren_udf", "siren_sdf"), ShapeDecoder(hidden=8)
    batch = {f"{kind}/rows": rng.normal(size=(3, 2, 5)) for kind in kinds}
    batch |= {"points": rng.normal(size=(3, 6, 3)), "udf": rng.uniform(size=(3, 6))}
    batch["sdf"] = rng.normal(size=(3, 6))
    batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch)
    objective = networks.Objective(target="own", alignment=False)
    encoders = {kind: networks.Encoder(Rows()) for kind in kinds}
    task = networks.inret_task(encoders, decoder, objective)
    params, state = task.init(jax.random.key(0), batch)
    first = [params["head"][kind]["out"]["kernel"] for kind in kinds]
    assert not np.allclose(*first)

    def terms(params):
        return task.loss(params, state, batch, jax.random.key(0), jnp.int32(0))[1][1]

    wanted = 0.0
    for kind, function in zip(kinds, (fields.udf, fields.sdf), strict=True):
        embedding = Rows().apply({"params": params["encoder"][kind]}, batch[f"{kind}/rows"])
        head = {"params": params["head"][kind]}
        values = decoder.apply(head, embedding[None], batch["points"])[0]
        wanted += function(values, batch[kind[-3:]]).mean()
    np.testing.assert_allclose(terms(params)["reconstruction"], wanted, rtol=1e-5)


def test_each_encoder_starts_from_a_stream_of_its_own():
    dense = nn.Dense(2)
    made = networks.inret_task(
        {kind: networks.Encoder(dense) for kind in KINDS}, None, networks.Objective()
    )
    batch = {f"{kind}/rows": jnp.ones((3, 4)) for kind in KINDS}
    params, _ = jax.jit(made.init)(jax.random.key(1), batch)
    assert set(params["encoder"]) == set(KINDS)
    for kind in KINDS[1:]:
        own = jax.jit(dense.init)(streams.stream(jax.random.key(1), kind), jnp.ones((2, 4)))
        np.testing.assert_array_equal(params["encoder"][kind]["kernel"], own["params"]["kernel"])
    kernels = [params["encoder"][kind]["kernel"] for kind in KINDS]
    assert not np.allclose(kernels[0], kernels[1])


def test_what_an_index_embeds_is_what_the_run_embeds(recipe, state, batch, place):
    model = experiment.model(config(), ("a", "b", "c"))
    abstract = jax.eval_shape(model.init, jax.random.key(0))
    trained = {"params": {"encoder": state.params["encoder"]}, "model_state": state.model_state}
    assert jax.tree.structure(abstract) == jax.tree.structure(trained)
    reads = model.inputs["inr"]
    assert describe.restore(describe.describe(reads), where="here") == reads
    source = inr_fake.source(place)
    records = FieldRecords.from_manifest(source.manifest)
    field = records.field(source[5], "hashgrid", "sdf")
    rows = reads.batch([reads.row(Loaded("field", field, "a.safetensors"), RNG)])
    found = jax.jit(model.embed)(trained, rows)["inr"]
    kept = {name: np.load(path(source))[5:6] for name, path in recipe.train.arrays}
    own = {name: value for name, value in kept.items() if name.startswith("hashgrid_sdf/")}
    embed = jax.jit(recipe.task.embed)
    wanted = embed(state.params, state.model_state, own)
    assert set(wanted) == {"inr"} and found.shape == (1, model.width)
    np.testing.assert_allclose(found, wanted["inr"], atol=1e-6)
    other = embed(state.params, state.model_state, kept)
    assert set(other) == {"inr", *KINDS}
    assert not np.allclose(other["hashgrid_udf"], other["hashgrid_sdf"])
    for kind in ("triplane", "siren"):
        field = records.field(source[5], kind, "sdf")
        with pytest.raises(DataError, match=rf"a.safetensors: .*'{kind}_sdf'.*Distil"):
            reads.row(Loaded("field", field, "a.safetensors"), RNG)
    with pytest.raises(ConfigError, match="no encoder .*'triplane_sdf'.*Distil"):
        recipe.task.embed(
            state.params, state.model_state, {"triplane_sdf/rows": jnp.zeros((1, 5, 8))}
        )


@pytest.fixture(scope="module")
def stepping(recipe):
    """The compiled train step over some devices, and a state before its first one."""

    def on(devices):
        mesh = jax.sharding.Mesh(np.array(devices).reshape(-1, 1), ("data", "fsdp"))
        state, shardings = drawn.sharded_state(recipe, mesh)
        out = (shardings, sharding.replicated(mesh))
        return mesh, state, jax.jit(train.make_step(recipe, 0), out_shardings=out)

    return {1: on(jax.devices()[:1]), 4: on(jax.devices())}


def test_four_devices_take_the_step_of_one(stepping, batch):
    found = {}
    for count, (mesh, state, step) in stepping.items():
        new, metrics = step(state, sharding.put_batch(batch, mesh))
        found[count] = {key: float(value) for key, value in metrics.items()}
        found[count]["mean"] = np.asarray(
            new.model_state["encoder"]["hashgrid_occ"]["mlp"]["norm0"]["mean"]
        )
    assert found[1].keys() >= {"loss", "grad_norm", "reconstruction", "alignment"}
    for key, value in found[1].items():
        np.testing.assert_allclose(found[4][key], value, rtol=1e-5, err_msg=key)


def test_a_few_steps_learn_and_the_evaluator_measures_all_pairs(recipe, stepping, place, tmp_path):
    mesh, state, step = stepping[1]
    iterator = pipeline.train_iterator(inr_fake.source(place), recipe.train)
    losses = []
    for _ in range(30):
        state, metrics = step(state, sharding.put_batch(next(iterator), mesh))
        losses.append(float(metrics["loss"]))
    iterator.close()
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    embed = train.make_embed(recipe.task, state.params, state.model_state, mesh)
    found = recipe.evaluators["retrieval"](embed, tmp_path / "retrieval")
    result = json.loads((tmp_path / "retrieval" / "result.json").read_text())
    assert result["metrics"] == found and list(result["about"]) == list(found)
    across = np.array(result["across"]["hit_rate_1"])
    assert across.shape == (3, 3) and result["across"]["queries"] == list(KINDS)
    assert found["hit_rate_1"] == pytest.approx(np.diag(across).mean())
    others = across[~np.eye(3, dtype=bool)]
    assert found["hit_rate_1_across"] == pytest.approx(others.mean())
    assert found["hit_rate_1_all"] == pytest.approx(across.mean())
    assert found["hit_rate_1_udf_occ"] == pytest.approx(across[0, 2])
    allowed = result["across"]["same_shape"]
    assert allowed[0][0] is None and found["hit_rate_1_sdf_occ_same_shape"] == allowed[1][2]
    assert (tmp_path / "retrieval" / "embeddings.npy").is_file()
    # The INRs of a class are alike: the encoder need not have learned much.
    assert found["hit_rate_1"] >= 0.6


def test_the_time_of_a_query_is_told_by_stage(recipe, place):
    values = inr_fake.settings(experiment)
    values.evals.retrieval.timed_queries = 2
    made = experiment.make(configs.Config(values.to_dict()), inr_fake.both(place))
    seen = []

    def embed(batch):
        seen.append(batch)
        return (
            {"inr": np.random.default_rng(0).normal(size=(len(batch["mask"]), 16))}
            if ("mask" in batch)
            else {"inr": np.ones((1, 16))}
        )

    found = made.evaluators["retrieval"](embed, None)
    assert found["seconds_per_query"] > 0
    live = [batch for batch in seen if "mask" not in batch]
    assert len(live) == 3 and set(live[0]) == {"hashgrid_udf/rows", "hashgrid_udf/lattice"}
    kept = np.load(dict(made.train.arrays)["hashgrid_udf/lattice"](inr_fake.both(place)("test")))
    np.testing.assert_array_equal(live[1]["hashgrid_udf/lattice"][0], kept[0])


def test_records_without_an_inr_are_left_out_and_counted(place, caplog):
    without = {"hashgrid_occ": ["train/1", "train/7", "test/2"]}
    opened = inr_fake.both(place / "without", without=without)
    opened("test").manifest.update(inr_fake.manifest(without))
    made = experiment.make(config(), opened)
    assert "2 of 12 records lack" in caplog.text
    sampler = made.train.sampler
    batches = np.concatenate([sampler(np.zeros(12), 0, epoch) for epoch in range(40)])
    assert batches.shape == (40, 8) and {*np.unique(batches)} == {*range(12)} - {1, 7}
    assert all(len({*row}) == 8 for row in batches.tolist())
    assert not np.array_equal(sampler(np.zeros(12), 0, 0), sampler(np.zeros(12), 1, 0))
    side = evaluator.having(opened("test"), "hashgrid_occ")
    assert len(side) == 8 and "test/2" not in side.ids and side.dropped_items == 1
    assert evaluator.having(opened("test"), "hashgrid_sdf") is opened("test")
    first = made.train.arrays[0]
    assert np.isfinite(np.load(first[1](opened("train")))).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ("hashgird",)}, "did you mean 'hashgrid'"),
        ({"functions": ("sdf", "sdf")}, "each once"),
        ({"functions": ()}, "one or more"),
        ({"architectures": ("octree",)}, "no INRs of the architecture 'octree'"),
        ({"inrs": {"hashgrid": {"levels": 3}}}, "its hashgrid_udf/rows is .*set config.inrs"),
        ({"loss": {"target": "uds"}}, "did you mean 'udf'"),
        ({"loss": {"norm": "l3"}}, "config.loss.norm 'l3'"),
        ({"loss": {"decoder": False, "alignment": False}}, "trains nothing"),
        ({"loss": {"decoder": False}, "functions": ("sdf",)}, "trains nothing of hashgrid_sdf"),
        ({"evals": {"retrieval": {"cuts": (5, 10)}}}, "1 must be among them"),
        ({"lattice": {"resolution": 48}}, "power of two"),
        ({"lattice": {"precision": "float8"}}, "float16 or float32"),
        ({"architectures": ("hashgrid", "siren"), "plain_model": {"mlp_out": 4}}, "one width"),
        ({"evals": {"retrieval": {"kinds": ("triplane_sdf",)}}}, "Distil"),
        ({"evals": {"retrieval": {"kinds": ("sdf",)}}}, "no kind of INR"),
    ],
    ids=lambda x: str(x)[:30] if isinstance(x, str) else "",
)
def test_what_cannot_be_is_refused(changes, said, place):
    with pytest.raises(ConfigError, match=said):
        experiment.make(config(**changes), inr_fake.both(place))


def test_a_pool_or_a_data_set_that_does_not_do_is_refused(place):
    draw = training_data.QueryPoints(25, ("sdf",))
    with pytest.raises(DataError, match="a query pool of 24 points; lower"):
        draw(inr_fake.source(place)[0], np.random.default_rng(0))
    source = inr_fake.source(place)
    del source.manifest["source"]["inrs"]
    reader = experiment._reader(config())
    with pytest.raises(ConfigError, match="holds no INRs"):
        reader.records_of(source, KINDS[0])


def test_all_architectures_share_one_space(place):
    made = experiment.make(
        config(architectures=("siren", "triplane"), functions=("sdf",)), inr_fake.both(place)
    )
    state = train.abstract_state(made, 0)
    embedded = jax.eval_shape(made.task.embed, state.params, state.model_state, dict(made.example))
    assert embedded["siren_sdf"].shape == embedded["triplane_sdf"].shape == (8, 16)
    assert dataclasses.asdict(made.model.inputs["inr"])["kinds"] == ("siren_sdf", "triplane_sdf")
    assert made.example["triplane_sdf/planes"].shape == (8, 3, 2, 2, 2)
