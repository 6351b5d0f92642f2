"""What a file says of itself beside its triangles: the unit of its lengths."""

import numpy as np
import pytest
from boxes import FACES, VERTICES
from geometry.mesh_formats import gltf_writer, threemf_writer

from jax3dret.geometry.meshes import load_with_unit
from jax3dret.inputs.item import Item
from jax3dret.inputs.loading import load


def threemf(attribute):
    resources = f'<object id="1">{threemf_writer.mesh()}</object>'
    part = threemf_writer.part(resources, '<item objectid="1"/>')
    # Another part may have another unit; that of the one that is started from holds.
    other = threemf_writer.part(resources, "", unit="foot")
    return threemf_writer.archive(part.replace('unit="millimeter"', attribute), other)


@pytest.mark.parametrize(
    ("attribute", "unit"),
    [
        ('unit="micron"', "um"),
        ('unit="millimeter"', "mm"),
        ('unit="centimeter"', "cm"),
        ('unit="meter"', "m"),
        ('unit="inch"', "in"),
        ('unit="foot"', "ft"),
        ("", "mm"),  # by its specification
        ('unit="cubit"', ""),
    ],
)
def test_the_unit_of_a_3mf_is_the_one_that_it_names(tmp_path, attribute, unit):
    path = tmp_path / "a.3mf"
    path.write_bytes(threemf(attribute))
    loaded = load(Item.of(path))
    assert loaded.unit == unit and loaded.up_axis == "z"
    assert loaded.value.vertices.max() == 3  # lengths stay those of the file
    assert load(Item(str(path), unit="in")).unit == "in"  # who asks knows better


def test_gltf_is_in_metres_and_other_meshes_in_no_unit(tmp_path):
    asset = gltf_writer.Asset()
    asset.node(mesh=asset.mesh(asset.primitive()))
    (tmp_path / "a.glb").write_bytes(asset.glb())
    lines = [f"v {x} {y} {z}" for x, y, z in VERTICES]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in FACES]
    (tmp_path / "a.obj").write_text("\n".join(lines) + "\n")
    assert load(Item.of(tmp_path / "a.glb")).unit == "m"
    assert load_with_unit(tmp_path / "a.obj")[1] == load(Item.of(tmp_path / "a.obj")).unit == ""
    assert load(Item(array=np.zeros((2, 3)))).unit == ""
    assert load(Item(text="a box")).unit == ""
