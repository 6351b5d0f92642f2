"""The report of a run: one HTML page for people, one JSON file for programs, both from the files of
the workdir alone.

The page holds its style, its script and its pictures, asks no server for anything (its
Content-Security-Policy forbids it), and reads the same with the script switched off. Equal workdirs
give equal bytes: it never shows the current time.

    run_files.py   what is read, and report/metrics.json
    sections.py    results, protocol, costs, provenance
    curves.py      learning curves
    results.py     classes, confusions, embedding map, examples
    across.py      INRs found by INRs of other kinds
    two_sides.py   two modalities: precision and recall, distances, one map of both, preferred views
    charts.py, embedding_map.py, report.css, report.js
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import pathlib

from jax3dret.core import files
from jax3dret.report import across, curves, results, sections, two_sides
from jax3dret.report.charts import escape, markers
from jax3dret.report.run_files import RunFiles, metrics_json, read_run

_NAVIGATION = (
    ("results", "Results"),
    ("protocol", "Protocol"),
    ("curves", "Curves"),
    ("ranking", "Ranking"),
    ("across", "Across"),
    ("classes", "Classes"),
    ("confusions", "Confusions"),
    ("map", "Map"),
    ("examples", "Examples"),
    ("views", "Views"),
    ("costs", "Time"),
    ("provenance", "Provenance"),
)


def write_report(workdir: pathlib.Path) -> pathlib.Path:
    """Writes report/index.html and report/metrics.json below `workdir`, and returns the path of the
    page.

    Parts that the run did not leave (training curves of an evaluation of given weights, scores of
    unlabelled data, an undefined metric) are replaced by a sentence that says so.

    Raises:
        ConfigError: an earlier version wrote the workdir.
        DataError: the workdir holds no evaluation, or one of its files is damaged.
    """
    run = read_run(pathlib.Path(workdir))
    text = page(run)
    numbers = json.dumps(metrics_json(run), indent=2, ensure_ascii=False, allow_nan=False)
    folder = run.workdir / "report"
    files.write_text(folder / "metrics.json", numbers + "\n", errors="replace")
    files.write_text(folder / "index.html", text, errors="replace")
    return folder / "index.html"


def page(run: RunFiles) -> str:
    """The whole page as text."""
    package = importlib.resources.files("jax3dret.report")
    style = (package / "report.css").read_text(encoding="utf-8")
    script = (package / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    title = run.summary.get("config") or run.workdir.resolve().name
    has_gallery = run.leading.gallery_embeddings is not None
    parts = {
        "results": sections.results(run),
        "protocol": sections.protocol(run),
        "curves": curves.curves(run),
        "ranking": two_sides.ranking(run.leading),
        "across": across.across(run.leading),
        "classes": results.per_class(run.leading),
        "confusions": results.confusions(run.leading),
        "map": two_sides.both_modalities(run.leading) if has_gallery else results.embeddings(run),
        "examples": results.examples(run.leading),
        "views": two_sides.views(run.leading),
        "costs": sections.costs(run),
        "provenance": sections.provenance(run),
    }
    links = "".join(
        f'<a href="#{anchor}">{name}</a>' for anchor, name in _NAVIGATION if parts[anchor]
    )
    body = (
        sections.header(run),
        f'<nav aria-label="Sections">{links}</nav><main>',
        *(parts[anchor] for anchor, _ in _NAVIGATION),
        "</main><footer>Written by jax3dret from the files beside this report.</footer>",
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)} · jax3dret report</title><style>{style}</style></head>\n"
        f"<body>{markers()}<div "
        f'class="page">{"".join(body)}</div>\n<script>{script}</script></body></html>\n'
    )
