"""The mesh that rendering is timed on, and the form of a result."""

import numpy as np
import pytest

from jax3dret.bench import render
from jax3dret.geometry import raycast
from jax3dret.geometry.cameras import ring


def test_the_mesh_has_the_faces_that_the_name_says():
    mesh = render.bumpy_sphere()
    assert len(mesh.faces) == 20_000 and mesh.faces.max() < len(mesh.vertices)
    assert np.linalg.norm(mesh.vertices, axis=1).min() > 0.85


@pytest.mark.skipif(not raycast.available(), reason="embreex is not installed")
def test_results_compare_times_per_view(monkeypatch):
    monkeypatch.setattr(render, "SIZE", 16)
    monkeypatch.setattr(render, "bumpy_sphere", lambda make=render.bumpy_sphere: make(6, 8))
    monkeypatch.setattr(render, "ring", lambda num: ring(2))
    monkeypatch.setattr(render, "_has_pyrender", lambda: False)
    rows = render.cases(repeats=1)
    assert [row["unit"] for row in rows] == ["ms/view"] * 2
    assert all(row["ratio"] == pytest.approx(row["ours"] / row["baseline"]) for row in rows)
