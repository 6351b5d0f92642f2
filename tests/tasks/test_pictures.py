"""Where the pictures of a run come from, and what its protocol says of it."""

from __future__ import annotations

import numpy as np
from fakes import FakeSource
from PIL import Image

from jax3dret.data.views import open_views
from jax3dret.tasks import pictures

TRIANGLE = {
    "vertices": np.eye(3, dtype=np.float32),
    "faces": np.array([[0, 1, 2]], np.int32),
    "points": np.eye(3, dtype=np.float32),
}


def test_meshes_points_or_files(tmp_path):
    views = {**pictures.defaults("objaverse2", 16), "jobs": 1}
    meshes = FakeSource(np.zeros(1), lambda row: TRIANGLE, ids=("a",), path=tmp_path)
    points = FakeSource(np.zeros(1), lambda row: {"points": TRIANGLE["points"]}, path=tmp_path)
    shown = "2 views (objaverse2) of 16 pixels"
    assert pictures.said(views, meshes) == f"meshes, rendered in grey: {shown}"
    assert pictures.said(views, points).startswith("discs at the points, for the records hold no")
    for view in range(2):
        Image.new("RGB", (16, 16), "red").save(tmp_path / f"a_{view}.png")
    own = {**views, "folder": str(tmp_path), "files": "{id}_{view}.png"}
    said = pictures.said(own, meshes)
    assert said == f"the user's own, {tmp_path.name}/{{id}}_{{view}}.png: {shown}"
    store = open_views(pictures.view_file(own, meshes))
    assert store[0].shape == (2, 16, 16, 3) and store[0][1, 3, 3].tolist() == [255, 0, 0]
    rendered = open_views(pictures.view_file(views, meshes))
    assert rendered[0].shape == store[0].shape and rendered.path != store.path
    # Where they belong is known before they are there.
    assert pictures.view_path(own, meshes) == store.path
    assert pictures.view_path(views, meshes) == rendered.path
    # A section without the two keys, as of a task that only renders.
    assert pictures.said({"cameras": "objaverse2", "size": 16}, meshes).startswith("meshes")
