"""Pictures of INRs: which INR is shown, and records without one."""

import numpy as np
from models.fields.fields_of import small
from models.fields.meshes_of import box

from jax3dret.core.types import DataError
from jax3dret.evaluators import examples, field_pictures
from jax3dret.models.fields import architectures
from jax3dret.models.fields.parameters import layout_of


class Records:
    """A data set of two shapes; the second has no signed distance."""

    def __init__(self, monkeypatch):
        architecture = small("siren")
        layout = layout_of(architecture)
        described = {
            "description": architectures.describe(architecture),
            "layout": layout.described(),
        }
        inrs = {"functions": ["udf", "sdf"], "architectures": {"siren": described}}
        self.manifest = {"source": {"inrs": {**inrs, "without": {"siren_sdf": ["b"]}}}}
        self.ids, self.features = ("a", "b"), ("id", "label", "siren_udf", "siren_sdf")
        self.asked = []
        numbers = np.zeros(layout.size, np.float32)
        self.record = {"siren_udf": numbers, "siren_sdf": numbers}
        monkeypatch.setattr(field_pictures, "field_mesh", self.mesh)

    def select(self, *names):
        return [{"id": i, **{name: self.record[name] for name in names}} for i in self.ids]

    def mesh(self, field, function, resolution):
        self.asked.append((field.about["source"], function))
        if field.about["source"] == "b" and len(self.asked) > 2:
            raise DataError("the field has no surface")
        return box(1, 1, 2)


def test_the_signed_distance_is_shown_first(monkeypatch):
    source = Records(monkeypatch)
    assert field_pictures.holds_fields(source)
    image = field_pictures.field_picture(source, 0, 32)
    assert image.shape == (32, 32, 3) and (image < 250).any()
    assert field_pictures.field_picture(source, 1, 32) is not None
    assert source.asked == [("a", "sdf"), ("b", "udf")]
    assert field_pictures.field_picture(source, 1, 32) is None  # no surface


def test_examples_show_inrs(monkeypatch, tmp_path):
    source = Records(monkeypatch)
    source.labels, source.class_names = np.array([0, 0]), ("x",)
    lists = examples.Lists(source, source, np.array([[1], [0]]), np.ones((2, 1)), None)
    written = examples.write(tmp_path / "t", [0], lists)
    assert written[0]["query"]["thumbnail"] == "gallery_000000.png"
    assert written[0]["results"][0]["thumbnail"] == "gallery_000001.png"
    assert len(list((tmp_path / "t").iterdir())) == 2
