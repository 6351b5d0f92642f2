"""Files of a kind that an input does not read, and inputs of a user's own that fail."""

import dataclasses
from typing import ClassVar

import numpy as np
import PIL.Image
import pytest
from search.toy import tetrahedron

from jax3dret.core.types import ConfigError, DataError
from jax3dret.inputs import describe
from jax3dret.inputs.batching import stack
from jax3dret.inputs.item import Item
from jax3dret.inputs.mesh import SampledMesh
from jax3dret.inputs.photo import Photo
from jax3dret.inputs.points import Points
from jax3dret.inputs.views import Views
from jax3dret.search.prepare import prepare, prepare_all

PLY = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n1 0 0\n0 1 0\n"


@dataclasses.dataclass(frozen=True)
class Own:
    """An input whose parts a test breaks."""

    accepts: ClassVar[tuple[str, ...]] = ("mesh", "field")
    version: ClassVar[int] = 1

    def row(self, loaded, rng):
        return {"n": np.float32([len(loaded.value.vertices)])}

    def batch(self, rows):
        return stack(rows)


class Loses(Own):
    def lift(self, objects):
        return objects[1:]


class Fails(Own):
    def row(self, loaded, rng):
        if loaded.name.endswith("1.obj"):
            raise ZeroDivisionError("division\nby zero")
        return super().row(loaded, rng)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cloud.ply").write_text(PLY)
    PIL.Image.new("L", (9, 9)).save(tmp_path / "photo.png")
    for i in range(3):
        tetrahedron(tmp_path / f"{i}.obj", 1.0 + i)
    return tmp_path


def made(reads, *paths, jobs=1):
    return list(prepare_all(map(Item.of, paths), reads, known=frozenset(), jobs=jobs))


@pytest.mark.parametrize(
    ("reads", "name", "says"),
    [
        (
            SampledMesh(16, 64),
            "cloud.ply",
            r"is a cloud, and what reads it \(SampledMesh\) reads mesh",
        ),
        (Points(16), "photo.png", "is an image, .* reads mesh and cloud"),
        (Views("ring4", 16), "photo.png", "is an image"),
        (Photo(8), "0.obj", "is a mesh, .* reads image"),
        (Loses(), "cloud.ply", "is a cloud"),
    ],
)
def test_a_file_of_another_kind_is_skipped_with_the_reason(folder, reads, name, says):
    path = folder / name
    with pytest.raises(DataError, match=f"{name}: {says}"):
        prepare(Item.of(path), reads)
    (found,) = made(reads, path)
    assert found.row is None and found.key == "" and found.reason.startswith("is a")


def test_the_others_are_prepared(folder):
    found = made(Own(), folder / "photo.png", folder / "0.obj", folder / "cloud.ply")
    assert [bool(each.reason) for each in found] == [True, False, True]


def test_a_lift_that_loses_an_object_is_named(folder):
    paths = [folder / f"{i}.obj" for i in range(3)]
    with pytest.raises(DataError, match=r"Loses.lift: gives 2 objects for 3, .*0\.obj; one each"):
        made(Loses(), *paths)
    with pytest.raises(DataError, match="gives 0 objects for 1"):
        prepare(Item.of(paths[0]), Loses())


def test_what_a_row_fails_with_names_the_file(folder):
    paths = [folder / f"{i}.obj" for i in range(3)]
    for run in (lambda: made(Fails(), *paths), lambda: prepare(Item.of(paths[1]), Fails())):
        with pytest.raises(
            RuntimeError, match=r"1\.obj: Fails.row: ZeroDivisionError: division by"
        ):
            run()


@pytest.mark.parametrize(
    ("accepts", "says"),
    [
        (("meshes",), "accepts 'meshes'; did you mean 'mesh'"),
        ((), "accepts nothing"),
        ("mesh", "'m'"),
    ],
)
def test_an_input_accepts_kinds_that_there_are(accepts, says):
    wrong = dataclasses.make_dataclass("Wrong", [], bases=(Own,), frozen=True)
    wrong.accepts = accepts
    with pytest.raises(ConfigError, match=says):
        describe.describe(wrong())
