"""`python -m jax3dret.main --config=configs/NAME.py[:VARIANT]`: prepares the data, trains, evaluates, writes the report.

No logic of its own: the config names a task, the task makes a recipe, `core.train` runs it, `report.page` shows it.
A task that trains in stages (`tasks.mvhgnn.experiment`) has `stages` beside `make`: each is a run whose checkpoint the next one starts from.
A task of several runs (`experiments.tables`) has `plan` in place of `make`, and starts this command for each of them.
"""

from __future__ import annotations

from jax3dret import entry  # isort: split

import argparse
import functools
import importlib.metadata
import logging
import pathlib
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import multihost_utils

from data_pipelines import build
from jax3dret.core import checkpoint, files, optim, processes, sharding, train
from jax3dret.core import config as configs
from jax3dret.core.logging import MetricWriter, log_parameters, setup_console
from jax3dret.core.types import ConfigError, DataError, DataSpec, Recipe
from jax3dret.data import pipeline
from jax3dret.report import page, table

log = logging.getLogger("jax3dret")
MODES = ("train_and_eval", "train", "eval")
PACKAGES = (
    "jax3dret",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
    "scann",
    "trimesh",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, runs, and returns the exit code: 0 done, 1 failed, 2 the command or the config is wrong."""
    folder: list[pathlib.Path] = []
    return entry.run(
        lambda: _run(sys.argv[1:] if argv is None else list(argv), folder),
        where=lambda: folder[0] if folder else None,
    )


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """The arguments, and the `--config.KEY=VALUE` overrides in order."""
    parser = entry.ArgumentParser(
        prog="python -m jax3dret.main", description=__doc__, allow_abbrev=False
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
            raise entry.unknown_argument(
                word,
                [
                    "--config",
                    "--workdir",
                    "--mode",
                    "--coordinator",
                    "--num_processes",
                    "--process_id",
                ],
            )
        if not equals:
            value = next(words, "")
            if not value or value.startswith("--"):
                raise ConfigError(f"{flag}: give a value, {flag}=VALUE")
        overrides.append((flag.removeprefix("--config."), value))
    return known, overrides


def _place(args: argparse.Namespace) -> tuple[str | None, int | None, int | None]:
    return args.coordinator, args.num_processes, args.process_id


def _run(argv: Sequence[str], folder: list[pathlib.Path]) -> int:
    args, overrides = parse(argv)
    if processes.several(*_place(args)):  # the runtime that joins them hears SIGTERM
        return _work(args, overrides, folder)
    with entry.terminable():
        return _work(args, overrides, folder)


def _work(
    args: argparse.Namespace, overrides: list[tuple[str, str]], folder: list[pathlib.Path]
) -> int:
    config, full_name = configs.load(args.config, overrides)
    workdir = pathlib.Path(args.workdir or f"runs/{full_name.replace(':', '_')}")
    setup_console()
    task = configs.resolve_module(config.task, where="config.task")
    if hasattr(task, "plan"):
        return _run_several(task, args, overrides, config, full_name, workdir, folder)
    processes.join(*_place(args))
    runs = task.stages(config, workdir) if hasattr(task, "stages") else [(workdir, config)]
    if args.mode == "eval":
        runs = runs[-1:]
    folder[:] = [workdir]
    # What any of the stages refuses is said before the first of them begins.
    for place, stage in runs:
        _check_workdir(place, stage)
    make = configs.resolve(f"{config.task}:make", where="config.task")
    made = [_recipe(make, stage) for _, stage in runs]
    for (place, stage), (open_source, recipe) in zip(runs, made, strict=True):
        mode = args.mode
        if place != workdir:
            mode = "train"
            log.info("stage '%s', in %s", place.name, place)
        code = _run_one(recipe, open_source, mode, overrides, stage, full_name, place, folder)
        if code is not None:
            return code
    return entry.DONE


def _recipe(
    make: Callable[..., Recipe], config: configs.Config
) -> tuple[Callable[..., Any], Recipe]:
    """What opens the data of a run, prepared on first use, and the run's recipe."""
    sources: dict[tuple[str, str], pipeline.Source] = {}
    prepared: dict[str, str] = {}  # full names by the names asked for

    def open_source(split: str, name: str | None = None) -> pipeline.Source:
        nonlocal prepared
        name = name or config.data.name
        if name not in prepared:
            full = _prepare_data(config, name)
            prepared |= {name: full, full: full}
        if (key := (prepared[name], split)) not in sources:
            sources[key] = pipeline.open_source(prepared[name], split, config.data.data_dir or None)
        if name == config.data.name and sources[key].manifest.get("kind") == "sketches":
            raise ConfigError(
                f"config.data.name={name} holds drawings; a data set of shapes is needed"
            )
        return sources[key]

    open_source(config.train.split)
    return open_source, make(config, open_source)


def _run_one(
    recipe: Recipe,
    open_source: Callable[..., Any],
    mode: str,
    overrides: list[tuple[str, str]],
    config: configs.Config,
    full_name: str,
    workdir: pathlib.Path,
    folder: list[pathlib.Path],
) -> int | None:
    """One run in its workdir; None, or the exit code if a signal cut it short."""
    chief = jax.process_index() == 0
    folder[:] = [workdir]
    mesh = sharding.make_mesh(**config.mesh.to_dict())
    options = _loop_options(config)
    published = config.published.to_dict()
    open_writer = functools.partial(
        MetricWriter, workdir, tensorboard=config.log.tensorboard, active=chief
    )
    _refuse_unused(config, overrides)
    done = _finished_step(workdir)
    if jax.process_count() > 1:  # all have looked at the workdir before any of them writes there
        multihost_utils.sync_global_devices("workdir seen")
    if mode == "eval" and done is None:
        raise ConfigError(
            f"--mode=eval: {workdir} holds no checkpoint to evaluate; train first, or give the --workdir of a trained run"
        )
    reported = mode == "train" or (
        mode == "train_and_eval" and (workdir / "report" / "index.html").is_file()
    )
    if reported and done is not None and done >= recipe.steps:
        at = workdir if mode == "train" else workdir / "report" / "index.html"
        log.info("this run is finished (step %d): %s", done, at)
        return None
    if (
        chief
    ):  # the last thing before the work, so that a command that is refused leaves nothing behind
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_text(workdir / "config.json", configs.dump(config))
        files.write_json(workdir / "versions.json", _versions(mesh.size), indent=2, sort_keys=True)
        manifest = open_source(config.train.split).manifest
        files.write_json(
            workdir / "manifest.json",
            {
                **manifest,
                "splits": {k: {"items": v["items"]} for k, v in manifest["splits"].items()},
            },
            indent=2,
            sort_keys=True,
        )
        if not done and mode != "eval":
            log_parameters(
                optim.describe(train.abstract_state(recipe, config.seed).params, config.optim.rules)
            )
    if mode != "eval":
        interrupted = _train(recipe, open_source, workdir, mesh, options, open_writer)
        if interrupted:
            log.info("%s: saved a checkpoint; the same command goes on from there", interrupted)
            return entry.DONE if interrupted == "SIGTERM" else entry.FAILED
    if mode != "train":
        with open_writer() as writer:
            _evaluate(recipe, full_name, published, workdir, mesh, options, writer)
        if chief:
            log.info("report: %s", page.write_report(workdir))
    return None


def _run_several(
    task: Any,
    args: argparse.Namespace,
    overrides: list[tuple[str, str]],
    config: configs.Config,
    full_name: str,
    workdir: pathlib.Path,
    folder: list[pathlib.Path],
) -> int:
    """A task of several runs, each of them this command in a process of its own. Does nothing that would claim a device."""
    if processes.several(*_place(args)):
        raise ConfigError(
            f"{full_name} starts its runs itself, on one host; start it as one process"
        )
    _check_workdir(workdir, config)
    folder.append(workdir)
    work = task.plan(
        config,
        full_name=full_name,
        workdir=workdir,
        mode=args.mode,
        configs_at=pathlib.Path(args.config.partition(":")[0]).parent,
        prepare_data=_prepare_data,
        write_report=table.write_report,
    )
    _refuse_unused(config, overrides)
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_text(workdir / "config.json", configs.dump(config))
    return int(work())


def _refuse_unused(config: configs.Config, overrides: list[tuple[str, str]]) -> None:
    unused = configs.unused_overrides(config, overrides)
    if unused:
        raise ConfigError(
            f"--config.{unused[0]} was given, but nothing reads it with task {config.task} and these settings"
        )


def _train(
    recipe: Recipe,
    open_source: Callable[..., Any],
    workdir: pathlib.Path,
    mesh: Any,
    options: Any,
    open_writer: Any,
) -> str | None:
    def open_data(spec: DataSpec) -> train.DataIterator:
        return pipeline.train_iterator(
            open_source(spec.split, spec.name),
            spec,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    return train.fit(
        recipe,
        workdir=workdir,
        mesh=mesh,
        open_data=open_data,
        options=options,
        open_writer=open_writer,
    ).interrupted


def _evaluate(
    recipe: Recipe,
    full_name: str,
    published: dict[str, dict[str, float]],
    workdir: pathlib.Path,
    mesh: Any,
    options: Any,
    writer: MetricWriter,
) -> None:
    """Embeds and scores with the last checkpoint, and leaves what the report shows below workdir."""
    checkpoints = checkpoint.Checkpoints(workdir)
    abstract = train.abstract_state(recipe, options.seed)
    shardings = sharding.state_shardings(abstract, recipe.sharding, mesh)
    wanted = checkpoint.abstract_like(abstract, shardings)
    params, model_state = checkpoints.restore_model(wanted.params, wanted.model_state)
    meta = checkpoints.meta()
    checkpoints.close()
    if jax.process_index() == 0:
        summary = {
            "system": meta["system"],
            "config": full_name,
            "steps": meta["step"],
            "planned_steps": recipe.steps,
            "train_s": meta["train_s"],
            "meta": meta,
            "published": published,
            "evaluators": list(recipe.evaluators),
        }
        files.write_json(workdir / "summary.json", summary, indent=2, sort_keys=True)
    embed = train.make_embed(recipe.task, params, model_state, mesh)
    train.evaluate(recipe, embed, meta["step"], writer, workdir / "evaluation")


def _prepare_data(config: configs.Config, name: str = "") -> str:
    """Builds a data set, the config's own or a second one, if it is not prepared yet; returns its full name.

    The raw files of the config's own are also those of another configuration of its builder.
    """
    name = name or config.data.name
    same = name.partition("/")[0] == config.data.name.partition("/")[0]
    data_dir, manual_dir = (
        config.data.data_dir or None,
        (config.data.manual_dir if same else "") or None,
    )
    path = None if manual_dir else build.find(name, data_dir)
    if (
        path is None
    ):  # with raw files given, the builder checks that the prepared data was made from these
        path = build.build(
            name, data_dir=data_dir, manual_dir=manual_dir, jobs=max(1, config.data.num_threads)
        )
    return files.read_json_object(path / "manifest.json")["name"]


def _loop_options(config: configs.Config) -> train.LoopOptions:
    kept = config.checkpoint
    return train.LoopOptions(
        seed=config.seed,
        accumulate=config.train.accumulate,
        log_every=config.log.every,
        eval_every=config.eval.every,
        checkpoint_every=kept.every,
        keep=kept.keep,
        resume=kept.resume,
        init_from=kept.init_from,
        rename=kept.rename,
        fresh=kept.fresh,
    )


def _check_workdir(workdir: pathlib.Path, config: configs.Config) -> None:
    """Refuses a workdir that another config has computed something in, or that is no workdir.

    A run that failed before its first result leaves a config.json too; the corrected command may use the folder.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"--workdir={workdir} is a file; give a folder")
    path = workdir / "config.json"
    if not path.is_file():
        return
    try:
        theirs = files.read_json_object(path)
    except DataError as error:
        raise ConfigError(f"{error}; give another --workdir") from error
    if not set(configs.spine()) <= theirs.keys():
        raise ConfigError(f"{path}: not the config of a run; give another --workdir")
    changed = configs.differences(config, theirs)
    metrics = workdir / "metrics.jsonl"
    saved = any(step.name.isdigit() for step in (workdir / checkpoint.FOLDER).glob("*"))
    # A table compares its rows itself: it may grow.
    saved = saved or (theirs.get("task") != config.task and (workdir / "table.json").is_file())
    if changed and (saved or (metrics.is_file() and metrics.stat().st_size)):
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"{workdir} was written by another config: {changed[0]}{more}; give another --workdir"
        )


def _finished_step(workdir: pathlib.Path) -> int | None:
    if not (workdir / checkpoint.FOLDER).is_dir():
        return None
    checkpoints = checkpoint.Checkpoints(workdir)
    step = checkpoints.latest()
    checkpoints.close()
    return step


def _versions(devices: int) -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        **versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{devices} x {jax.devices()[0].device_kind}",
    }


if __name__ == "__main__":
    sys.exit(main())
