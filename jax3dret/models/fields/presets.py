"""What a field of each architecture is made of and how it is fitted: as INRet does, and fast."""

from __future__ import annotations

from jax3dret.core.types import ConfigError, nearest
from jax3dret.models.fields.field import Architecture
from jax3dret.models.fields.fit import FitSpec
from jax3dret.models.fields.hashgrid import HashGrid
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.siren import Siren
from jax3dret.models.fields.triplane import Triplane

# 10 epochs (100 without a grid) of 500,000 points in steps of 512 (INRet, section 4).
_GRID = FitSpec(steps=9_766, learning_rate=1e-3)
_FAST = FitSpec(steps=1_024, learning_rate=1e-3, pool=131_072, resample=False)

# preset -> architecture -> what is fitted, and how.
PRESETS: dict[str, dict[str, tuple[Architecture, FitSpec]]] = {
    "paper": {
        "siren": (Siren(), FitSpec(steps=97_657, learning_rate=1e-4)),
        "hashgrid": (HashGrid(), _GRID),
        "triplane": (Triplane(), _GRID),
        "octree": (Octree(), _GRID),
    },
    # The SIREN is narrow: four layers of 128 in place of 512, a fifteenth of the arithmetic.
    "fast": {
        "siren": (
            Siren(hidden=128),
            FitSpec(steps=1_024, learning_rate=5e-4, pool=131_072, resample=False),
        ),
        "hashgrid": (HashGrid(table=14), _FAST),
        "triplane": (Triplane(), _FAST),
        "octree": (Octree(levels=4), _FAST),
    },
}


def preset(name: str, architecture: str) -> tuple[Architecture, FitSpec]:
    """Raises ConfigError for an unknown preset or architecture, naming the nearest."""
    if name not in PRESETS:
        raise ConfigError(
            f"there is no preset '{name}'{nearest(name, PRESETS)}; there are: {', '.join(PRESETS)}"
        )
    of_preset = PRESETS[name]
    if architecture not in of_preset:
        raise ConfigError(
            f"there is no field architecture '{architecture}'{nearest(architecture, of_preset)}; "
            f"there are: {', '.join(of_preset)}"
        )
    return of_preset[architecture]
