"""What the command line of an experiment asks for, as data and as a line to type again."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex

from jax3dret.core.config import Config


@dataclasses.dataclass(frozen=True)
class Command:
    """What the command line asks for.

    spec: the config as typed, "configs/NAME.py[:VARIANT]". full_name: "NAME:VARIANT". overrides:
    keys and values of --config.KEY=VALUE, in order. hosts: coordinator, number of processes, number
    of this one; None where it was not given.
    """

    spec: str
    full_name: str
    config: Config
    overrides: tuple[tuple[str, str], ...]
    workdir: pathlib.Path
    mode: str = "train_and_eval"
    hosts: tuple[str | None, int | None, int | None] = (None, None, None)

    def text(self) -> str:
        """One that a person can run again from the same folder: without the places of this machine
        where it does without.
        """
        path, variant = self.spec.partition(":")[0], self.full_name.partition(":")[2]
        flags = [f"--config={_from_here(path)}:{variant}"]
        workdir = _from_here(str(self.workdir))
        if not pathlib.Path(workdir).is_absolute():
            flags.append(f"--workdir={workdir}")
        for key, value in self.overrides:
            value = _from_here(value)
            is_place = key in ("data.data_dir", "data.manual_dir")
            if not (is_place and pathlib.Path(value).is_absolute()):
                flags.append(f"--config.{key}={value}")
        return shlex.join(["python", "-m", "jax3dret.main", *flags])


def _from_here(text: str) -> str:
    """A path below the working directory as one from there; any other text as it is."""
    path = pathlib.Path(text)
    here = pathlib.Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else text
