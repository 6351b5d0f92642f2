"""Which devices fit fields: all of this process, and on a CPU one for each core."""

from __future__ import annotations

import os

import jax
import numpy as np
from jax.sharding import Mesh

AXIS = "shapes"
_FLAG, _OPTION = "xla_force_host_platform_device_count", "jax_num_cpu_devices"


def one_for_each_core() -> None:
    """Makes each core of the CPU a device of its own, for a program that fits many shapes there.

    A step reads and writes rows of tables one after the other, which one device does on one core.
    Only before the first computation of the process; later, or where the number of devices is
    chosen already, nothing changes.
    """
    if _FLAG in os.environ.get("XLA_FLAGS", "") or getattr(jax.config, _OPTION) > 0:
        return
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    try:
        jax.config.update(_OPTION, cores)
    except RuntimeError:  # devices are in use already
        return


def over_shapes(count: int) -> Mesh:
    """The devices of this process in one row, as many as have four shapes or more each."""
    return Mesh(np.asarray(jax.local_devices()[: max(1, count // 4)]), (AXIS,))
