"""Learning rate and beta1 of every epoch, as torch OneCycleLR gives them to the published code."""

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core import schedules

STEPS_PER_EPOCH = 100


def check_schedule(case):
    assert case.info["configs"], f"{case.path.name}: no configs"
    for name, config in case.info["configs"].items():
        epochs, pct_start = config["epochs"], config["pct_start"]
        ours = {
            "lr_per_epoch": schedules.one_cycle(
                config["max_lr"], epochs, STEPS_PER_EPOCH, pct_start
            ),
            "beta1_per_epoch": schedules.one_cycle_beta1(epochs, STEPS_PER_EPOCH, pct_start),
        }
        expected = case.group(f"out/{name}")
        assert set(expected) == set(ours)
        # The first and the last step of each epoch.
        for step in (
            np.arange(epochs) * STEPS_PER_EPOCH,
            np.arange(epochs) * STEPS_PER_EPOCH + STEPS_PER_EPOCH - 1,
        ):
            for key, schedule in ours.items():
                np.testing.assert_allclose(
                    schedule(step), expected[key], rtol=1e-12, err_msg=f"{name} {key}"
                )
                traced = jax.jit(jax.vmap(schedule))(jnp.asarray(step))
                np.testing.assert_allclose(
                    traced, expected[key], rtol=1e-6, err_msg=f"{name} {key} float32"
                )


CHECKS = {"schedule": check_schedule}
