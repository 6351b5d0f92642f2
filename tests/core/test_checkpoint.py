import dataclasses
import errno
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core.toy import make_recipe

from jax3dret.core import checkpoint, sharding, train
from jax3dret.core.types import ConfigError, DataError

THEIRS = {
    "encoder": {"kernel": np.ones((3, 2)), "bias": np.full(2, 5.0)},
    "old_head": {"kernel": np.ones((2, 7))},
}


def ours():
    return {
        "net": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)},
        "head": {"kernel": jnp.zeros((2, 4))},
    }


def test_match_renames_fills_and_lists():
    out, rows = checkpoint.match_params(
        ours(), THEIRS, rename=[(r"^encoder/", "net/")], fresh=["head/.*"]
    )
    np.testing.assert_array_equal(out["net"]["bias"], [5, 5])
    np.testing.assert_array_equal(out["head"]["kernel"], 0)
    assert {(r.ours, r.theirs, r.status) for r in rows} == {
        ("net/kernel", "encoder/kernel", "loaded"),
        ("net/bias", "encoder/bias", "loaded"),
        ("head/kernel", "", "initial"),
        ("", "old_head/kernel", "unused"),
    }
    table = checkpoint.format_matches(rows)
    assert "2 loaded, 1 initial, 1 unused" in table and "net/kernel  <-  encoder/kernel" in table


def test_what_does_not_fit_is_refused_with_the_list():
    with pytest.raises(
        ConfigError,
        match=r"run7: 3 parameters do not fit: .*is not there.*config.checkpoint.rename",
    ):
        checkpoint.match_params(ours(), THEIRS, source="run7")
    with pytest.raises(ConfigError, match=r"head/kernel \(2, 4\) is \(2, 7\) there"):
        checkpoint.match_params(ours(), THEIRS, rename=[("^encoder/", "net/"), ("^old_", "")])


def saved(folder, **kwargs):
    recipe = make_recipe(**kwargs)
    mesh = sharding.make_mesh(2, 2)
    state, shardings = train.make_state(recipe, mesh, 0)
    checkpoints = checkpoint.Checkpoints(folder, keep=2)
    checkpoints.save(state, {"position": 3}, {"system": "toy"})
    checkpoints.wait()
    return checkpoints, state, checkpoint.abstract_like(state, shardings)


def test_round_trip_of_state_position_and_meta(tmp_path):
    checkpoints, state, abstract = saved(tmp_path)
    back, position = checkpoints.restore(abstract)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(back))
    assert position == {"position": 3} and checkpoints.meta() == {"system": "toy"}
    assert back.params["a"]["kernel"].sharding == state.params["a"]["kernel"].sharding
    params, _ = checkpoints.restore_model(abstract.params, abstract.model_state)
    np.testing.assert_array_equal(params["a"]["kernel"], state.params["a"]["kernel"])


def test_another_architecture_is_named(tmp_path):
    saved(tmp_path)
    recipe = make_recipe(width=4)
    state, shardings = train.make_state(recipe, sharding.make_mesh(2, 2), 0)
    with pytest.raises(
        ConfigError, match=r"another architecture: .*is \(8,?.* there and \(4,?.* here"
    ):
        checkpoint.Checkpoints(tmp_path).restore(checkpoint.abstract_like(state, shardings))


def test_no_checkpoint(tmp_path):
    with pytest.raises(DataError, match="holds no checkpoint"):
        checkpoint.Checkpoints(tmp_path).meta()


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    _, _, abstract = saved(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "0" / "model")
    with pytest.raises((DataError, ConfigError)) as error:
        checkpoint.Checkpoints(tmp_path).restore(abstract)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_full_disk_is_named_and_the_last_checkpoint_untouched(tmp_path, monkeypatch):
    checkpoints, state, _ = saved(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(DataError, match="disk is full"):
        checkpoints.save(state.replace(step=jnp.int32(9)), None, {})
    assert checkpoint.Checkpoints(tmp_path).latest() == 0


def test_half_written_checkpoints_are_ignored_and_cleaned(tmp_path):
    _, state, _ = saved(tmp_path)
    half = tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "0", half)
    again = checkpoint.Checkpoints(tmp_path, keep=2)
    assert again.latest() == 0
    again.save(state.replace(step=jnp.int32(9)), None, {})
    again.close()
    assert not half.exists() and checkpoint.Checkpoints(tmp_path).latest() == 9


def test_a_disk_without_room_is_found_before_anything_is_written(tmp_path, monkeypatch):
    recipe = make_recipe()
    state, _ = train.make_state(recipe, sharding.make_mesh(2, 2), 0)
    checkpoints = checkpoint.Checkpoints(tmp_path, keep=2)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(
        DataError, match=r"checkpoints: the disk is full: 1,048,576 bytes are free, .* step 0 takes"
    ):
        checkpoints.save(state, {}, {})
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_damaged_checkpoint_says_from_where_a_run_can_go_on(tmp_path):
    checkpoints, state, abstract = saved(tmp_path)
    checkpoints.save(dataclasses.replace(state, step=state.step + 5), {}, {})
    checkpoints.wait()
    for file in (tmp_path / "checkpoints" / "5" / "model").iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    with pytest.raises(
        DataError,
        match=r"checkpoints/5: the checkpoint is damaged: model/_METADATA is missing; without this "
        r"folder a run goes on from step 0",
    ):
        checkpoint.Checkpoints(tmp_path).restore(abstract)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The workdir of a checkpoint, and what is in it as shapes."""
    folder = tmp_path_factory.mktemp("one")
    checkpoints, _, abstract = saved(folder)
    checkpoints.close()
    return folder, abstract


@pytest.mark.parametrize("how", ["cut", "gone"])
@pytest.mark.parametrize(
    "name", ["model", "meta", "model/_METADATA", "model/manifest.ocdbt", "meta/metadata", "model/d"]
)
def test_a_damaged_checkpoint_says_which_file(one, tmp_path, name, how):
    workdir = tmp_path / "w"
    shutil.copytree(one[0], workdir)
    path = workdir / "checkpoints" / "0" / name
    if how == "cut" and name == "model/d":  # where the arrays lie
        path = next(path.iterdir())
    if how == "gone" and name == "model/manifest.ocdbt":  # it leads to the others
        name = "files in model"
    if how == "gone" or path.is_dir():
        (shutil.rmtree if path.is_dir() else type(path).unlink)(path)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    opened = checkpoint.Checkpoints(workdir)
    read = opened.meta if name.startswith("meta") else opened.raw_model
    with pytest.raises(DataError) as error:
        read()
    step, said = workdir / "checkpoints" / "0", str(error.value)
    assert said.startswith(f"{step}: the checkpoint is damaged: {name}") and "\n" not in said
    assert "missing" in said or "cut off or overwritten" in said
    assert said.endswith("; there is no earlier one")


def test_what_may_not_be_read_is_not_said_to_be_written(one, monkeypatch):
    opened = checkpoint.Checkpoints(one[0])
    denied = PermissionError(errno.EACCES, "Permission denied", "somewhere/meta")

    def deny(*args, **kwargs):
        raise denied

    monkeypatch.setattr(opened._manager, "restore", deny)
    with pytest.raises(DataError, match=r"checkpoints/0: no permission to read somewhere/meta;"):
        opened.meta()
