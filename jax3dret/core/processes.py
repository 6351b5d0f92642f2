"""Several processes as one run: whether the command line or the platform says so, and joining them."""

from __future__ import annotations

import os
import re

import jax

from jax3dret.core.types import ConfigError


def several(coordinator: str | None, num_processes: int | None, process_id: int | None) -> bool:
    """Whether the command line or the platform says that this process is one of several."""
    given = any(value is not None for value in (coordinator, num_processes, process_id))
    return (
        given
        or int(os.environ.get("SLURM_NTASKS", "1")) > 1
        or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    )


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Waits for the other processes, if there are any; JAX finds them itself where the platform
    tells.

    Raises:
        ConfigError: some of the three are given and not all, or they contradict each other.
    """
    given = (coordinator, num_processes, process_id)
    if coordinator is not None and num_processes is not None and process_id is not None:
        if not re.fullmatch(r".+:\d+", coordinator):
            raise ConfigError(f"--coordinator={coordinator}: give HOST:PORT")
        if not 0 <= process_id < num_processes:
            raise ConfigError(
                f"--process_id={process_id} of --num_processes={num_processes}: processes count "
                "from 0"
            )
        jax.distributed.initialize(coordinator, num_processes, process_id)
    elif any(value is not None for value in given):
        raise ConfigError(
            "--coordinator, --num_processes and --process_id go together; give all three or none"
        )
    elif several(*given):
        jax.distributed.initialize()
