"""Parameters of one tree given to another by their names: another run's encoder, imported weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jax3dret.core.config import check_rules
from jax3dret.core.sharding import path_name
from jax3dret.core.types import ConfigError, PyTree


@dataclasses.dataclass(frozen=True)
class MatchRow:
    """One line of the table that `init_from` prints."""

    ours: str
    theirs: str
    shape: tuple[int, ...]
    status: str  # "loaded" | "initial" | "unused"


def match_params(
    ours: PyTree,
    theirs: Mapping[str, Any],
    *,
    rename: Sequence[tuple[str, str]] = (),
    fresh: Sequence[str] = (),
    source: str = "",
) -> tuple[PyTree, list[MatchRow]]:
    """Fills the tree `ours` from the nested mapping `theirs`.

    rename: (regex, replacement), applied in order to the names of `theirs`. fresh: regexes of names
    of ours that may stay as they are. Returns the new tree and the table of what happened to each
    name.

    Raises: ConfigError: a parameter of ours has no counterpart or another shape, and `fresh` does
        not excuse it.
    """
    check_rules(rename, where="config.checkpoint.rename")
    check_rules([(pattern, None) for pattern in fresh], where="config.checkpoint.fresh")
    available: dict[str, tuple[str, Any]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(theirs)[0]:
        original = name = path_name(path)
        for pattern, replacement in rename:
            name = re.sub(pattern, replacement, name)
        available[name] = (original, leaf)
    rows: list[MatchRow] = []
    problems: list[str] = []

    def fill(path: Sequence[object], leaf: Any) -> Any:
        name = path_name(path)
        shape = tuple(leaf.shape)
        original, found = available.get(name, ("", None))
        if found is not None and tuple(found.shape) == shape:
            del available[name]
            rows.append(MatchRow(name, original, shape, "loaded"))
            return found
        if any(re.fullmatch(pattern, name) for pattern in fresh):
            rows.append(MatchRow(name, original, shape, "initial"))
            return leaf
        problems.append(
            f"{name} {shape} "
            + (f"is {tuple(found.shape)} there" if found is not None else "is not there")
        )
        return leaf

    out = jax.tree_util.tree_map_with_path(fill, ours)
    if problems:
        raise ConfigError(
            f"{source}: {len(problems)} parameters do not fit: "
            f"{'; '.join(problems[:4])}{' ...' if len(problems) > 4 else ''}; "
            "map them with config.checkpoint.rename, or list them in config.checkpoint.fresh to "
            "start them anew"
        )
    rows += [
        MatchRow("", original, tuple(leaf.shape), "unused") for original, leaf in available.values()
    ]
    return out, rows


def format_matches(rows: Sequence[MatchRow]) -> str:
    """The table of an `init_from`, one parameter a line."""
    lines = [
        f"  {row.status:8} {'x'.join(map(str, row.shape)) or 'scalar':>14}  {row.ours or '-'}  <-  "
        f"{row.theirs or '-'}"
        for row in rows
    ]
    counts = {
        status: sum(row.status == status for row in rows)
        for status in ("loaded", "initial", "unused")
    }
    return "\n".join([*lines, "  " + ", ".join(f"{n} {status}" for status, n in counts.items())])
