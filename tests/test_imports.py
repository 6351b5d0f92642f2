"""Imports go one way, heavy packages are imported where they are wrapped, TensorFlow nowhere."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Layer of each package; a file may import from lower layers and from its own package.
LAYERS = {
    "geometry": 0,
    "ops": 0,
    "losses": 0,
    "metrics": 0,
    "core": 0,
    "models": 1,
    "weights": 1,
    "data": 1,
    "evaluators": 2,
    "tasks": 3,
    "search": 4,
    "bench": 4,
    "entry": 5,
    "main": 5,
    "cli": 5,
}
# Files that stand in another layer than their package.
FILES = {
    "search/index.py": 1,
    "search/searcher.py": 1,
    "search/backends.py": 1,
    "search/storage.py": 1,
}
WRAPPED = {
    "scann": "search/",
    "trimesh": "geometry/",
    "torch": ("bench/", "data/captioning.py"),
    "transformers": "data/captioning.py",
    "embreex": "geometry/raycast.py",
    "pyrender": "bench/",
    "ftfy": "data/text.py",
    "faiss": "bench/",
    "fpsample": "bench/",
    "tensorboardX": "core/logging.py",
}


def modules():
    for path in sorted((ROOT / "jax3dret").rglob("*.py")):
        yield path, str(path.relative_to(ROOT / "jax3dret"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name):
    if name in FILES:
        return FILES[name]
    return LAYERS[name.split("/")[0].removesuffix(".py")]


def file_of(module):
    parts = module.split(".")[1:]
    for depth in range(len(parts), 0, -1):
        name = "/".join(parts[:depth])
        if (ROOT / "jax3dret" / f"{name}.py").is_file():
            return name + ".py"
    folder = "/".join(parts[:1])
    return folder + "/__init__.py" if parts and (ROOT / "jax3dret" / folder).is_dir() else None


@pytest.mark.parametrize(
    ("path", "name"), list(modules()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_arrows_point_down(path, name):
    if name == "__init__.py":
        return
    package = name.split("/")[0]
    for module in imported(path):
        if not module.startswith("jax3dret."):
            continue
        target = file_of(module)
        if target is None:
            continue
        if package == "core":
            assert target.startswith("core/"), f"{name} imports {module}: core imports only itself"
        elif layer(name) == 0 and target.startswith("core/"):
            assert module.startswith("jax3dret.core.types") or module == "jax3dret.core", (
                f"{name} imports {module}: the lowest layer sees core.types alone"
            )
        elif target.split("/")[0] != package or "/" not in name:
            assert layer(target) <= layer(name), f"{name} imports {module}, which stands above it"


@pytest.mark.parametrize(
    ("path", "name"), list(modules()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_packages_are_wrapped(path, name):
    for module in imported(path):
        top = module.split(".")[0]
        assert top not in ("tensorflow", "data_pipelines") or (
            top == "data_pipelines" and layer(name) >= 5
        ), f"{name} imports {module}"
        assert top not in WRAPPED or name.startswith(WRAPPED[top]), (
            f"{name} imports {top}; only {WRAPPED[top]} wraps it"
        )
