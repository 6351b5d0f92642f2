"""The table of INRs found by INRs of other kinds."""

import pathlib

import pytest

from jax3dret.report.across import across
from jax3dret.report.run_files import Evaluation

KINDS = ["hashgrid_udf", "hashgrid_<b>"]


def shown(**found):
    result = {"across": found} if found else {}
    return across(Evaluation("retrieval", pathlib.Path(), result, None, None))


def test_rates_stand_where_query_and_gallery_meet():
    page = shown(
        queries=KINDS,
        gallery=KINDS,
        hit_rate_1=[[0.5, 0.125], [0.25, 1.0]],
        same_shape=[[None, 0.75], [0.875, None]],
    )
    first, second = page.split("<tr>")[2:]
    assert first.index(">50.0<") < first.index(">12.5 (75.0)<")
    assert second.index(">25.0 (87.5)<") < second.index(">100.0<")
    assert "<b>" not in page and "hashgrid_&lt;b&gt;" in page and 'id="across"' in page


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"queries": KINDS[:1], "gallery": KINDS[:1], "hit_rate_1": [[0.5]], "same_shape": [[None]]},
        {"queries": KINDS, "gallery": KINDS, "hit_rate_1": "no", "same_shape": []},
        {"queries": None, "gallery": 3},
    ],
)
def test_one_kind_alone_or_damaged_numbers_show_nothing(found):
    assert shown(**found) == ""
