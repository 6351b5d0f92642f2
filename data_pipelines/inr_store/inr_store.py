"""INRs of the shapes of any prepared data set of meshes, as a TFDS data set.

Every shape is fitted by each architecture to each implicit function (INRet, section 3). The INRs
lie in a store of files meanwhile, so that an interrupted build goes on where it stopped; what a
record holds is told in `jax3dret.models.fields.field_records`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.inr_store.choice import Place, choose, read_places
from data_pipelines.raw_builder import record_info
from data_pipelines.records import manifest_digest, read_manifest
from jax3dret.core.types import ConfigError, DataError, nearest
from jax3dret.core.workers import ordered_map
from jax3dret.data.source import Source, find_prepared, open_source
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.unit_sphere import to_unit_sphere
from jax3dret.models.fields import architectures, devices, fill_store
from jax3dret.models.fields.field import Architecture, Function
from jax3dret.models.fields.field_records import feature_of
from jax3dret.models.fields.field_store import StoreWriter, writing
from jax3dret.models.fields.fill_store import Candidate, Plan, Result
from jax3dret.models.fields.fit_meshes import Job, y_up
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.parameters import Layout, layout_of
from jax3dret.models.fields.true_values import TrueValues

logger = logging.getLogger("jax3dret")

ALL: tuple[Function, ...] = ("udf", "sdf", "occ")
# The query pool is drawn as an epoch that no fit reaches.
_POOL_EPOCH = 1 << 32


@dataclasses.dataclass(kw_only=True)
class InrStoreConfig(tfds.core.BuilderConfig):
    """Which shapes, and which INRs of each.

    source: the data set of the meshes. fields: by architecture, its functions. preset: of the fits.
    per_class, classes: which records of the source, see `choice.choose`; the seed is that of the
    choice and of the fits. num_points: of the query pool.
    """

    source: str
    fields: Mapping[str, tuple[Function, ...]]
    preset: str = "fast"
    per_class: Mapping[str, int] = dataclasses.field(default_factory=dict)
    classes: int | tuple[str, ...] = 0
    num_points: int = 30_000
    seed: int = 0

    @property
    def functions(self) -> tuple[Function, ...]:
        """All functions of its INRs."""
        return tuple(f for f in ALL if any(f in each for each in self.fields.values()))

    def jobs(self) -> tuple[Job, ...]:
        """What is fitted to every shape."""
        return tuple(
            Job.of(field, function, self.preset)
            for field, functions in self.fields.items()
            for function in functions
        )


def _config(name: str, source: str, fields: Mapping[str, Any], **more: Any) -> InrStoreConfig:
    inrs = ", ".join(f"{field} ({' '.join(functions)})" for field, functions in fields.items())
    preset = more.get("preset", "fast")
    return InrStoreConfig(
        name=name,
        description=f"INRs of {source}: {inrs}; preset {preset}.",
        source=source,
        fields=fields,
        **more,
    )


_BY_THREE = {"hashgrid": ALL, "triplane": ALL}
_ALL_FOUR = {"octree": ALL, "triplane": ALL, "hashgrid": ALL, "siren": ALL}


class InrStore(tfds.core.GeneratorBasedBuilder):
    """Implicit neural representations of the shapes of another data set, by architecture and
    function.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        _config(
            "demo",
            "parametric_shapes/demo",
            {"hashgrid": ALL},
            per_class={"train": 5, "test": 3},
            classes=6,
            num_points=8_192,
        ),
        _config(
            "demo_siren",
            "parametric_shapes/demo",
            {"siren": ("sdf",)},
            per_class={"train": 5, "test": 3},
            classes=6,
            num_points=8_192,
        ),
        _config(
            "ldraw",
            "mcb",
            {**_BY_THREE, "siren": ("sdf",)},
            per_class={"train": 20, "test": 20},
            classes=10,
        ),
        _config("psb", "psb/base", _BY_THREE),
        _config("shapenet10", "shapenet/ten", _BY_THREE),
        _config("pix3d", "pix3d", _BY_THREE),
        _config("paper", "shapenet/ten", _ALL_FOUR, preset="paper", num_points=100_000),
    ]
    UP_AXIS: str | None = "y"  # meshes with another axis up are turned; an instance sets None

    def __init__(
        self,
        *,
        data_root: str | pathlib.Path,
        work_dir: str | pathlib.Path,
        jobs: int = 1,
        **kwargs: Any,
    ):
        """data_root: where the prepared source lies. work_dir: for the INRs of an interrupted
        build. jobs: processes that work out true values; the records do not depend on it.
        """
        devices.one_for_each_core()  # in a run that computes already, nothing changes
        self._root, self._work, self._jobs = data_root, pathlib.Path(work_dir), jobs
        self.skipped: list[dict[str, str]] = []
        super().__init__(**kwargs)
        config: InrStoreConfig = self.builder_config
        self._plan = Plan(config.jobs(), config.seed)
        self.UP_AXIS = "y" if self._manifest.get("up_axis") else None
        self._without: dict[str, list[str]] = {}
        self.planned = {split: len(places) for split, places in self._places.items()}
        self.source = {
            "kind": "inr_store",
            "made_from": {
                "name": self._manifest["name"],
                "version": self._manifest["version"],
                "manifest_sha256": manifest_digest(self._folder),
            },
            "per_class": dict(config.per_class),
            "seed": config.seed,
            "points": f"{config.num_points} for each shape, a fifth anywhere in the domain, two "
            "fifths near the surface, two fifths on it",
            "inrs": {
                "functions": list(config.functions),
                "architectures": {
                    job.architecture.name: {
                        "description": architectures.describe(job.architecture),
                        "layout": _layout(job.architecture).described(),  # type: ignore[arg-type]
                        "preset": job.preset,
                        "fit": dataclasses.asdict(job.spec),
                    }
                    for job in self._plan.jobs
                },
                "without": self._without,
            },
        }

    @classmethod
    def made_from(cls, config: str | None) -> str:
        """The data set whose shapes are fitted."""
        spelled = None if config is None else cls.config_named(config)
        chosen = [each for each in cls.BUILDER_CONFIGS if each.name == config]
        return str((spelled or (chosen or cls.BUILDER_CONFIGS)[0]).source)

    @classmethod
    def config_named(cls, name: str) -> InrStoreConfig | None:
        """What a name says that is none of the listed ones:
        SOURCE[.ARCHITECTURES[.FUNCTIONS[.PRESET]]], such as "psb-coarse1.hashgrid+octree.sdf.fast".
        In SOURCE the first "-" stands for the "/" of a data set's name. None for a listed name.

        Raises ConfigError for an architecture, function or preset that there is not.
        """
        if name in [each.name for each in cls.BUILDER_CONFIGS]:
            return None
        source, *parts = name.split(".")
        if len(parts) > 3 or not source:
            raise ConfigError(
                f"inr_store/{name}: the name is SOURCE[.ARCHITECTURES[.FUNCTIONS[.PRESET]]], such "
                "as psb-coarse1.hashgrid+octree.sdf.fast"
            )
        asked = parts + ["hashgrid", "+".join(ALL), "fast"][len(parts) :]
        fields, functions = (text.split("+") for text in asked[:2])
        for function in functions:
            if function not in ALL:
                raise ConfigError(
                    f"inr_store/{name}: there is no function '{function}'{nearest(function, ALL)}; "
                    f"there are {', '.join(ALL)}"
                )
        chosen = tuple(f for f in ALL if f in functions)
        made = _config(
            name, source.replace("-", "/", 1), dict.fromkeys(fields, chosen), preset=asked[2]
        )
        made.jobs()
        return made

    @functools.cached_property
    def _folder(self) -> pathlib.Path:
        folder = find_prepared(self.builder_config.source, self._root)
        if folder is None:
            raise DataError(f"{self.builder_config.source} is not prepared in {self._root}")
        return folder

    @functools.cached_property
    def _manifest(self) -> dict[str, Any]:
        return read_manifest(self._folder) or {}

    @functools.cached_property
    def _places(self) -> dict[str, list[Place]]:
        config = self.builder_config
        return choose(
            read_places(self._manifest),
            per_class=config.per_class,
            classes=config.classes,
            seed=config.seed,
        )

    def _info(self) -> tfds.core.DatasetInfo:
        labels = {place.label for places in self._places.values() for place in places}
        names = [name for name in self._manifest["class_names"] if name in labels]
        features: dict[str, Any] = {
            "id": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=names),
            "points": _rows(np.float32, 3),
            "vertices": _rows(np.float32, 3),
            "faces": _rows(np.int32, 3),
        }
        config: InrStoreConfig = self.builder_config
        features |= {function: _rows(np.float32) for function in config.functions}
        for job in config.jobs():
            name = job.architecture.name
            features[feature_of(name, job.function)] = _rows(np.float32)
            if isinstance(job.architecture, Octree):
                features |= {f"{name}_{key}": _rows(np.int32) for key in ("structure", "shapes")}
        return record_info(self, tfds.features.FeaturesDict(features), homepage="")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split) for split in self._places}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        places = self._places[split]
        sources = {
            part: open_source(self._manifest["name"], part, self._root)
            for part in dict.fromkeys(place.split for place in places)
        }
        if wrong := [s.name for s in sources.values() if "faces" not in s.features]:
            raise DataError(f"{wrong[0]}: its records hold no meshes, which INRs are fitted to")
        up_axis = str(self._manifest.get("up_axis") or "")
        config: InrStoreConfig = self.builder_config
        pool = functools.partial(
            _pool, functions=config.functions, count=config.num_points, plan=self._plan
        )
        pools = ordered_map(
            pool,
            (_mesh(sources, place, up_axis) for place in places),
            jobs=self._jobs,
            name=lambda mesh: f"{len(mesh.faces)} faces",
        )
        candidates = (_candidate(place, _mesh(sources, place, up_axis)) for place in places)
        with writing(self._work) as store:
            results = fill_store.fill(store, candidates, self._plan)
            for place, result, found in zip(places, results, pools, strict=True):
                if not any(result.files):
                    entry = {"file": place.identity, "reason": result.reasons[0]}
                    self.skipped.append(entry)
                    continue
                arrays = {**found.arrays, **self._parameters(store, result)}
                for function in found.refused:
                    self._lacks(function, place.identity)
                yield place.identity, {"id": place.identity, "label": place.label, **arrays}

    def _parameters(self, store: StoreWriter, result: Result) -> dict[str, np.ndarray]:
        """The INRs of a shape by feature; NaN for one that there is not."""
        arrays: dict[str, np.ndarray] = {}
        for job, file in zip(self._plan.jobs, result.files, strict=True):
            name = job.architecture.name
            feature = feature_of(name, job.function)
            layout = _layout(job.architecture)  # type: ignore[arg-type]
            if file is None:
                arrays[feature] = np.full(max(layout.size, 1), np.nan, np.float32)
                self._lacks(feature, result.name)
                continue
            vectors = layout.flatten(store.read(file).variables)
            arrays[feature] = vectors.pop("parameters")
            arrays |= {f"{name}_{key}": vector for key, vector in vectors.items()}
        for job in self._plan.jobs:
            if isinstance(job.architecture, Octree):  # where all of its functions failed
                for key in ("structure", "shapes"):
                    arrays.setdefault(f"{job.architecture.name}_{key}", np.empty(0, np.int32))
        return arrays

    def _lacks(self, feature: str, identity: str) -> None:
        self._without.setdefault(feature, []).append(identity)


