"""The zip archive of a 3MF file: its parts by name, and the one that a consumer starts from (Open
Packaging Conventions).
"""

from __future__ import annotations

import io
import posixpath
import urllib.parse
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib

from jax3dret.geometry.mesh_formats.unusable import Unusable

_RELATION = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_START = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"


class Package:
    """The parts of an archive. Names are absolute ("/3D/3dmodel.model") and equal without regard to
    case.
    """

    def __init__(self, data: bytes, max_bytes: int):
        """Raises Unusable: not a whole archive, or it unpacks to more than max_bytes."""
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
            # A directory of entries that leads outside the file or is not text ends in any of them.
            raise Unusable(
                "is not a complete 3MF (zip) archive (truncated?); copy or export it again"
            ) from None
        entries = self._archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > max_bytes:
            raise Unusable(
                f"unpacks to {unpacked:,} bytes, more than the limit of {max_bytes:,} (max_bytes)"
            )
        self._entries: dict[str, list[zipfile.ZipInfo]] = {}
        for entry in entries:
            self._entries.setdefault(_folded(entry.filename), []).append(entry)

    def read(self, name: str) -> bytes:
        """The bytes of a part. Raises Unusable: there is none, or it is damaged or encrypted."""
        entries = self._entries.get(_folded(name), [])
        if len(entries) != 1:
            there = f"{len(entries)} parts" if entries else "no part"
            raise Unusable(f"has {there} '{name}'; export it again")
        try:
            return self._archive.read(entries[0])
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError):
            raise Unusable(f"part '{name}' is damaged; copy or export it again") from None
        except (RuntimeError, NotImplementedError) as error:  # a password; a rare compression
            raise Unusable(f"part '{name}' cannot be unpacked ({error}); export it again") from None

    def start(self) -> str:
        """The name of the model part that `_rels/.rels` starts from.

        Raises: Unusable: it names none, or several.
        """
        try:
            root = ElementTree.fromstring(self.read("/_rels/.rels"))
        except ElementTree.ParseError as error:
            raise Unusable(f"part '/_rels/.rels' is not XML ({error}); export it again") from None
        targets = [
            relation.get("Target", "")
            for relation in root.iter(_RELATION)
            if relation.get("Type") == _START and relation.get("TargetMode") != "External"
        ]
        if len(targets) != 1:
            raise Unusable(
                f"names {len(targets)} 3D models in its '_rels/.rels' to start from, one is "
                "needed; export it again"
            )
        return absolute(targets[0])


def absolute(name: str) -> str:
    """The name of a part from the root of the package."""
    return posixpath.normpath("/" + name.lstrip("/"))


def _folded(name: str) -> str:
    return absolute(urllib.parse.unquote(name).replace("\\", "/")).lower()
