"""What the builders of raw files share: the folder that a user gave, the description of the
records, and the examples by split.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.raw_files import warn_counts, warn_missing
from jax3dret.core.types import ConfigError

# How a user gives manual_dir.
MANUAL_FLAGS = "--config.data.manual_dir=DIR or, to `jax3dret data build`, --manual-dir DIR"


def raw_folder(builder: Any, manual_dir: str | pathlib.Path | None) -> pathlib.Path:
    """manual_dir as an absolute path. Raises ConfigError with what the builder wants there if a
    user gave none.
    """
    if manual_dir is None:
        raise ConfigError(
            f"{builder.name} needs manual_dir, with {MANUAL_FLAGS}. "
            f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
    return pathlib.Path(manual_dir).expanduser().absolute()


def record_info(
    builder: Any, features: tfds.features.FeaturesDict, *, homepage: str
) -> tfds.core.DatasetInfo:
    """Records that keep the builder's order, described by its configuration, or by its docstring
    where it has none.
    """
    config = builder.builder_config
    return tfds.core.DatasetInfo(
        builder=builder,
        description=config.description if config else builder.__doc__,
        features=features,
        homepage=homepage,
        disable_shuffling=True,
    )


def planned_splits(
    builder: Any,
    root: pathlib.Path,
    *,
    published: Mapping[str, int] | None = None,
    missing: Sequence[str] = (),
    listed: int = 0,
) -> dict[str, Any]:
    """{split: its examples} of every split that is planned, after a warning about each thing that
    the raw files lack.

    published: numbers of shapes. missing: files that are not there, of the `listed` that the data
    set's lists name.
    """
    name = (
        f"{builder.name}/{builder.builder_config.name}" if builder.builder_config else builder.name
    )
    warn_counts(name, root, builder.planned, published or {})
    warn_missing(name, missing, listed)
    return {split: builder._generate_examples(split) for split in builder.planned}
