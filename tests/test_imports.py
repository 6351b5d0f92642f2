"""Imports go one way, heavy packages are imported where they are wrapped, TensorFlow nowhere."""

import layers


def test_imports_go_one_way():
    assert layers.wrong_arrows() == []


def test_packages_are_wrapped():
    assert layers.wrong_packages() == []


def written(monkeypatch, root, files):
    """A package of these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    monkeypatch.setattr(layers, "ROOT", root)


def test_every_package_has_a_layer(monkeypatch, tmp_path):
    assert layers.no_layer() == []
    written(
        monkeypatch, tmp_path, {"newer/a.py": "import jax3dret.core.types", "core/types.py": ""}
    )
    assert layers.wrong_arrows() == ["newer has no layer; put it into one of LAYERS"]
    assert layers.wrong_packages() == []


def test_an_import_by_a_text_or_a_relative_name_is_one_too(monkeypatch, tmp_path):
    files = {
        "core/types.py": "",
        "core/a.py": "import importlib\nimportlib.import_module('jax3dret.tasks.recipe')",
        "core/b.py": "def late(x):\n    import_module(f'jax3dret.tasks.{x}')",
        "core/c.py": "resolve('jax3dret.tasks.recipe:build', where='')",
        "core/d.py": "import_module('json')\nresolve(given)\nopen('jax3dret.tasks.recipe')\nf()()",
        "tasks/recipe.py": "",
        "data/own.py": "from . import other\nfrom ..tasks import recipe",
        "data/other.py": "",
    }
    written(monkeypatch, tmp_path, files)
    alone = "core imports only itself"
    assert layers.wrong_arrows() == [
        f"core/a.py imports tasks/recipe.py: {alone}",
        f"core/b.py imports tasks/__init__.py: {alone}",
        f"core/c.py imports tasks/recipe.py: {alone}",
        "data/own.py imports by a relative name; import by the full one",
        "data/own.py imports tasks/recipe.py, which stands above it",
    ]


def test_an_arrow_back_is_found(monkeypatch, tmp_path):
    files = {
        "core/types.py": "",
        "core/train.py": "from jax3dret.data import source",
        "metrics/ranking.py": "from jax3dret.core import train",
        "data/source.py": "def late():\n    from jax3dret.tasks.ulip2 import mmcl",
        "tasks/ulip2/mmcl.py": "import torch\nfrom jax3dret.report import page",
        "report/page.py": "import jax3dret.tasks.ulip2.mmcl",
    }
    written(monkeypatch, tmp_path, files)
    assert layers.wrong_arrows() == [
        "core/train.py imports data/source.py: core imports only itself",
        "data/source.py imports tasks/ulip2/mmcl.py, which stands above it",
        "metrics/ranking.py imports core/train.py: the lowest layer sees core/types.py and "
        "core/files.py alone",
        "report and tasks import each other",
    ]
    assert layers.wrong_packages() == [
        "tasks/ulip2/mmcl.py imports torch; only ('bench/', 'data/captioning.py') wraps it"
    ]
