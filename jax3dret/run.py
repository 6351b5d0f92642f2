"""A run in its workdir: config, recipe, training, evaluation, report; and a list of runs where one
starts from another.

An experiment is one run, or the stages that its task names (`stages(config) -> tuple[Run, ...]`):
the last one in WORKDIR itself, each of the others in WORKDIR/NAME. They go one after the other, in
one process, on all hosts. A table is a list of the same kind, whose runs are processes of their own
(`experiments.tables`).
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.metadata
import json
import logging
import pathlib
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from data_pipelines import build
from jax3dret import __version__
from jax3dret.core import checkpoint, files, lock, optim, processes, sharding, train
from jax3dret.core import config as configs
from jax3dret.core.command import Command
from jax3dret.core.config_version import require_current
from jax3dret.core.logging import MetricWriter, log_parameters
from jax3dret.core.types import ConfigError, DataError, DataSpec, Recipe, Run
from jax3dret.data import pipeline
from jax3dret.evaluators.write import add_returned
from jax3dret.report import page, published

log = logging.getLogger("jax3dret")
# Exit codes.
DONE, FAILED = 0, 1
PACKAGES = "jax3dret jax jaxlib flax optax orbax-checkpoint grain tensorflow-datasets numpy scann"


class Placed(NamedTuple):
    """A run and the folder it runs in."""

    folder: pathlib.Path
    name: str
    config: configs.Config


def place(runs: Sequence[Run], folders: Mapping[str, pathlib.Path]) -> list[Placed]:
    """The runs in their folders, by name; one that starts from another has that one's folder as
    config.checkpoint.init_from.

    Raises:
        ConfigError: two runs have one name, or a run starts from one that does not stand before it.
    """
    placed: dict[str, Placed] = {}
    for run in runs:
        config = run.config
        if run.name in placed:
            raise ConfigError(f"two runs are called '{run.name}'; give each a name of its own")
        if run.starts_from:
            if run.starts_from not in placed:
                raise ConfigError(
                    f"the run '{run.name}' starts from '{run.starts_from}', which does not stand "
                    "before it"
                )
            begun = str(placed[run.starts_from].folder)
            config = config.with_values({"checkpoint.init_from": begun})
        placed[run.name] = Placed(folders[run.name], run.name, config)
    return list(placed.values())


def stages(config: configs.Config, workdir: pathlib.Path) -> list[Placed]:
    """The runs of an experiment, in order, the last one in `workdir`.

    Raises ConfigError as its task does.
    """
    task = configs.resolve_module(config.task, where="config.task")
    runs = task.stages(config) if hasattr(task, "stages") else (Run(workdir.name, config),)
    if not (isinstance(runs, tuple | list) and runs and all(isinstance(r, Run) for r in runs)):
        raise ConfigError(
            f"config.task: {config.task}:stages gives {runs!r}; give a Run or several, in order"
        )
    folders = {run.name: workdir / run.name for run in runs[:-1]}
    return place(runs, {**folders, runs[-1].name: workdir})


def start(command: Command) -> int:
    """Carries out an experiment, and returns the exit code. What any of its runs refuses is said
    before the first begins.

    Raises ConfigError and DataError, each one line.
    """
    processes.join(*command.hosts)
    runs = stages(command.config, command.workdir)
    if command.mode == "eval":
        runs = runs[-1:]
    modes = [*("train" for _ in runs[:-1]), command.mode]
    for run, mode in zip(runs, modes, strict=True):
        stage = "" if run is runs[-1] else run.name
        check_numbers(run.config, stage)
        check_workdir(run.folder, run.config)
        lock.refuse_busy(run.folder)
        check_batches(run.config, mode, stage)
        if _starts_elsewhere(run, mode, runs):
            train.check_workdirs(_loop_options(run.config))
    ready = [_ready(run, mode) for run, mode in zip(runs, modes, strict=True)]
    for one in ready:
        if _starts_elsewhere(one.run, one.mode, runs):
            train.check_start(one.recipe, one.options)
    refuse_unused(command.config, command.overrides)
    if jax.process_count() > 1:  # all have looked at the folders before any of them writes there
        multihost_utils.sync_global_devices("workdirs seen")
    with _held([one.run.folder for one in ready if not one.is_finished]):
        for one in ready:
            if one is not ready[-1]:
                log.info("stage '%s', in %s", one.run.name, one.run.folder)
            interrupted = _carry_out(one, command)
            if interrupted:
                log.info("%s: saved a checkpoint; the same command goes on from there", interrupted)
                return DONE if interrupted == "SIGTERM" else FAILED
    return DONE


@contextlib.contextmanager
def _held(folders: Sequence[pathlib.Path]) -> Iterator[None]:
    """The folders as this command's alone: the first of its processes holds them for all.

    Raises DataError, in every process, where another command writes in one.
    """
    with contextlib.ExitStack() as kept:
        refused: DataError | None = None
        if jax.process_index() == 0:
            try:
                for folder in folders:
                    kept.enter_context(lock.held(folder))
            except DataError as error:
                refused = error
        if jax.process_count() > 1:
            is_refused = multihost_utils.broadcast_one_to_all(np.int32(refused is not None))
            if is_refused and refused is None:
                refused = DataError(f"{folders[-1]}: another command is writing there")
        if refused is not None:
            raise refused
        yield


def _starts_elsewhere(run: Placed, mode: str, runs: Sequence[Placed]) -> bool:
    """Whether a run is to begin with what another command has left."""
    begun = run.config.checkpoint.init_from
    stage = begun in [str(other.folder) for other in runs] and not run.config.checkpoint.resume
    return mode != "eval" and not stage and not _has_checkpoint(run.folder)


def _has_checkpoint(workdir: pathlib.Path) -> bool:
    return any(step.name.isdigit() for step in (workdir / checkpoint.FOLDER).glob("*"))


def check_workdir(workdir: pathlib.Path, config: configs.Config) -> None:
    """Refuses a workdir that another config or an earlier version has computed something in, or
    that is no workdir.

    A run that failed before its first result leaves a config.json too; the corrected command may
    use the folder.

    Raises ConfigError.
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
    require_current(theirs, workdir)
    changed = configs.differences(config, theirs)
    metrics = workdir / "metrics.jsonl"
    saved = _has_checkpoint(workdir)
    # A table compares its rows itself: it may grow.
    saved = saved or (theirs.get("task") != config.task and (workdir / "table.json").is_file())
    if changed and (saved or (metrics.is_file() and metrics.stat().st_size)):
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"{workdir} was written by another config: {changed[0]}{more}; give another --workdir"
        )


