"""Whether a .txt is a point cloud or a text for people: a folder of parts has readmes, licences and
lists beside them, which are no files that could not be read.
"""

from __future__ import annotations

import pathlib
import re

from jax3dret.core.files import pointer

_HEAD = 1 << 16
# A title, a count and a line of column names may stand before the first point.
_LINES = 8
_COMMENT = re.compile(r"#|//")


def is_loose_text(path: pathlib.Path) -> bool:
    """Whether none of the first lines begins with three numbers, as the points of a cloud do.

    Comments are passed over. What cannot be opened, is empty, or points to its content elsewhere
    is not called a text: it may be a cloud that is missing.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return False
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    text = head.decode("utf-8-sig", "replace")
    if not text.strip() or pointer(head) is not None:
        return False
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    rows = [line for line in lines if not _COMMENT.match(line)][:_LINES]
    return not any(_begins_with_a_point(row) for row in rows)


def _begins_with_a_point(row: str) -> bool:
    words = re.split(r"[\s,;]+", row, maxsplit=3)[:3]
    try:
        return len([float(word) for word in words]) == 3
    except ValueError:
        return False
