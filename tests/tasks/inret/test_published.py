"""The paper's tables hold together: averages, gains and the rows that stand in several of them."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.metrics.category_chamfer import CATEGORY, CATEGORY_CHAMFER
from jax3dret.tasks.inret import published as p
from jax3dret.tasks.inret.category_chamfer import HIERARCHICAL


def test_printed_averages_are_those_of_the_cells():
    of = {
        "regularisation": p.REGULARISATION,
        "mlp": p.MLP_ONLY,
        "decoder": p.DECODER_FUNCTION,
        "weights": p.PAIR_WEIGHTS,
        "norm": p.DECODER_NORM,
        "pix3d": {m: v for (m, data), v in p.ACROSS.items() if data == "pix3d"},
    }
    assert {(t, row) for t, rows in of.items() for row in rows} == set(p.AVERAGES)
    away = {key: abs(p.average(of[key[0]][key[1]]) - value) for key, value in p.AVERAGES.items()}
    wrong = {key for key, distance in away.items() if distance > 0.11}
    assert wrong == {("regularisation", "none"), ("mlp", "both")}  # and INCONSISTENT says both
    said = " ".join(p.INCONSISTENT)
    assert "printed as 34.0; its nine cells have 34.4" in said and "78.6" in said
    assert round(p.average(p.REGULARISATION["none"]), 1) == 34.4
    others = 9 * p.average(p.MLP_ONLY["both"]) - 78.6
    assert round(9 * 67.8 - others, 1) == 68.4


@pytest.mark.parametrize("method", ["NGLOD", "iNGP"])
def test_what_the_same_shape_gains(method):
    without = np.array(p.SAME_SHAPE_ALLOWED[method]) - np.array(p.SAME_SHAPE_GAIN[method])
    np.testing.assert_allclose(without, p.ACROSS[method, "shapenet10"], atol=1e-9)


def test_rows_that_stand_in_several_tables():
    first = {m: row["hit_rate_1"] for m, row in p.MORE_METRICS["shapenet10"].items()}
    differ = {m for m, value in first.items() if value != p.SAME_ARCHITECTURE[m][0]}
    assert differ == {"PointNeXt", "View-GCN"}
    for row in (*p.MORE_METRICS["pix3d"].values(), *p.MORE_METRICS["shapenet10"].values()):
        assert row["hit_rate_1"] <= row["hit_rate_5"] <= row["hit_rate_10"]
    for row in p.MORE_METRICS["pix3d"].values():
        assert row["precision_10"] < row["f1_10"] < row["recall_10"]
    assert p.FEATURES["iNGP", "concat"] == p.SAME_ARCHITECTURE["iNGP"][0]
    assert p.UNDERTRAINED_CHAMFER["iNGP"] == p.CHAMFER["NGLOD", "shapenet10"][0]  # as printed
    for seconds in p.CATEGORY_CHAMFER_SECONDS.values():
        assert abs(seconds["coarse"] + seconds["fine"] - seconds["all"]) < 0.01


def test_a_row_as_a_config_takes_it():
    found = p.published("regularisation", "l2")
    (name,) = found
    assert name == "l2 on ShapeNet10 (paper, table 4)"
    assert found[name]["hit_rate_1_occ_udf"] == 0.654 and found[name]["hit_rate_1_udf_occ"] == 0.518
    assert found[name]["hit_rate_1_all"] == 0.6456 and found[name]["hit_rate_1"] == 0.824
    assert found[name]["hit_rate_1_across"] == pytest.approx(0.5563, abs=1e-4)
    (allowed,) = p.published("same shape", "iNGP").values()
    assert (
        allowed["hit_rate_1_sdf_udf_same_shape"] == 0.932 and allowed["hit_rate_1_sdf_sdf"] == 0.846
    )
    assert "hit_rate_1_all" not in allowed
    assert p.published("same architecture", "iNGP", "pix3d") == {
        "iNGP on Pix3D (paper, table 2)": {"hit_rate_1": 0.78}
    }
    assert p.rows("across", "shapenet10") == ("NGLOD", "iNGP") and p.rows("norm", "pix3d") == ()
    for table in p.TABLES:
        for dataset in p.DATASETS:
            for row in p.rows(table, dataset):
                (values,) = p.published(table, row, dataset).values()
                assert all(0 < value < 1 for value in values.values())
    with pytest.raises(ConfigError, match="no row 'EG3D'; it has NGLOD, iNGP"):
        p.published("across", "EG3D")
    with pytest.raises(ConfigError, match="no data set 'mcb'"):
        p.rows("norm", "mcb")
    with pytest.raises(ConfigError, match="no table 'tab. 3'"):
        p.rows("tab. 3")


def test_numbers_stand_under_the_names_that_rows_measure_them_by():
    (distilled,) = p.published("distilled", "iNGP").values()
    assert distilled == {"distilled/hit_rate_1": 0.792}
    (chamfer,) = p.published("category chamfer", "iNGP").values()
    keys = {CATEGORY.key, CATEGORY_CHAMFER.key, HIERARCHICAL.key}
    assert chamfer.keys() == {f"category_chamfer/{key}" for key in keys}
