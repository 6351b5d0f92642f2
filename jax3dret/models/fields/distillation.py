"""From a field of any make to an INR of an architecture that is known here: INRet's distillation.

Section 7.3, Eq. 7: the target is fitted to what the source says, with the loss of their function,
as it would be to a mesh. So an INR without an encoder can still be found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax3dret import __version__
from jax3dret.core import rng
from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.field_values import FieldCallable
from jax3dret.models.fields.distillation_samples import DistillationSamples, as_function
from jax3dret.models.fields.field import Architecture, Field, Function
from jax3dret.models.fields.fit import FitSpec, Fitting
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.presets import preset


class Oracle(NamedTuple):
    """A field that is known by its values alone.

    field: from float32[P, 3] in [-1, 1]^3 to float32[P], or anything like it. function: what its
    values are. name: for messages and the header. centre, scale, about: as of a `Field`; where
    [-1, 1]^3 is the shape's own frame, they may be left out.
    """

    field: FieldCallable
    function: Function
    name: str = "a field"
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    about: Mapping[str, Any] = {}

    @classmethod
    def of(cls, field: Field, name: str) -> Oracle:
        """An INR as one."""
        return cls(field, field.function, name, field.centre, field.scale, field.about)


class Distilled(NamedTuple):
    """The INR of a source, or why there is none."""

    field: Field | None
    reason: str = ""


def distil(
    oracles: Sequence[Oracle],
    architecture: str | Architecture,
    function: Function,
    fit: str | FitSpec = "paper",
    *,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
) -> list[Distilled]:
    """An INR of the architecture for each source, all fitted at once.

    architecture, fit: by name, those of the preset; the paper distils in as many steps as it fits a
    mesh. function: of the INR; a source of signed distances can give any, others their own. An INR
    depends on its source, the fit and the seed, not on the others. tell: called with the progress.

    A source that cannot be asked, that has no surface in [-1, 1]^3, or whose fit diverged has a
    reason in the place of its INR. Raises ConfigError for an architecture, a function or a preset
    that there is not.
    """
    name = fit if isinstance(fit, str) else "own"
    if isinstance(fit, str):
        of_name = architecture if isinstance(architecture, str) else architecture.name
        known, spec = preset(fit, of_name)
        architecture = known if isinstance(architecture, str) else architecture
    elif isinstance(architecture, str):
        raise ConfigError(f"distil: {architecture} by its name needs a preset by its name")
    else:
        spec = fit
    out = [Distilled(None) for _ in oracles]
    asked: dict[int, DistillationSamples] = {}
    octree = architecture if isinstance(architecture, Octree) else None
    structures: list[Any] = []
    for place, oracle in enumerate(oracles):
        try:
            source = as_function(oracle.field, oracle.function, function)
            made = DistillationSamples(source, function, count=spec.pool, seed=seed)
            if octree is not None:
                structures.append(octree.structure(made.cells(octree.finest)))
            asked[place] = made
        except (ConfigError, DataError) as error:
            out[place] = Distilled(None, str(error))
    if not asked:
        return out
    samples = list(asked.values())
    stream = rng.stream(seed, "fields/distil")
    keys = jnp.stack([rng.stream(stream, f"{function}/{each.content}") for each in samples])
    broken: dict[int, str] = {}  # sources that could be asked at first, and then not

    def draw(epoch: int, shape: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            return samples[shape].draw(epoch)
        except DataError as error:
            broken.setdefault(shape, str(error))
            return np.zeros((spec.pool, 3), np.float32), np.zeros(spec.pool, np.float32)

    fitting = Fitting(architecture, function, draw, spec, keys, structures=structures or None)
    while fitting.advance():
        if tell is not None:
            tell(f"{len(samples)} into {architecture.name}: step {fitting.step} of {spec.steps}")
    fitted = fitting.result()
    for row, place in enumerate(asked):
        oracle = oracles[place]
        if row in broken:
            out[place] = Distilled(None, broken[row])
            continue
        if fitted.diverged[row] >= 0:
            out[place] = Distilled(
                None,
                f"the fit diverged at step {int(fitted.diverged[row])} of {spec.steps}; a lower "
                f"learning rate than {spec.learning_rate:g} may help",
            )
            continue
        about = {
            **{key: value for key, value in oracle.about.items() if key not in _OF_A_FIT},
            "distilled_from": {
                "name": oracle.name,
                "function": oracle.function,
                "fit": {key: oracle.about[key] for key in _OF_A_FIT if key in oracle.about},
            },
            "preset": name,
            "fit_spec": dataclasses.asdict(spec),
            "steps": spec.steps,
            "seed": seed,
            "loss": float(fitted.final_losses()[row]),
            "content_sha256": samples[row].content,
            "jax3dret": __version__,
        }
        field = Field(
            architecture, function, fitted.variables[row], oracle.centre, oracle.scale, about
        )
        out[place] = Distilled(field)
    return out


# What the header of a source says of its own fit.
_OF_A_FIT = ("preset", "fit_spec", "steps", "seed", "loss", "content_sha256", "jax3dret", "sign")