def check_numbers(config: configs.Config, stage: str = "") -> None:
    """Refuses numbers that count less than they may: what a stage makes of other keys as well.

    Raises ConfigError.
    """
    values = json.loads(configs.dump(config))  # looking is not reading
    try:
        configs.check_least(values, configs.LEAST)
    except ConfigError as error:
        raise ConfigError(f"stage '{stage}': {error}" if stage else str(error)) from None


def check_batches(config: configs.Config, mode: str, stage: str = "") -> None:
    """Refuses batch sizes that the devices and processes of this command cannot share, before data
    is prepared or anything is rendered. stage: the run's name, where it is one of several.

    Raises ConfigError.
    """
    training = config.train
    trains = training.steps > 0 or (training.steps < 0 and training.epochs > 0)
    evaluates = mode != "train" or config.eval.every > 0
    mesh = sharding.make_mesh(**config.mesh.to_dict())
    try:
        sharding.check_batch_sizes(
            mesh,
            train=training.batch_size if trains and mode != "eval" else None,
            accumulate=training.accumulate,
            evaluate=config.eval.batch_size if evaluates and "batch_size" in config.eval else None,
        )
    except ConfigError as error:
        raise ConfigError(f"stage '{stage}': {error}" if stage else str(error)) from None


def refuse_unused(config: configs.Config, overrides: Sequence[tuple[str, str]]) -> None:
    """Raises ConfigError for a key of the command line that nothing has read."""
    unused = configs.unused_overrides(config, overrides)
    if unused:
        raise ConfigError(
            f"--config.{unused[0]} was given, but nothing reads it with task {config.task} and "
            "these settings"
        )


