"""The section about INRs found by INRs of other kinds: a table of hit rates, queries by gallery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax3dret.report.charts import escape
from jax3dret.report.run_files import Evaluation
from jax3dret.report.sections import section


def across(evaluation: Evaluation) -> str:
    """hit_rate_1 of every pair of kinds, the query's own shape left out and, behind it, allowed;
    empty where one kind alone was asked for.
    """
    found = evaluation.result.get("across")
    if not isinstance(found, Mapping):
        return ""
    rows, columns = (_texts(found.get(key)) for key in ("queries", "gallery"))
    apart, allowed = (_matrix(found.get(key)) for key in ("hit_rate_1", "same_shape"))
    if len(rows) * len(columns) < 2 or len(apart) < len(rows):
        return ""
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in columns)
    body = []
    for i, row in enumerate(rows):
        cells = []
        for j, column in enumerate(columns):
            value = _at(apart, i, j)
            same = _at(allowed, i, j)
            text = "–" if value is None else f"{100 * value:.1f}"
            text += "" if same is None else f" ({100 * same:.1f})"
            share = 100 * (value or 0.0)
            title = escape(f"queries {row}, gallery {column}")
            cells.append(
                f'<td class="hit" style="--share:{share:.0f}%" title="{title}">{text}</td>'
            )
        body.append(f'<tr><th scope="row">{escape(row)}</th>{"".join(cells)}</tr>')
    table = (
        '<div class="scroll"><table class="heat"><thead><tr><td class="corner">query \\ gallery'
        f"</td>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
    lead = (
        "Hit rate@1 in per cent: queries are the INRs of a row, the gallery those of a column. The "
        "query's own shape is left out; in brackets, it may be found."
    )
    return section("across", "Across kinds of INRs", table, lead)


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _matrix(value: Any) -> list[list[Any]]:
    return [each for each in value if isinstance(each, list)] if isinstance(value, list) else []


def _at(matrix: list[list[Any]], row: int, column: int) -> float | None:
    """A number of a matrix; None where there is none."""
    found = matrix[row][column] if row < len(matrix) and column < len(matrix[row]) else None
    return float(found) if isinstance(found, int | float) else None
