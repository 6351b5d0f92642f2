"""The layers of the package, and the imports that run against them: `python tests/layers.py` prints
both.

A file may import from lower layers, from its own package, and from packages of its own layer as
long as these form no circle. `core` imports only itself; the lowest layer sees its types and files
alone.
"""

from __future__ import annotations

import ast
import pathlib
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1] / "jax3dret"
LAYERS = (
    ("geometry", "ops", "losses", "metrics", "core"),
    ("models", "weights", "data"),
    ("inputs", "evaluators", "index"),
    ("tasks", "report"),
    ("run", "experiments", "search"),
    ("bench", "fit"),
    ("entry", "main", "cli", "caption"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# What the lowest layer may import of core: what all agree on, and what a file on the disk is.
SEEN = ("core/types.py", "core/files.py")
# Functions that import what a text names.
CALLS = ("import_module", "__import__", "resolve", "resolve_module")
# Packages that one place wraps, by where they may be imported.
WRAPPED = {
    "scann": "index/",
    "trimesh": "bench/",
    "manifold3d": "geometry/",
    "igl": "geometry/",
    "skimage": "geometry/",
    "point_cloud_utils": "geometry/watertight.py",
    "torch": ("bench/", "data/captioning.py"),
    "transformers": ("bench/", "data/captioning.py"),
    "tokenizers": "data/wordpiece.py",
    "efficientnet_lite_pytorch": "bench/",
    "embreex": "geometry/raycast.py",
    "pyrender": "bench/",
    "ftfy": "data/text.py",
    "faiss": "bench/",
    "fpsample": "bench/",
    "tensorboardX": "core/logging.py",
}


def files() -> list[str]:
    """Every file of the package, relative to it, but for its own __init__.py."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
    return [name for name in found if name != "__init__.py"]


def parsed(name: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8")))


def imports(name: str) -> Iterator[str]:
    """The modules that a file names, at its top or inside a function, by a statement or in a call
    that imports by name.
    """
    for node in parsed(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # from .sibling import ..., from .. import package
                above = ("jax3dret", *name.split("/"))[: -node.level]
                module = ".".join((*above, *([module] if module else [])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and called(node) in CALLS:
            named = text_of(node.args[0]).partition(":")[0]
            yield from [named] if named else []


def called(node: ast.Call) -> str:
    """The name that a call calls, without where it comes from."""
    function = node.func
    return getattr(function, "attr", getattr(function, "id", ""))


def text_of(node: ast.AST) -> str:
    """A text, or the whole packages that one which is put together begins with."""
    if isinstance(node, ast.JoinedStr):
        return text_of(node.values[0]).rpartition(".")[0] if node.values else ""
    value = getattr(node, "value", "")
    return value if isinstance(value, str) else ""


def package_of(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def targets(name: str) -> set[str]:
    """The files of the package that a file imports."""
    found = set()
    for module in imports(name):
        parts = module.split(".")
        if parts[0] != "jax3dret":
            continue
        for depth in range(len(parts), 1, -1):
            path = "/".join(parts[1:depth])
            if (ROOT / f"{path}.py").is_file():
                found.add(f"{path}.py")
                break
            if (ROOT / path / "__init__.py").is_file():
                found.add(f"{path}/__init__.py")
                break

    # A package's own file counts where nothing is taken out of the package.
    def stands_for_another(target: str) -> bool:
        folder = target.removesuffix("__init__.py")
        return folder != target and any(t != target and t.startswith(folder) for t in found)

    return {target for target in found if not stands_for_another(target)} - {name}


def no_layer() -> list[str]:
    """A line for each package that LAYERS does not hold."""
    return [
        f"{package} has no layer; put it into one of LAYERS"
        for package in sorted({package_of(name) for name in files()} - LEVEL.keys())
    ]


def wrong_arrows() -> list[str]:
    """A line for each import that runs up or sideways in a circle, or that a layer may not have."""
    wrong = no_layer()
    if wrong:
        return wrong
    beside: dict[str, set[str]] = {}  # packages of one layer that import each other
    for name in files():
        package = package_of(name)
        if any(isinstance(node, ast.ImportFrom) and node.level for node in parsed(name)):
            wrong.append(f"{name} imports by a relative name; import by the full one")
        for target in sorted(targets(name)):
            other = package_of(target)
            if other == package:
                continue
            if package == "core":
                wrong.append(f"{name} imports {target}: core imports only itself")
            elif LEVEL[package] == 0 and other == "core" and target not in SEEN:
                wrong.append(
                    f"{name} imports {target}: the lowest layer sees {' and '.join(SEEN)} alone"
                )
            elif LEVEL[other] > LEVEL[package]:
                wrong.append(f"{name} imports {target}, which stands above it")
            elif LEVEL[other] == LEVEL[package]:
                beside.setdefault(package, set()).add(other)
    for package, others in beside.items():
        wrong += [
            f"{package} and {other} import each other"
            for other in others
            if package in beside.get(other, set()) and package < other
        ]
    return wrong


def wrong_packages() -> list[str]:
    """A line for each import of an outside package where it does not belong."""
    wrong = []
    for name in files():
        for module in imports(name):
            top = module.split(".")[0]
            if top == "tensorflow" or (
                top == "data_pipelines" and package_of(name) not in ("run", *LAYERS[-1])
            ):
                wrong.append(f"{name} imports {module}")
            elif top in WRAPPED and not name.startswith(WRAPPED[top]):
                wrong.append(f"{name} imports {top}; only {WRAPPED[top]} wraps it")
    return sorted(set(wrong))


def picture() -> str:
    """The layers from the top, each package with those that it imports."""
    below: dict[str, set[str]] = {}
    for name in files():
        package = package_of(name)
        below.setdefault(package, set()).update(package_of(t) for t in targets(name))
    lines = []
    for level in reversed(range(len(LAYERS))):
        for package in LAYERS[level]:
            used = sorted(below.get(package, set()) - {package}, key=lambda p: (-LEVEL[p], p))
            lines.append(f"{level}  {package:12} -> {', '.join(used) or '-'}")
    return "\n".join(lines)


if __name__ == "__main__":
    against = wrong_arrows() + wrong_packages()
    shown = "" if no_layer() else f"{picture()}\n"
    sys.stdout.write(f"{shown}{len(against)} imports against the layers\n")
    sys.stdout.writelines(f"  {line}\n" for line in against)
    sys.exit(bool(against))