def prepare_data(config: configs.Config, name: str = "") -> str:
    """Builds a data set, the config's own or a second one, if it is not prepared yet; returns its
    full name.

    The raw files of the config's own are also those of another configuration of its builder.
    """
    name = name or config.data.name
    if name == config.data.name and build.kind_of(name) == "sketches":
        raise _drawings(name)
    same = name.partition("/")[0] == config.data.name.partition("/")[0]
    data_dir = config.data.data_dir or None
    manual_dir = (config.data.manual_dir if same else "") or None
    # With raw files given, the builder checks that the prepared data was made from these.
    path = None if manual_dir else build.find(name, data_dir)
    if path is None:
        jobs = max(1, config.data.num_threads)
        path = build.build(name, data_dir=data_dir, manual_dir=manual_dir, jobs=jobs)
    return str(files.read_json_object(path / "manifest.json")["name"])


def _drawings(name: str) -> ConfigError:
    return ConfigError(f"config.data.name={name} holds drawings; a data set of shapes is needed")


class _Ready(NamedTuple):
    """A run that can begin. done: the last step that is saved already; None if there is none."""

    run: Placed
    mode: str
    recipe: Recipe
    open_source: Callable[..., pipeline.Source]
    mesh: Mesh
    options: train.LoopOptions
    open_writer: Callable[..., MetricWriter]
    published: Mapping[str, Mapping[str, float]]
    done: int | None

    @property
    def is_finished(self) -> bool:
        page_there = (self.run.folder / "report" / "index.html").is_file()
        shown = self.mode == "train" or (
            self.mode == "train_and_eval" and page_there and self._is_evaluated_so()
        )
        return shown and self.done is not None and self.done >= self.recipe.steps

    def _is_evaluated_so(self) -> bool:
        """Whether the evaluation that is there is the one that is asked for."""
        path = self.run.folder / "config.json"
        if not path.is_file():
            return True
        theirs = files.read_json_object(path)
        return not configs.differences(self.run.config, theirs, evaluation=True)


def _ready(run: Placed, mode: str) -> _Ready:
    """Opens the data of a run and makes its recipe; writes nothing into its folder."""
    config = run.config
    make = configs.resolve(f"{config.task}:make", where="config.task")
    open_source = opener(config)
    open_source(config.train.split)
    recipe = make(config, open_source)
    if not isinstance(recipe, Recipe):
        raise ConfigError(
            f"config.task: {config.task}:make gives {type(recipe).__name__}; give a Recipe"
        )
    ready = _Ready(
        run=run,
        mode=mode,
        recipe=recipe,
        open_source=open_source,
        mesh=sharding.make_mesh(**config.mesh.to_dict()),
        options=_loop_options(config),
        open_writer=functools.partial(
            MetricWriter,
            run.folder,
            tensorboard=config.log.tensorboard,
            active=jax.process_index() == 0,
        ),
        published=_published(config),
        done=_saved_step(run.folder),
    )
    if mode != "eval":  # what the step refuses is refused now, not after the stages before it
        train.make_step(ready.recipe, config.seed, config.train.accumulate)
    if mode == "eval" and ready.done is None:
        raise ConfigError(
            f"--mode=eval: {run.folder} holds no checkpoint to evaluate; train first, or give the "
            "--workdir of a trained run"
        )
    return ready


def _published(config: configs.Config) -> Mapping[str, Mapping[str, float]]:
    """Read with what they were measured on, which the report reads of config.json."""
    config.data.published.to_dict()
    rows: Mapping[str, Mapping[str, float]] = config.published.to_dict()
    return rows


def opener(config: configs.Config) -> Callable[..., pipeline.Source]:
    """What opens the data of a run: prepared on first use, opened once."""
    sources: dict[tuple[str, str], pipeline.Source] = {}
    prepared: dict[str, str] = {}  # full names by the names asked for

    def open_source(split: str, name: str | None = None, /) -> pipeline.Source:
        nonlocal prepared
        name = name or config.data.name
        if name not in prepared:
            full = prepare_data(config, name)
            prepared |= {name: full, full: full}
        if (key := (prepared[name], split)) not in sources:
            sources[key] = pipeline.open_source(prepared[name], split, config.data.data_dir or None)
        if name == config.data.name and sources[key].manifest.get("kind") == "sketches":
            raise _drawings(name)
        return sources[key]

    return open_source


