"""The paper's rows: each column under the measure that it is."""

import pytest

from jax3dret.core.types import ConfigError
from jax3dret.metrics import shrec
from jax3dret.tasks import sketch_published as paper
from jax3dret.tasks.sketch_published import published, reading_of_e

# By the relation of a row's E and ST columns.
COMPLEMENT = {(1, "MV-HGNN", "zeroshot"), (4, "w/o quad", "zeroshot"), (4, "all losses", "zeroshot")} | {
    (6, f"{n}", "category") for n in ("1 view", "3 views", "6 views")
}
ITSELF = {
    *((3, name, "category") for name in ("random order", "w/o local GCN", "w/o global attention", "w/o view selector")),
    *((3, name, "category") for name in ("random selector", "1st level")),
    *((5, name, "category") for name in ("frozen", "all")),
    *((7, name, "category") for name in ("three_d_to_sketch", "one_stage", "two_stage")),
    (7, "one_stage", "zeroshot"),
}


def test_every_row_has_seven_metrics_that_exist():
    for table, rows in paper.TABLES.items():
        for method, setting in rows:
            (name, values), *more = published(table, method, setting).items()
            assert not more and f"table {table}" in name and "." not in name
            assert len(values) == 7 and set(values) <= set(shrec.NAMES)
            assert all(0 < value < 1 for value in values.values())
            assert values.get("ST_prec", 0) <= 0.5


def test_columns_stand_under_the_measure_that_they_are():
    found = {(t, *row): reading_of_e(t, *row) for t, rows in paper.TABLES.items() for row in rows}
    assert {row for row, reading in found.items() if reading == "E"} == COMPLEMENT
    assert {row for row, reading in found.items() if reading == "F2C"} == ITSELF
    assert published(1, "MV-HGNN", "category") == {
        "MV-HGNN (paper, table 1, category level)": {
            "NN": 0.906, "FT": 0.765, "ST_prec": 0.432, "nDCG_C": 0.803, "E": 0.356, "MRR": 0.943, "mAP": 0.822,
        }
    }  # fmt: skip
    assert published(7, "one_stage", "zeroshot") == {
        "one_stage (paper, table 7, zero-shot)": {
            "NN": 0.421, "FT": 0.343, "ST": 0.563, "nDCG_C": 0.529, "F2C": 0.375, "MRR": 0.563, "mAP": 0.485,
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((8, "MV-HGNN", "category"), "1 to 7, not 8"),
        ((2, "PointNet", "category"), "no row 'PointNet'"),
        ((3, "all levels", "zeroshot"), r"no row 'all levels' \(zeroshot\)"),
    ],
)
def test_rows_that_are_not_there(row, message):
    with pytest.raises(ConfigError, match=message):
        published(*row)
