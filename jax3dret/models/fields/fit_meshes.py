"""From meshes to INRs: frame, true values, fit, many shapes at once.

An INR depends on its shape, the job and the seed: not on the other shapes, their number or order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jax3dret import __version__
from jax3dret.core import rng
from jax3dret.core.types import DataError
from jax3dret.geometry import distance
from jax3dret.geometry.distance import Sign
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.occupied_cells import touched
from jax3dret.geometry.unit_sphere import UnitMesh, to_unit_sphere
from jax3dret.models.fields import architectures
from jax3dret.models.fields.field import Architecture, Field, Function
from jax3dret.models.fields.fit import FitSpec, Fitted, Fitting
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.parameters import shapes_of
from jax3dret.models.fields.presets import preset
from jax3dret.models.fields.true_values import TrueValues

# Counts up whenever the same mesh, job and seed give other numbers.
VERSION = 2  # 2: every octree by dense Adam
# Shapes that are fitted at a time: on a processor more gain nothing, on an accelerator as many as
# the memory takes.
_AT_ONCE_CPU, _AT_ONCE = 8, 64
_BUDGET_CPU, _BUDGET = 2 << 30, 16 << 30  # bytes
# Of true values that several functions of a batch share, on the host.
_SHARED = 1 << 30


class Shape(NamedTuple):
    """One mesh to fit. up_axis: the axis that is up in it, "y" or "z"; z is turned to y, so that
    the INRs of all files stand alike. about: what the INR's header is to say beside the fit, such
    as "source".
    """

    mesh: Mesh
    up_axis: str = ""
    about: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class Job:
    """What to fit to every shape. preset: the name that `spec` goes by, for the header."""

    architecture: Architecture
    function: Function
    spec: FitSpec
    preset: str

    @classmethod
    def of(cls, field: str, function: Function, preset_name: str = "paper") -> Job:
        """By names. Raises ConfigError for one that there is not."""
        architecture, spec = preset(preset_name, field)
        return cls(architecture, function, spec, preset_name)


class Outcome(NamedTuple):
    """The INR of a shape, or why there is none."""

    field: Field | None
    reason: str = ""


def identity(job: Job, seed: int, sign: Sign, source: str) -> str:
    """A hash of all that the numbers of an INR depend on: equal where they are equal.

    source: of the mesh, a hash of its file and how it is read.
    """
    described = {
        "version": [VERSION, distance.VERSION],
        "architecture": architectures.describe(job.architecture),
        "function": job.function,
        "spec": dataclasses.asdict(job.spec),
        "preset": job.preset,
        "seed": seed,
        "sign": sign,
        "source": source,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def at_once(jobs: Sequence[Job]) -> int:
    """How many shapes to give to `fit_meshes` at a time, for speed and memory."""
    cpu = jax.default_backend() == "cpu"
    most, budget = (_AT_ONCE_CPU, _BUDGET_CPU) if cpu else (_AT_ONCE, _BUDGET)
    return max(1, min(most, budget // max(_bytes(job) for job in jobs)))


def fit_meshes(
    shapes: Sequence[Shape],
    jobs: Sequence[Job],
    *,
    seed: int = 0,
    sign: Sign = "auto",
    needed: Sequence[Sequence[bool]] | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[list[Outcome]]:
    """Of each shape, the INR of each job, all shapes of a job at once; `at_once` says how many
    fit into memory.

    The mesh is turned so that y is up and brought into the unit sphere. sign: how inside is told
    from outside, see `geometry.distance`. needed: by shape and job, what to fit; the others come
    back empty, without a reason. tell: called with the progress of a batch. A shape that cannot be
    used, that lacks a function, or whose fit diverged has a reason in the place of its INR.
    """
    keep = _SHARED // max(len(shapes), 1) if len(jobs) > 1 else 0
    prepared = [_prepare(shape, seed, sign, keep) for shape in shapes]
    out = [[Outcome(None, p if isinstance(p, str) else "") for _ in jobs] for p in prepared]
    # Signed distances first: those of most meshes give the distances as well.
    for column in sorted(range(len(jobs)), key=lambda i: jobs[i].function == "udf"):
        job, members = jobs[column], []
        for row, each in enumerate(prepared):
            if isinstance(each, str) or not (needed is None or needed[row][column]):
                continue
            if reason := each.values.refused(job.function):
                out[row][column] = Outcome(None, reason)
            else:
                members.append(row)
        if not members:
            continue
        batch: list[Any] = [prepared[row] for row in members]
        found = _fit(batch, job, seed, tell or (lambda text: None))
        for row, outcome in zip(members, found, strict=True):
            out[row][column] = outcome
    return out


class _Prepared(NamedTuple):
    shape: Shape
    unit: UnitMesh
    values: TrueValues


def _prepare(shape: Shape, seed: int, sign: Sign, keep: int) -> _Prepared | str:
    """A shape in its frame, or why it cannot be used."""
    try:
        unit = to_unit_sphere(y_up(shape.mesh, shape.up_axis))
        values = TrueValues(unit.mesh, seed, sign=sign, keep=keep)
        reason = values.refused("udf")
    except DataError as error:
        return str(error)
    return reason or _Prepared(shape, unit, values)


def y_up(mesh: Mesh, up_axis: str) -> Mesh:
    """The mesh turned so that y is up: (x, y, z) -> (x, z, -y) for z up, as `data.points.UpAxis`."""
    if up_axis != "z":
        return mesh
    x, y, z = mesh.vertices.T
    return Mesh(np.stack([x, z, -y], 1), mesh.faces)


def _fit(
    shapes: Sequence[_Prepared], job: Job, seed: int, tell: Callable[[str], None]
) -> list[Outcome]:
    architecture, spec = job.architecture, job.spec

    def sampler(epoch: int, shape: int) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, " N"]]:
        values = shapes[shape].values
        points = values.points(spec.pool, epoch)
        return points, values.values(job.function, spec.pool, epoch)

    stream = rng.stream(seed, "fields/fit")
    keys = jnp.stack(
        [rng.stream(stream, f"{job.function}/{each.values.content}") for each in shapes]
    )
    structures = None
    if isinstance(architecture, Octree):
        structures = [
            architecture.structure(touched(each.unit.mesh, architecture.finest)) for each in shapes
        ]
    fitting = Fitting(architecture, job.function, sampler, spec, keys, structures=structures)
    what = f"{len(shapes)} {architecture.name} {job.function}"
    while fitting.advance():
        tell(f"{what}: step {fitting.step} of {spec.steps}")
    fitted = fitting.result()
    return [_outcome(each, job, seed, fitted, place) for place, each in enumerate(shapes)]


def _outcome(each: _Prepared, job: Job, seed: int, fitted: Fitted, place: int) -> Outcome:
    if fitted.diverged[place] >= 0:
        step, spec = int(fitted.diverged[place]), job.spec
        return Outcome(
            None,
            f"the fit diverged at step {step} of {spec.steps} (loss "
            f"{fitted.losses[place, step]:.3g}); a lower learning rate than {spec.learning_rate:g} "
            "may help",
        )
    about = {
        **each.shape.about,
        "preset": job.preset,
        "fit_spec": dataclasses.asdict(job.spec),
        "steps": job.spec.steps,
        "seed": seed,
        "loss": float(fitted.final_losses()[place]),
        "content_sha256": each.values.content,
        "jax3dret": __version__,
    }
    if job.function != "udf":
        about["sign"] = each.values.distance.rule
    centre = each.unit.centre
    field = Field(
        job.architecture,
        job.function,
        fitted.variables[place],
        (float(centre[0]), float(centre[1]), float(centre[2])),
        float(each.unit.scale),
        about,
    )
    return Outcome(field)


def _bytes(job: Job) -> int:
    """Of an INR while it is fitted: parameters, gradient, two moments, and twice the points of an
    epoch.
    """
    if isinstance(job.architecture, Octree):
        parameters = job.architecture.width << 18
    else:
        parameters = sum(int(np.prod(a.shape)) for a in shapes_of(job.architecture).values())
    return 16 * parameters + 32 * job.spec.pool
