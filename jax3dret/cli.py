"""The `jax3dret` command: prepares data, measures, rewrites reports, says what is installed."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from collections.abc import Sequence
from typing import Any

from jax3dret import __version__, entry
from jax3dret.core.config import nearest
from jax3dret.core.logging import setup_console
from jax3dret.core.types import ConfigError

BENCHES = ("pointbert", "point_ops", "index")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code: 0 done, 1 failed, 2 the command is wrong."""
    return entry.run(lambda: _run(sys.argv[1:] if argv is None else list(argv)))


def _run(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    setup_console("WARNING" if getattr(args, "json", False) else "INFO")
    return args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = entry.ArgumentParser(prog="jax3dret", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jax3dret {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=entry.ArgumentParser)

    data = commands.add_parser("data", help="list the data sets, or prepare one")
    actions = data.add_subparsers(required=True, metavar="ACTION", parser_class=entry.ArgumentParser)
    listing = actions.add_parser("list", help="what can be prepared, what is prepared, and what raw files it takes")
    listing.add_argument("--data-dir")
    listing.set_defaults(run=_data_list)
    building = actions.add_parser("build", help="prepare a data set once")
    building.add_argument("name", metavar="NAME")
    building.add_argument("--manual-dir", help="folder of the raw files")
    building.add_argument(
        "--data-dir", help="where prepared data sets lie; default $TFDS_DATA_DIR, else ~/tensorflow_datasets"
    )
    building.set_defaults(run=_data_build)

    report = commands.add_parser("report", help="write the report of a workdir again")
    report.add_argument("workdir", metavar="WORKDIR", type=pathlib.Path)
    report.set_defaults(run=_report)

    bench = commands.add_parser("bench", help="measure against what one would use instead")
    bench.add_argument("names", metavar="NAME", nargs="*", help=f"of {', '.join(BENCHES)}; default: all")
    bench.add_argument("--json", action="store_true", help="one JSON object for each NAME on stdout, and nothing else")
    bench.add_argument("--repeats", type=int, default=5, help="measurements of each side; the median counts")
    bench.set_defaults(run=_bench)

    info = commands.add_parser("info", help="versions, devices, folders")
    info.set_defaults(run=_info)
    return parser


def _data_list(args: argparse.Namespace) -> int:
    from data_pipelines import build
    from jax3dret.data.source import data_root

    _out(f"prepared data sets lie in {data_root(args.data_dir)}\n")
    for item in build.available():
        try:
            ready = build.find(item.name, args.data_dir) is not None
        except ConfigError:  # several folders of meshes are prepared
            ready = True
        _out(f"{item.name:28} {'prepared' if ready else '-':9} {item.description}")
        if item.manual:
            _out(f"{'':38} raw files: {' '.join(item.manual.split())}")
    return entry.DONE


def _data_build(args: argparse.Namespace) -> int:
    from data_pipelines import build

    path = build.build(args.name, data_dir=args.data_dir, manual_dir=args.manual_dir)
    manifest = json.loads((path / "manifest.json").read_text())
    counts = ", ".join(f"{split} {part['items']}" for split, part in manifest["splits"].items())
    _out(
        f"{manifest['name']}: {counts}, {len(manifest['class_names'])} classes, {len(manifest['skipped'])} files skipped"
    )
    for skipped in manifest["skipped"]:
        _out(f"  skipped {skipped['file']}: {skipped['reason']}")
    _out(str(path))
    return entry.DONE


def _report(args: argparse.Namespace) -> int:
    from jax3dret.search import report

    _out(str(report.write_report(args.workdir)))
    return entry.DONE


def _bench(args: argparse.Namespace) -> int:
    import importlib

    if args.repeats < 1:
        raise ConfigError(f"--repeats={args.repeats}: give 1 or more")
    for name in args.names:
        if name not in BENCHES:
            raise ConfigError(f"there is no bench '{name}'{nearest(name, BENCHES)}; there are: {', '.join(BENCHES)}")
    for name in args.names or BENCHES:
        cases = importlib.import_module(f"jax3dret.bench.{name}").cases(args.repeats)
        result = {"name": name, "device": _device(), "cases": cases}
        _out(json.dumps(result) if args.json else _table(result))
    return entry.DONE


def _table(result: dict[str, Any]) -> str:
    lines = [f"{result['name']} on {result['device']}"]
    for case in result["cases"]:
        lines.append(
            f"  {case['name']:32} {case['ours']:10.4g} {case['unit']:10} {case['baseline_name']:32} {case['baseline']:10.4g}"
            f"  ratio {case['ratio']:.3f}"
        )
    return "\n".join(lines)


def _info(args: argparse.Namespace) -> int:
    import jax

    from data_pipelines import build
    from jax3dret.data.source import data_root

    _out(f"jax3dret {__version__}, Python {platform.python_version()}, {platform.platform()}")
    _out(
        f"devices: {', '.join(f'{d.platform}:{d.id} {d.device_kind}' for d in jax.devices())}; {os.cpu_count()} CPU cores"
    )
    for name in (
        "jax",
        "flax",
        "optax",
        "orbax-checkpoint",
        "grain",
        "tensorflow-datasets",
        "scann",
        "numpy",
        "trimesh",
    ):
        try:
            _out(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            _out(f"  {name} not installed")
    prepared = [item.name for item in build.available() if item.manual is None and build.find(item.name)]
    _out(f"prepared data: {data_root()}: {', '.join(prepared) or 'nothing yet'}")
    return entry.DONE


def _device() -> str:
    import jax

    return f"{jax.devices()[0].device_kind} x {len(jax.devices())}, {os.cpu_count()} CPU cores"


def _out(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
