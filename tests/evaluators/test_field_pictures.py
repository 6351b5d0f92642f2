"""Pictures of INRs: which INR is shown, and records without one."""

import numpy as np
import pytest
from fakes import FakeSource
from models.fields.fields_of import small
from models.fields.meshes_of import box

from jax3dret.core.types import DataError
from jax3dret.evaluators import examples, field_pictures
from jax3dret.models.fields import architectures
from jax3dret.models.fields.parameters import layout_of


@pytest.fixture
def asked(monkeypatch):
    """(id, function) of every surface that is looked for; the first of each record is found."""
    seen = []

    def field_mesh(field, function, resolution):
        source = field.about["source"]
        again = (source, function) in seen
        seen.append((source, function))
        if again:
            raise DataError("the field has no surface")
        return box(1, 1, 2)

    monkeypatch.setattr(field_pictures, "field_mesh", field_mesh)
    return seen


@pytest.fixture
def source():
    """Two shapes; the second has no signed distance."""
    architecture = small("siren")
    layout = layout_of(architecture)
    described = {
        "description": architectures.describe(architecture),
        "layout": layout.described(),
    }
    inrs = {"functions": ["udf", "sdf"], "architectures": {"siren": described}}
    numbers = np.zeros(layout.size, np.float32)
    return FakeSource(
        (0, 0),
        lambda row: {"siren_udf": numbers, "siren_sdf": numbers},
        ids=("a", "b"),
        source={"inrs": {**inrs, "without": {"siren_sdf": ["b"]}}},
    )


def test_the_signed_distance_is_shown_first(source, asked):
    assert field_pictures.holds_fields(source) and not field_pictures.holds_fields(FakeSource())
    image = field_pictures.field_picture(source, 0, 32)
    assert image.shape == (32, 32, 3) and (image < 250).any()
    assert field_pictures.field_picture(source, 1, 32) is not None
    assert asked == [("a", "sdf"), ("b", "udf")]
    assert field_pictures.field_picture(source, 1, 32) is None  # no surface, and nothing else


def test_examples_show_inrs(source, asked, tmp_path):
    lists = examples.Lists(source, source, np.array([[1], [0]]), np.ones((2, 1)), None)
    written = examples.write(tmp_path / "t", [0], lists)
    assert written[0]["query"]["thumbnail"] == "gallery_000000.png"
    assert written[0]["results"][0]["thumbnail"] == "gallery_000001.png"
    assert len(list((tmp_path / "t").iterdir())) == 2 == len(asked)
