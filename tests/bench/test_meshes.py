"""The files that reading is timed on, and the form of a result."""

import numpy as np
import pytest

from jax3dret.bench import meshes
from jax3dret.bench.render import bumpy_sphere
from jax3dret.geometry.meshes import load_mesh


def test_every_format_holds_the_mesh(tmp_path):
    mesh = bumpy_sphere(4, 6)
    for name in meshes.FILES:
        path = tmp_path / f"a.{name.partition(',')[0]}"
        path.write_bytes(meshes._written(mesh, name))
        got = load_mesh(path)
        corners = mesh.vertices[mesh.faces]
        kept = np.ones(len(corners), bool)
        if len(got.faces) < len(corners):  # 3MF leaves out triangles of no area, at the poles
            kept = (
                np.linalg.norm(
                    np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
                )
                > 1e-12
            )
        np.testing.assert_allclose(got.vertices[got.faces], corners[kept], atol=2e-6, err_msg=name)


def test_results_compare_seconds(monkeypatch):
    monkeypatch.setattr(meshes, "FILES", dict.fromkeys(meshes.FILES, 3))
    monkeypatch.setattr(meshes, "COLUMNS", 5)
    rows = meshes.cases(repeats=1)
    assert [row["name"] for row in rows] == [f"{name}, 30 faces" for name in meshes.FILES]
    assert {row["unit"] for row in rows} == {"s"}
    assert all(row["ratio"] == pytest.approx(row["ours"] / row["baseline"]) for row in rows)
