"""Imports go one way, heavy packages are imported where they are wrapped, TensorFlow nowhere."""

import layers


def test_imports_go_one_way():
    assert layers.wrong_arrows() == []


def test_packages_are_wrapped():
    assert layers.wrong_packages() == []


def test_every_package_has_a_layer():
    assert {layers.package_of(name) for name in layers.files()} <= layers.LEVEL.keys()


def test_an_arrow_back_is_found(monkeypatch, tmp_path):
    for name, text in {
        "core/types.py": "",
        "core/train.py": "from jax3dret.data import source",
        "metrics/ranking.py": "from jax3dret.core import train",
        "data/source.py": "def late():\n    from jax3dret.tasks.ulip2 import mmcl",
        "tasks/ulip2/mmcl.py": "import torch\nfrom jax3dret.report import page",
        "report/page.py": "import jax3dret.tasks.ulip2.mmcl",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    monkeypatch.setattr(layers, "ROOT", tmp_path)
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
