"""What the paper's tables say of MV-HGNN, under the names of `metrics.shrec`.

Source: "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
2604.18019, tables 1 to 7; single runs, no variance given. NN, FT, MRR and mAP mean what they always
do. The other columns hold more than one convention:

    ST    precision of the second tier (`ST_prec`): it rarely exceeds one half and is mostly below
          FT. Table 7 prints the recall (`ST`) in four of its six rows, table 2 in three of compared
          methods: those that RECALL names.
    E     said to be better the lower. With F the F-measure at 2C, which is 4/3 of ST_prec, some
          rows are 1 - F (`E`), some are F itself (`F2C`), and others, the main results among them,
          are neither. Which a row is, its own ST tells; see `reading_of_e`.
    nDCG  near that of the first C alone (`nDCG_C`): over the whole list it would exceed mAP
          clearly, and it does not.

Tables 1 and 2 have ten compared methods beside the paper's own; tables 3 to 7 are ablations on
SHREC'13, each of which is one setting of the full model (ABLATIONS).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jax3dret.core.types import ConfigError

# For a reader who finds the paper's columns beside measured ones.
NOTE = (
    "The columns of the MV-HGNN paper are not of one kind: its ST is ST_prec in tables 1 to 6 but "
    "mostly ST in table 7; its E fits 1 - F2C in some rows, F2C in others, and neither in the "
    "rest, the main category-level results among them. NN, FT, MRR and mAP can be compared."
)
COLUMNS = ("NN", "FT", "ST", "nDCG", "E", "MRR", "mAP")  # in percent, as printed
_FULL = (90.6, 76.5, 43.2, 80.3, 35.6, 94.3, 82.2)
_FULL_ZERO_SHOT = (42.2, 34.3, 28.2, 52.9, 62.5, 56.3, 48.5)

SHREC13: dict[tuple[str, str], tuple[float, ...]] = {
    ("MV-HGNN", "category"): _FULL,
    ("MV-HGNN", "zeroshot"): _FULL_ZERO_SHOT,
    ("SDFSketch", "category"): (23.5, 16.7, 15.5, 23.0, 77.2, 37.9, 23.6),
    ("FGPointNet", "category"): (46.7, 48.7, 35.7, 59.1, 52.6, 53.2, 57.3),
    ("FGSpherical", "category"): (45.3, 46.9, 34.3, 56.9, 54.6, 51.7, 56.9),
    ("Siamese", "category"): (19.0, 14.2, 12.5, 20.8, 76.1, 33.2, 20.8),
    ("DCHML", "category"): (41.7, 43.3, 29.5, 51.0, 54.7, 48.9, 52.5),
    ("TCL", "category"): (43.3, 47.7, 33.7, 57.2, 51.5, 51.9, 56.6),
    ("CGN", "category"): (65.0, 52.0, 30.8, 60.8, 53.4, 77.5, 58.8),
    ("PCL", "category"): (55.0, 54.7, 41.7, 71.9, 45.4, 68.7, 65.9),
    ("CFTTSL", "category"): (75.3, 70.2, 39.7, 71.7, 39.5, 80.8, 74.8),
    ("MEHA", "category"): (79.0, 68.6, 40.6, 68.9, 45.4, 83.3, 75.2),
    ("SDFSketch", "zeroshot"): (15.7, 13.8, 11.7, 18.6, 75.2, 25.3, 22.3),
    ("FGPointNet", "zeroshot"): (32.0, 27.9, 25.5, 36.2, 64.0, 46.0, 36.1),
    ("FGSpherical", "zeroshot"): (29.2, 19.7, 23.1, 33.4, 66.1, 43.9, 33.5),
    ("Siamese", "zeroshot"): (13.7, 12.4, 11.7, 18.6, 76.2, 25.9, 20.1),
    ("DCHML", "zeroshot"): (18.3, 21.1, 13.6, 23.8, 63.2, 27.8, 33.9),
    ("TCL", "zeroshot"): (25.0, 17.8, 20.3, 31.4, 65.0, 39.0, 31.7),
    ("CGN", "zeroshot"): (33.3, 29.4, 22.5, 39.8, 63.4, 48.4, 38.6),
    ("PCL", "zeroshot"): (38.3, 38.9, 26.1, 47.0, 54.9, 52.4, 48.0),
    ("CFTTSL", "zeroshot"): (34.9, 26.1, 19.1, 28.1, 70.4, 46.6, 32.5),
    ("MEHA", "zeroshot"): (33.9, 27.7, 22.3, 46.9, 70.5, 47.8, 34.9),
}
SHREC14: dict[tuple[str, str], tuple[float, ...]] = {
    ("MV-HGNN", "category"): (82.3, 63.5, 35.9, 69.6, 46.8, 87.2, 66.0),
    ("MV-HGNN", "zeroshot"): (36.7, 31.4, 23.8, 41.7, 55.3, 49.2, 43.8),
    ("SDFSketch", "category"): (21.3, 14.9, 20.6, 26.7, 72.1, 35.4, 22.3),
    ("FGPointNet", "category"): (39.5, 41.6, 23.4, 39.1, 62.3, 46.1, 42.3),
    ("FGSpherical", "category"): (36.7, 35.6, 21.7, 38.6, 64.6, 43.5, 36.9),
    ("Siamese", "category"): (18.7, 12.9, 12.0, 20.0, 76.1, 31.2, 20.7),
    ("DCHML", "category"): (30.7, 32.5, 24.6, 41.4, 61.2, 39.7, 41.9),
    ("TCL", "category"): (33.3, 31.7, 20.9, 38.0, 63.6, 40.7, 40.4),
    ("CGN", "category"): (42.0, 35.0, 22.2, 41.7, 61.6, 46.8, 44.2),
    ("PCL", "category"): (43.0, 40.3, 24.3, 45.5, 58.1, 48.2, 49.1),
    ("CFTTSL", "category"): (61.3, 56.3, 32.4, 62.8, 53.1, 69.3, 58.1),
    ("MEHA", "category"): (32.8, 24.2, 34.5, 44.4, 75.5, 42.8, 26.7),
    ("SDFSketch", "zeroshot"): (14.1, 12.5, 10.8, 15.9, 76.8, 24.5, 20.4),
    ("FGPointNet", "zeroshot"): (25.4, 23.2, 19.0, 33.8, 62.1, 44.3, 34.9),
    ("FGSpherical", "zeroshot"): (22.9, 22.5, 18.3, 32.8, 65.7, 42.3, 32.7),
    ("Siamese", "zeroshot"): (10.0, 8.6, 8.7, 13.6, 78.4, 21.4, 17.0),
    ("DCHML", "zeroshot"): (16.7, 17.7, 17.9, 27.3, 67.3, 27.8, 30.0),
    ("TCL", "zeroshot"): (21.3, 21.6, 19.1, 30.6, 66.5, 31.4, 32.8),
    ("CGN", "zeroshot"): (26.3, 25.0, 21.4, 35.1, 65.0, 36.8, 35.6),
    ("PCL", "zeroshot"): (33.3, 32.8, 22.8, 39.9, 57.8, 45.5, 43.4),
    ("CFTTSL", "zeroshot"): (16.7, 14.4, 11.3, 35.8, 76.7, 26.6, 21.6),
    ("MEHA", "zeroshot"): (10.8, 10.4, 15.8, 30.7, 89.4, 20.1, 15.3),
}
ENCODER: dict[tuple[str, str], tuple[float, ...]] = {
    ("random order", "category"): (80.2, 66.6, 38.4, 67.9, 51.7, 84.8, 72.5),
    ("w/o local GCN", "category"): (80.6, 67.7, 39.8, 68.9, 53.4, 85.4, 74.6),
    ("w/o global attention", "category"): (80.2, 66.6, 38.7, 68.2, 51.9, 84.2, 73.3),
    ("w/o view selector", "category"): (78.1, 64.4, 36.4, 66.2, 49.0, 83.4, 69.1),
    ("random selector", "category"): (83.4, 66.0, 37.9, 67.5, 51.0, 84.4, 71.7),
    ("average pooling", "category"): (75.8, 71.9, 38.8, 71.2, 44.9, 81.3, 73.7),
    ("attention pooling", "category"): (83.0, 73.2, 41.5, 73.3, 42.9, 83.7, 76.2),
    ("ViT pooling", "category"): (84.2, 76.5, 43.2, 75.6, 37.8, 87.3, 79.8),
    ("1st level", "category"): (79.6, 64.9, 36.8, 66.6, 49.6, 83.7, 70.1),
    ("1st and 2nd level", "category"): (79.2, 71.2, 40.7, 68.7, 39.8, 85.3, 76.7),
    ("all levels", "category"): _FULL,
}
LOSSES: dict[tuple[str, str], tuple[float, ...]] = {
    ("w/o cls_ske", "category"): (76.4, 70.1, 41.3, 69.3, 60.0, 83.7, 76.8),
    ("w/o sem_ske", "category"): (74.2, 67.1, 40.2, 67.6, 62.1, 82.3, 74.2),
    ("w/o quad", "category"): (78.0, 71.2, 41.5, 69.8, 61.7, 82.6, 77.5),
    ("all losses", "category"): _FULL,
    ("w/o sem_3d", "zeroshot"): (28.6, 23.5, 22.4, 23.1, 65.5, 48.2, 32.5),
    ("w/o sem_ske", "zeroshot"): (31.3, 25.9, 24.6, 45.8, 61.7, 51.6, 35.6),
    ("w/o quad", "zeroshot"): (21.7, 14.2, 20.3, 32.5, 72.1, 35.4, 26.3),
    ("all losses", "zeroshot"): _FULL_ZERO_SHOT,
}
TUNING: dict[tuple[str, str], tuple[float, ...]] = {
    ("frozen", "category"): (74.5, 57.6, 33.1, 63.5, 44.3, 75.7, 67.6),
    ("all", "category"): (85.3, 70.4, 38.2, 70.5, 51.3, 93.8, 74.7),
    ("layernorm", "category"): (87.3, 73.6, 42.1, 73.1, 53.3, 94.7, 79.3),
    ("vpt", "category"): _FULL,
}
VIEWS: dict[tuple[str, str], tuple[float, ...]] = {
    ("1 view", "category"): (74.5, 54.1, 32.2, 61.6, 56.7, 80.7, 60.4),
    ("3 views", "category"): (91.4, 71.0, 39.8, 71.1, 46.4, 93.8, 76.4),
    ("6 views", "category"): (92.6, 73.6, 42.1, 73.1, 43.5, 94.7, 80.3),
    ("12 views", "category"): _FULL,
}
STRATEGY: dict[tuple[str, str], tuple[float, ...]] = {
    ("three_d_to_sketch", "category"): (80.7, 63.4, 75.9, 67.4, 51.2, 84.6, 71.8),
    ("one_stage", "category"): (79.8, 64.6, 74.5, 66.7, 49.3, 83.2, 70.3),
    ("two_stage", "category"): (
        93.8,
        75.5,
        85.9,
        74.1,
        57.7,
        96.0,
        82.0,
    ),  # another run than that of table 1
    ("three_d_to_sketch", "zeroshot"): (23.3, 21.7, 19.4, 30.9, 66.7, 31.3, 33.8),
    ("two_stage", "zeroshot"): (27.5, 25.2, 21.7, 35.6, 64.0, 36.7, 35.7),
    ("one_stage", "zeroshot"): (42.1, 34.3, 56.3, 52.9, 37.5, 56.3, 48.5),
}
TABLES = {1: SHREC13, 2: SHREC14, 3: ENCODER, 4: LOSSES, 5: TUNING, 6: VIEWS, 7: STRATEGY}
# Rows of (table, method, setting) whose ST is a recall.
RECALL = frozenset(
    [(7, method, setting) for method, setting in STRATEGY if setting == "category"]
    + [(7, "one_stage", "zeroshot")]
    + [(2, "SDFSketch", "category"), (2, "MEHA", "category"), (2, "MEHA", "zeroshot")]
)
# What makes a row of tables 3 to 7 of the full model: one key of the config. The rows that have
# none are the full model.
ABLATIONS: dict[tuple[int, str], tuple[str, Any]] = {
    (3, "random order"): ("model.view_order", "random"),
    (3, "w/o local GCN"): ("model.local_graph", "none"),
    (3, "w/o global attention"): ("model.global_attention", "none"),
    (3, "w/o view selector"): ("model.selector", "none"),
    (3, "random selector"): ("model.selector", "random"),
    (3, "average pooling"): ("model.aggregator", "mean"),
    (3, "attention pooling"): ("model.aggregator", "attention"),
    (3, "ViT pooling"): ("model.aggregator", "vit"),
    (3, "1st level"): ("model.levels_used", 1),
    (3, "1st and 2nd level"): ("model.levels_used", 2),
    (4, "w/o cls_ske"): ("loss.cls_ske", False),
    (4, "w/o sem_ske"): ("loss.sem_ske", False),
    (4, "w/o sem_3d"): ("loss.sem_3d", False),
    (4, "w/o quad"): ("loss.quad", False),
    (5, "frozen"): ("tuning", "frozen"),
    (5, "all"): ("tuning", "all"),
    (5, "layernorm"): ("tuning", "layernorm"),
    (6, "1 view"): ("views.cameras", "ring1"),
    (6, "3 views"): ("views.cameras", "ring3"),
    (6, "6 views"): ("views.cameras", "ring6"),
    (7, "three_d_to_sketch"): ("strategy", "three_d_to_sketch"),
    (7, "one_stage"): ("strategy", "one_stage"),
    (7, "two_stage"): ("strategy", "two_stage"),
}
# The full model's strategy in each setting; table 7 prints runs of its own of it.
FULL_STRATEGY = {"category": "two_stage", "zeroshot": "one_stage"}
# Beside the strategy, what the paper's runs have; more is compared in `from_config.changes_of`.
FULL_MODEL: dict[str, Any] = {
    "tuning": "vpt",
    "views.cameras": "ring12",
    "cnn.name": "jax3dret.models.resnet:ResNet",
    "prototypes.name": "jax3dret.tasks.mvhgnn.prototypes:from_clip_text",
    "sketches.prepare": "plain",
    "sketches.augment": False,
    "share_projection": False,
    "retrieve_with": "f",
    "centred": False,
    "train.epochs": 100.0,
    "train.steps": -1,
    "train.batch_size": 32,
    "first.epochs": 100.0,
    "optim.name": "adam",
    "optim.lr": 1e-4,
}
_SETTINGS: dict[str, str] = {"category": "category level", "zeroshot": "zero-shot"}
# Rounding of the printed numbers, and of means over classes of different C, in points.
_CLOSE = 1.0


def published(table: int, method: str, setting: str) -> dict[str, dict[str, float]]:
    """One row as `config.published` takes it: {"method (paper, table n, setting)": {metric:
    fraction}}.

    The E of a row that fits neither reading stands under "E", which the paper says it is;
    `reading_of_e` tells these rows.

    Raises ConfigError for a row that the tables do not have.
    """
    row = _row(table, method, setting)
    values = dict(zip(COLUMNS, row, strict=True))
    second = "ST" if (table, method, setting) in RECALL else "ST_prec"
    reading = reading_of_e(table, method, setting)
    names = {"ST": second, "nDCG": "nDCG_C", "E": reading or "E"}
    return {
        f"{method} (paper, table {table}, {_SETTINGS[setting]})": {
            names.get(column, column): round(value / 100, 4) for column, value in values.items()
        }
    }


def of_run(table: int, setting: str, changes: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The paper's rows of one run, as `published` has them: of the full model, or of the ablation
    that the run is; empty where the paper has no such run.

    table: 1 (SHREC'13) or 2 (SHREC'14), which has no ablations. changes: what the run's settings
    are, by key, where they are not those of the full model.
    """
    if not changes:
        full = published(table, "MV-HGNN", setting)
        return full | (published(7, FULL_STRATEGY[setting], setting) if table == 1 else {})
    if table != 1 or len(changes) > 1:
        return {}
    (change,) = changes.items()
    rows = [row for row, made in ABLATIONS.items() if made == change]
    return next(
        (published(n, method, setting) for n, method in rows if (method, setting) in TABLES[n]), {}
    )


def reading_of_e(table: int, method: str, setting: str) -> Literal["E", "F2C"] | None:
    """Which measure a row's E column is by its ST: 1 - F ("E"), F itself ("F2C"), or neither within
    a point.
    """
    values = dict(zip(COLUMNS, _row(table, method, setting), strict=True))
    precision = values["ST"] / 2 if (table, method, setting) in RECALL else values["ST"]
    f = 4 / 3 * precision
    away = {"E": abs(values["E"] - (100 - f)), "F2C": abs(values["E"] - f)}
    reading: Literal["E", "F2C"] = "E" if away["E"] < away["F2C"] else "F2C"
    return reading if away[reading] <= _CLOSE else None


def _row(table: int, method: str, setting: str) -> tuple[float, ...]:
    rows = TABLES.get(table)
    if rows is None:
        raise ConfigError(f"the paper's tables are numbered 1 to {len(TABLES)}, not {table}")
    if (method, setting) not in rows:
        there = ", ".join(f"{name} ({kind})" for name, kind in rows)
        raise ConfigError(f"table {table} has no row '{method}' ({setting}); it has {there}")
    return rows[method, setting]
