"""Records of meshes: seeded by their id, in order, with several processes as with one."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipelines import mesh_records
from data_pipelines.mesh_records import MeshItem, cloud_record, mesh_examples
from jax3dret.core.types import DataError

BOX = "v 0 0 0\nv 1 0 0\nv 0 2 0\nv 0 0 3\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


@pytest.fixture
def items(tmp_path):
    texts = {
        "a": BOX,
        "empty": "",
        "b": BOX,
        "html": "<html>not here</html>",
        "nan": BOX.replace("3", "nan", 1),
        "c": BOX,
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.obj").write_text(text)
    return [
        MeshItem(tmp_path / f"{name}.obj", f"x/{name}", "box", f"x/{name}.obj")
        for name in [*texts, "gone"]
    ]


def test_order_seeds_and_reasons(items):
    skipped = []
    examples = dict(mesh_examples(items, skipped=skipped, num_points=50))
    assert list(examples) == ["x/a", "x/b", "x/c"]
    reasons = {entry["file"]: entry["reason"] for entry in skipped}
    assert list(reasons) == ["x/empty.obj", "x/html.obj", "x/nan.obj", "x/gone.obj"]
    assert "0 bytes" in reasons["x/empty.obj"] and "HTML page" in reasons["x/html.obj"]
    assert (
        "not finite" in reasons["x/nan.obj"]
        and reasons["x/gone.obj"] == "no such file; check the path"
    )
    a, b = examples["x/a"], examples["x/b"]
    assert a["label"] == "box" and a["points"].shape == a["normals"].shape == (50, 3)
    assert not np.array_equal(a["points"], b["points"])  # one mesh, two ids: other points
    vertices = a["vertices"] * a["scale"] + a["centroid"]
    np.testing.assert_allclose(vertices, [[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(a["points"], axis=1).max(), 1, atol=1e-6)


def test_processes_give_the_same(items):
    one = []
    two = []
    alone = list(mesh_examples(items, skipped=one, num_points=50))
    together = list(mesh_examples(items, skipped=two, num_points=50, jobs=2))
    assert one == two and [identity for identity, _ in alone] == [
        identity for identity, _ in together
    ]
    for (_, a), (_, b) in zip(alone, together, strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in a)


def test_the_number_of_points_is_the_papers(items, monkeypatch):
    assert mesh_records.NUM_POINTS == 16_000
    monkeypatch.setattr(mesh_records, "NUM_POINTS", 7)
    (_, record), *_ = mesh_examples(items[:1], skipped=[])
    assert record["points"].shape == (7, 3)


def test_cloud():
    points = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0]], np.float32)
    record = cloud_record(points, "c")
    np.testing.assert_allclose(
        record["points"] * record["scale"] + record["centroid"], points, atol=1e-6
    )
    with pytest.raises(DataError, match="1 of 2 points are not finite"):
        cloud_record(np.array([[0, 0, np.nan], [1, 1, 1]]), "c")
    with pytest.raises(DataError, match="one place"):
        cloud_record(np.zeros((4, 3)), "c")


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_a_size_beyond_float32_is_refused(size):
    points = size * np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [1.1, 1.1, 1.1]])
    with pytest.raises(DataError, match="float32 cannot hold that"):
        cloud_record(points, "c")
