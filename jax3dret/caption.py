"""`python -m jax3dret.caption --config=configs/NAME.py[:VARIANT]`: makes the captions that a run
trains with, by a vision-language model that looks at the pictures.

The flags are those of the run, `python -m jax3dret.main`. A process of its own, because the model
needs the memory that training takes: JAX claims no accelerator here. Ended before its end, the same
command goes on behind the last item.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jax3dret import entry
from jax3dret.main import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed, 2 the command or the config is wrong."""
    return entry.run(lambda: _run(sys.argv[1:] if argv is None else list(argv)))


def _run(argv: Sequence[str]) -> int:
    args, overrides = parse(argv, "jax3dret.caption", __doc__)
    import jax

    from jax3dret import run
    from jax3dret.core import config as configs
    from jax3dret.core.logging import setup_console
    from jax3dret.core.types import ConfigError

    # Before anything of JAX runs, for the first thing that does takes the accelerators.
    jax.config.update("jax_platforms", "cpu")
    with entry.terminable():
        config, full_name = configs.load(args.config, overrides)
        task = configs.resolve_module(config.task, where="config.task")
        if not hasattr(task, "caption"):
            raise ConfigError(f"{full_name}: its task, {config.task}, reads no captions")
        setup_console()
        sys.stdout.write(f"{task.caption(config, run.opener(config))}\n")
    return entry.DONE


if __name__ == "__main__":
    sys.exit(main())
