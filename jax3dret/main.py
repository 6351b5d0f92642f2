"""`python -m jax3dret.main --config=configs/NAME.py[:VARIANT]`: prepares the data, trains,
evaluates, writes the report.

Flags in, one call out: `run.start`, or the `start` of the config's task, where it has one (a table
of runs, `experiments.tables`).
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
from collections.abc import Sequence

from jax3dret import entry

MODES = ("train_and_eval", "train", "eval")
FLAGS = ("--config", "--workdir", "--mode", "--coordinator", "--num_processes", "--process_id")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, runs, and returns the exit code: 0 done, 1 failed, 2 the command or
    the config is wrong.
    """
    return entry.run(lambda: _run(sys.argv[1:] if argv is None else list(argv)))


def parse(
    argv: Sequence[str], module: str = "jax3dret.main", description: str | None = __doc__
) -> tuple[argparse.Namespace, tuple[tuple[str, str], ...]]:
    """The arguments, and the `--config.KEY=VALUE` overrides in order.

    module, description: of the command, for messages. Raises ConfigError for any other argument.
    """
    parser = entry.ArgumentParser(
        prog=f"python -m {module}", description=description, allow_abbrev=False
    )
    parser.add_argument(
        "--config", required=True, help="configs/NAME.py[:VARIANT]; no VARIANT means :demo"
    )
    parser.add_argument(
        "--workdir", help="checkpoints, logs and the report; default runs/NAME_VARIANT"
    )
    parser.add_argument("--mode", default="train_and_eval", choices=MODES)
    parser.add_argument("--coordinator", help="HOST:PORT of process 0, for several hosts")
    parser.add_argument("--num_processes", type=int)
    parser.add_argument("--process_id", type=int)
    known, rest = parser.parse_known_args(argv)
    overrides: list[tuple[str, str]] = []
    words = iter(rest)
    for word in words:
        flag, equals, value = word.partition("=")
        if not flag.startswith("--config."):
            raise entry.unknown_argument(word, list(FLAGS))
        if not equals:
            value = next(words, "")
            if not value or value.startswith("--"):
                parser.error(f"{flag}: give a value, {flag}=VALUE")
        overrides.append((flag.removeprefix("--config."), value))
    return known, tuple(overrides)


def _run(argv: Sequence[str]) -> int:
    args, overrides = parse(argv)
    from jax3dret import run
    from jax3dret.core import config as configs
    from jax3dret.core import processes
    from jax3dret.core.command import Command
    from jax3dret.core.logging import setup_console

    hosts = (args.coordinator, args.num_processes, args.process_id)
    # Of several processes the runtime that joins them hears SIGTERM.
    several = processes.several(*hosts)
    with contextlib.nullcontext() if several else entry.terminable():
        config, full_name = configs.load(args.config, overrides)
        workdir = pathlib.Path(args.workdir or f"runs/{full_name.replace(':', '_')}")
        setup_console()
        task = configs.resolve_module(config.task, where="config.task")
        command = Command(args.config, full_name, config, overrides, workdir, args.mode, hosts)
        with entry.traceback_in(workdir):
            return int(getattr(task, "start", run.start)(command))


if __name__ == "__main__":
    sys.exit(main())