class _Pool(NamedTuple):
    """The arrays of a shape that no INR is needed for; functions that it has not are NaN there."""

    arrays: dict[str, np.ndarray]
    refused: tuple[Function, ...]


def _pool(mesh: Mesh, functions: tuple[Function, ...], count: int, plan: Plan) -> _Pool:
    try:
        unit = to_unit_sphere(mesh).mesh
        values = TrueValues(unit, plan.seed, sign=plan.sign, keep=8 * count)
        refused = tuple(f for f in functions if values.refused(f))
        points = values.points(count, _POOL_EPOCH)
    except DataError:  # no INR of it either, which says why
        return _Pool({}, functions)
    arrays = {"points": points, "vertices": unit.vertices.astype(np.float32), "faces": unit.faces}
    nothing = np.full(count, np.nan, np.float32)
    for function in sorted(functions, key=lambda f: f == "udf"):  # its own come of the signed ones
        missing = function in refused
        arrays[function] = nothing if missing else values.values(function, count, _POOL_EPOCH)
    return _Pool(arrays, refused)


def _mesh(sources: Mapping[str, Source], place: Place, up_axis: str) -> Mesh:
    record = sources[place.split].select("vertices", "faces")[place.row]
    return y_up(Mesh(record["vertices"].astype(np.float64), record["faces"]), up_axis)


def _candidate(place: Place, mesh: Mesh) -> Candidate:
    digest = hashlib.sha256(mesh.vertices.tobytes())
    digest.update(mesh.faces.tobytes())
    about = {"source_sha256": digest.hexdigest(), "up_axis": "y"}
    return Candidate(place.identity, digest.hexdigest(), mesh, up_axis="y", about=about)


@functools.lru_cache(maxsize=8)
def _layout(architecture: Architecture) -> Layout:
    if isinstance(architecture, Octree):
        return layout_of(architecture, architecture.structure(np.zeros((1, 3), np.int64)))
    return layout_of(architecture)


def _rows(dtype: Any, width: int | None = None) -> tfds.features.Tensor:
    shape = (None,) if width is None else (None, width)
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)
