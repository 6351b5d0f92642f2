"""Small 3MF archives made of text, for tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence

CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
NAMESPACES = {
    "p": "http://schemas.microsoft.com/3dmanufacturing/production/2015/06",
    "m": "http://schemas.microsoft.com/3dmanufacturing/material/2015/02",
    "s": "http://schemas.microsoft.com/3dmanufacturing/slice/2015/07",
    "b": "http://schemas.microsoft.com/3dmanufacturing/beamlattice/2017/02",
    "v": "http://schemas.3mf.io/3dmanufacturing/volumetric/2022/01",
}
START = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
BOX = [[x, y, z] for x in (0, 2) for y in (0, 1) for z in (0, 3)]
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
FACES = [[q[0], q[i], q[i + 1]] for q in QUADS for i in (1, 2)]


def mesh(
    scale: float = 1,
    inside: str = "",
    faces: Iterable[Sequence[int]] = FACES,
    vertices: Iterable[Sequence[float]] = BOX,
) -> str:
    points = "".join(
        f'<vertex x="{x * scale}" y="{y * scale}" z="{z * scale}"/>' for x, y, z in vertices
    )
    triangles = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in faces)
    return f"<mesh><vertices>{points}</vertices><triangles>{triangles}</triangles>{inside}</mesh>"


def part(resources: str, build: str, required: str = "", unit: str = "millimeter") -> str:
    spaces = " ".join(f'xmlns:{key}="{uri}"' for key, uri in NAMESPACES.items())
    wanted = f' requiredextensions="{required}"' if required else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><model unit="{unit}" xmlns="{CORE}" {spaces}'
        f"{wanted}><resources>{resources}</resources><build>{build}</build></model>"
    )


def archive(*models: str, start: str = "/3D/3dmodel.model", **parts: str) -> bytes:
    """The first model is the one to start from, the others are /3D/Objects/1.model and so on."""
    files = {
        "_rels/.rels": (
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Target="{start}" Id="r" Type="{START}"/></Relationships>'
        ),
        "3D/3dmodel.model": models[0],
        **{f"3D/Objects/{i}.model": text for i, text in enumerate(models[1:], 1)},
        **parts,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, text in files.items():
            out.writestr(name, text)
    return buffer.getvalue()