def _carry_out(ready: _Ready, command: Command) -> str | None:
    """Trains, evaluates and reports as the mode says; returns the signal that cut it short, or
    None.
    """
    folder = ready.run.folder
    if ready.is_finished:
        at = folder if ready.mode == "train" else folder / "report" / "index.html"
        log.info("this run is finished (step %d): %s", ready.done, at)
        return None
    chief = jax.process_index() == 0
    if chief:  # only now, so that a command that is refused leaves nothing behind
        _describe(ready)
    if ready.mode != "eval":
        interrupted = train.fit(
            ready.recipe,
            workdir=folder,
            mesh=ready.mesh,
            open_data=functools.partial(_training_data, ready.open_source),
            options=ready.options,
            open_writer=ready.open_writer,
        ).interrupted
        if interrupted:
            return interrupted
    if ready.mode != "train":
        with ready.open_writer() as writer:
            _evaluate(ready, command, writer)
        if chief:
            log.info("report: %s", page.write_report(folder))
    return None


def _training_data(
    open_source: Callable[..., pipeline.Source], spec: DataSpec, arrays: Mapping[str, np.ndarray]
) -> pipeline.TrainIterator:
    return pipeline.train_iterator(
        open_source(spec.split, spec.name),
        spec,
        arrays,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _describe(ready: _Ready) -> None:
    """Writes what the run is: config.json, versions.json, manifest.json; and logs its parameters
    before the first step.
    """
    folder, config = ready.run.folder, ready.run.config
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "config.json", configs.dump(config))
    files.write_json(folder / "versions.json", _versions(ready.mesh), indent=2, sort_keys=True)
    manifest = ready.open_source(config.train.split).manifest
    counts = {
        split: {key: info[key] for key in ("items", "points") if key in info}
        for split, info in manifest["splits"].items()
    }
    files.write_json(
        folder / "manifest.json", {**manifest, "splits": counts}, indent=2, sort_keys=True
    )
    if not ready.done and ready.mode != "eval":
        params = train.abstract_state(ready.recipe, config.seed).params
        log_parameters(optim.describe(params, config.optim.rules))


def _evaluate(ready: _Ready, command: Command, writer: MetricWriter) -> None:
    """Embeds and scores with the last checkpoint, and leaves what the report shows in the run's
    folder.
    """
    folder, config, recipe = ready.run.folder, ready.run.config, ready.recipe
    checkpoints = checkpoint.Checkpoints(folder)
    abstract = train.abstract_state(recipe, ready.options.seed)
    shardings = sharding.state_shardings(abstract, recipe.sharding, ready.mesh)
    wanted = checkpoint.abstract_like(abstract, shardings)
    params, model_state = checkpoints.restore_model(wanted.params, wanted.model_state)
    meta = checkpoints.meta()
    checkpoints.close()
    if jax.process_index() == 0:
        summary = {
            "system": meta["system"],
            "config": command.full_name,
            "steps": meta["step"],
            "planned_steps": recipe.steps,
            "train_s": meta["train_s"],
            "meta": meta,
            "published": ready.published,
            "changed": published.settings(command.overrides, config.task),
            "evaluators": list(recipe.evaluators),
            "run": {
                "command": command.text(),
                "seed": config.seed,
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "device": _devices(ready.mesh),
                "version": __version__,
            },
        }
        files.write_json(folder / "summary.json", summary, indent=2, sort_keys=True)
        for name in recipe.evaluators:  # what is there of an earlier evaluation
            shutil.rmtree(folder / "evaluation" / name, ignore_errors=True)
    embed = train.make_embed(recipe.task, params, model_state, ready.mesh)
    found = train.evaluate(recipe, embed, meta["step"], writer, folder / "evaluation")
    if jax.process_index() == 0:
        source = ready.open_source(config.train.split)
        dataset = {"name": source.name, "version": source.version}
        for name, numbers in found.items():
            about = {"protocol": {"distance": config.distance}, "dataset": dataset}
            add_returned(folder / "evaluation" / name, numbers, about)


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


def _saved_step(workdir: pathlib.Path) -> int | None:
    if not (workdir / checkpoint.FOLDER).is_dir():
        return None
    checkpoints = checkpoint.Checkpoints(workdir)
    step = checkpoints.latest()
    checkpoints.close()
    return step


def _versions(mesh: Mesh) -> dict[str, str]:
    versions = {}
    for name in PACKAGES.split():
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        **versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": _devices(mesh),
    }


def _devices(mesh: Mesh) -> str:
    return f"{mesh.size} x {jax.devices()[0].device_kind}"
