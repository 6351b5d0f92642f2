import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jax3dret.core import sharding
from jax3dret.core.types import ConfigError, TrainState


def state():
    params = {
        "a": {"kernel": jnp.zeros((8, 6)), "bias": jnp.zeros(6)},
        "b": {"kernel": jnp.zeros((6, 4))},
    }
    return TrainState(
        jnp.zeros((), jnp.int32), params, {"stats": jnp.zeros(6)}, optax.adamw(1e-3).init(params)
    )


RULES = ((r"a/kernel", ("fsdp", None)), (r".*/kernel", (None, "fsdp")))


def test_optimizer_slots_lie_where_their_parameter_lies():
    mesh = sharding.make_mesh(2, 2)
    out = sharding.state_shardings(state(), RULES, mesh)
    assert out.params["a"]["kernel"].spec == PartitionSpec("fsdp", None)
    assert out.params["b"]["kernel"].spec == PartitionSpec(None, "fsdp")
    assert out.params["a"]["bias"].spec == PartitionSpec()
    adam = out.opt_state[0]
    assert adam.mu["a"]["kernel"].spec == adam.nu["a"]["kernel"].spec == PartitionSpec("fsdp", None)
    assert adam.count.spec == out.step.spec == PartitionSpec()


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"train": 18}, "config.train.batch_size=18 .* over the 4 devices; 16 and 20 do"),
        ({"train": 3}, "over the 4 devices; 4 is the smallest that does"),
        ({"train": 64, "accumulate": 6}, r"the 4 devices, and into .*=6 parts; 60 and 72 do"),
        ({"train": 20, "evaluate": 20}, None),
        ({"train": 24, "accumulate": 8}, None),  # micro-batches of three rows on four devices
        ({"evaluate": 3}, None),  # filled up to the devices
        ({}, None),
    ],
)
def test_batch_sizes_that_do_not_divide(sizes, says):
    mesh = sharding.make_mesh(2, 2)
    if says is None:
        sharding.check_batch_sizes(mesh, **sizes)
        return
    with pytest.raises(ConfigError, match=says):
        sharding.check_batch_sizes(mesh, **sizes)


def test_batch_sizes_on_several_processes(monkeypatch):
    monkeypatch.setattr("jax3dret.core.sharding.jax.process_count", lambda: 2)
    mesh = sharding.make_mesh(4, 1)
    with pytest.raises(ConfigError, match="over the 4 devices of 2 processes; 8 and 12 do"):
        sharding.check_batch_sizes(mesh, train=10, evaluate=10)
    with pytest.raises(ConfigError, match="config.eval.batch_size=33 .* 2 processes; 32 and 34 do"):
        sharding.check_batch_sizes(mesh, train=16, evaluate=33)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (((r"c/kernel", ("fsdp",)),), "matches no parameter"),
        (((r"a/bias", ("model",)),), "no mesh axis 'model'"),
        (((r"a/bias", ("data", "fsdp")),), "the rule gives 2 axes"),
        (((r"a/bias", ("data",)),), "does not split over 4"),
        (((r"a/bias", 4),), "4 is not a list of mesh axes"),
        ((1, 2), "config.sharding: 1 is not a pair"),
    ],
)
def test_rules_that_cannot_hold(unchecked, rules, says):
    with pytest.raises(ConfigError, match=says):
        sharding.state_shardings(state(), rules, sharding.make_mesh(4, 1))


def test_mesh_axes_must_fit_the_devices():
    assert dict(sharding.make_mesh(-1, 2).shape) == {"data": 2, "fsdp": 2}
    for data, fsdp in ((3, 1), (-1, 3), (0, 1), (-1, 0), (-1, -1), (-2, -2)):
        with pytest.raises(ConfigError, match="config.mesh"):
            sharding.make_mesh(data, fsdp)


def test_a_batch_is_split_over_all_devices_and_keeps_its_order():
    mesh = sharding.make_mesh(2, 2)
    rows = np.arange(8 * 3, dtype=np.float32).reshape(8, 3)
    out = sharding.put_batch({"x": rows}, mesh)["x"]
    np.testing.assert_array_equal(out, rows)
    assert {s.data.shape for s in out.addressable_shards} == {(2, 3)}
    with pytest.raises(ConfigError, match="multiple of 4"):
        sharding.put_batch({"x": rows[:6]}, mesh)


def test_path_names():
    assert sharding.path_name(jax.tree_util.tree_flatten_with_path({"a": [1]})[0][0][0]) == "a/0"
