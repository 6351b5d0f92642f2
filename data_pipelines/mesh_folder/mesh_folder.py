"""Any folder of meshes as a TFDS data set: classes from its subfolders, a split, clouds with
normals and the meshes.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.mesh_folder.scan import Scan, scan
from data_pipelines.mesh_records import NUM_POINTS, mesh_record
from data_pipelines.raw_builder import MANUAL_FLAGS
from data_pipelines.records import shape_features
from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.cameras import z_up
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.meshes import EXTENSIONS, load_mesh
from jax3dret.geometry.up_axis import up_axis_of

logger = logging.getLogger("jax3dret")


class MeshFolder(tfds.core.GeneratorBasedBuilder):
    """Your own meshes: any folder of .off, .obj, .stl, .ply, .glb, .gltf, .3mf; first-level folders
    are the classes.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {  # noqa: RUF012
        "1.0.0": "First version.",
        "1.1.0": "Files of a mixed folder stand upright alike: glTF is turned from y up to z up.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"manual_dir is a folder of meshes ({', '.join(EXTENSIONS)}), subfolders are classes."
    )
    UP_AXIS = "z"  # of the records; an instance sets "y" for a folder of glTF alone

    def __init__(
        self,
        *,
        manual_dir: str | pathlib.Path | None = None,
        config: str | None = None,
        **kwargs: Any,
    ):
        if manual_dir is None:
            raise ConfigError(
                f"mesh_folder needs manual_dir, with {MANUAL_FLAGS}: "
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        self._folder = pathlib.Path(manual_dir).expanduser().absolute()
        super().__init__(
            config=tfds.core.BuilderConfig(name=config or self.config_of(self._folder)), **kwargs
        )
        self.skipped: list[dict[str, str]] = list(self._scan.unreadable)
        self.source = self._scan.notes
        self.files = self._scan.files
        self.planned = {split: len(items) for split, items in self._scan.items.items()}
        self.UP_AXIS = self._scan.up_axis

    @classmethod
    def config_of(cls, manual_dir: str | pathlib.Path) -> str:
        """The folder's name and eight digits of a hash of its path: two folders called "parts" do
        not collide.
        """
        path = pathlib.Path(manual_dir).expanduser().resolve()
        name = re.sub(r"\W+", "_", path.name, flags=re.ASCII).strip("_")[:64] or "folder"
        return (
            f"{name}-{hashlib.sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
        )

    @functools.cached_property
    def _scan(self) -> Scan:
        return scan(self._folder)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"The meshes of the folder '{self._folder.name}'.",
            features=shape_features(self._scan.class_names, normals=True, mesh=True),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        notes = self._scan.notes
        if notes["other_files"]:
            kinds = ", ".join(f"{n} {kind}" for kind, n in notes["other_files"].items())
            logger.info("%s: files of other kinds are not read: %s", self._folder, kinds)
        if notes["labelled"] and notes["files_without_class"]:
            logger.warning(
                "%s: %d meshes lie in no class folder", self._folder, notes["files_without_class"]
            )
        if notes["single_item_classes"]:
            logger.warning(
                "%s: %d classes have one mesh; it is in train",
                self._folder,
                notes["single_item_classes"],
            )
        return {split: self._generate_examples(items) for split, items in self._scan.items.items()}

    def _generate_examples(
        self, items: list[tuple[str, str]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, label in items:
            try:
                mesh = self._upright(load_mesh(self._folder / name), name)
                example = mesh_record(mesh, name, NUM_POINTS)
            except DataError as error:
                reason = str(error).removeprefix(f"{self._folder / name}: ")
                self.skipped.append({"file": name, "reason": reason})
                continue
            yield name, {**example, "label": label}

    def _upright(self, mesh: Mesh, name: str) -> Mesh:
        """A mesh with the axis of the records up, as an index of the same file has it."""
        own = up_axis_of(name)
        return mesh if own == self.UP_AXIS else Mesh(z_up(mesh.vertices, own), mesh.faces)
