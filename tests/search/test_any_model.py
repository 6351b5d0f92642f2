"""Whatever model can be embedded can be indexed, with nothing in search/ that knows it."""

import ast
import json
import pathlib

import numpy as np
import pytest
from search.toy import make_view_workdir, tetrahedron

from jax3dret.core.types import ConfigError
from jax3dret.inputs.item import Item
from jax3dret.inputs.views import Views
from jax3dret.search import encode, gallery
from jax3dret.search.prepare import prepare
from jax3dret.search.query import open_gallery

PACKAGE = pathlib.Path(encode.__file__).parents[1]


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """A View-GCN run, some parts, and the index of them."""
    folder = tmp_path_factory.mktemp("views")
    run = make_view_workdir(folder / "run")
    for i in range(3):
        tetrahedron(folder / f"parts/{i}.obj", height=0.4 + i)
    built = gallery.build([folder / "parts"], folder / "index", weights=run.path)
    assert (built.items, built.skipped) == (3, 0)
    return folder, run


def test_a_view_gcn_is_indexed_and_queried(views):
    folder, run = views
    opened = open_gallery(folder / "index")
    assert opened.encoder.inputs == {"shape": Views("ring6", 16)}
    parts = [Item.of(folder / f"parts/{i}.obj") for i in range(3)]
    answers = list(opened.query(parts, 3))
    assert [answer["results"][0]["id"] for answer in answers] == ["0.obj", "1.obj", "2.obj"]
    reads = opened.encoder.inputs["shape"]
    batch = reads.batch([prepare(part, reads).row for part in parts])
    np.testing.assert_allclose(opened.index.vectors, run.embed(batch["views"]), atol=2e-5)


def test_a_foreign_index_runs_no_code_of_its_own(views, tmp_path):
    folder, _ = views
    (copy,) = (folder / "index").glob("encoder-*")
    meta = json.loads((copy / "meta.json").read_text())
    whole = (copy / "meta.json").read_bytes()
    for name in ("os:system", "inputs.outside:Letters"):
        changed = {**meta, "inputs": {"shape": {"name": name, "version": 1}}}
        (copy / "meta.json").write_text(json.dumps(changed))
        with pytest.raises(
            ConfigError, match=f"uses {name}, code outside jax3dret.*give --weights"
        ):
            open_gallery(folder / "index")
    (copy / "meta.json").write_text(json.dumps({k: v for k, v in meta.items() if k != "inputs"}))
    with pytest.raises(ConfigError, match="an index that an earlier version wrote; make it anew"):
        open_gallery(folder / "index")
    (copy / "meta.json").write_bytes(whole)
    index = folder / "index" / "index.json"
    kept = index.read_bytes()
    entry = json.loads(kept)
    del entry["meta"]["gallery"]["modality"]
    index.write_text(json.dumps(entry))
    for opens in (open_gallery, lambda at: gallery.build([folder / "parts"], at)):
        with pytest.raises(ConfigError, match="index that an earlier version wrote"):
            opens(folder / "index")
    index.write_bytes(kept)


def test_no_floor_above_the_tasks_names_one():
    """Neither a module of tasks/ or models/ nor a system's name stands in the code of these
    folders.
    """
    names = {path.name for path in (PACKAGE / "tasks").iterdir() if path.is_dir()}
    systems = (names - {"__pycache__"}) | {"viewgcn", "pointbert", "mmcl", "mvtn"}
    files = [p for room in ("index", "report", "search") for p in (PACKAGE / room).glob("*.py")]
    for path in [*files, PACKAGE / "cli.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(("jax3dret.tasks", "jax3dret.models")), (
                    path
                )
            # What a message tells people to run names a config of ours; that decides nothing.
            if isinstance(node, ast.Compare):
                compared = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                assert not systems & {v for v in compared if isinstance(v, str)}, path
