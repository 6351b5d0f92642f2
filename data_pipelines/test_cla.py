"""The reader of .cla files: nested classes, foreign line ends, cut-off lists, things listed twice."""

from __future__ import annotations

import pytest

from data_pipelines.cla import read_cla
from jax3dret.core.types import DataError

TRAIN = """PSB 1
5 4

vehicle 0 0

car vehicle 0

sedan car 2
1500
12

wheel 0 1
7

gear wheel 1
8
"""


def test_nested_classes(tmp_path):
    path = tmp_path / "a.cla"
    path.write_text(TRAIN)
    assert [(entry.path, entry.models) for entry in read_cla(path)] == [
        ("vehicle/car/sedan", ("1500", "12")),
        ("wheel", ("7",)),
        ("wheel/gear", ("8",)),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("<html></html>", "is an HTML page"),
        ("OFF\n4 4 0\n", "does not begin"),
        (TRAIN.rpartition("8")[0], "announces 5 classes and 4 models but holds 5 and 3"),
        (TRAIN.partition("wheel")[0], "announces 5 classes and 4 models but holds 3 and 2"),
        (
            TRAIN.replace("12\n", ""),
            "'wheel 0 1' stands where 1 more models of 'vehicle/car/sedan' should",
        ),
        (TRAIN.replace("sedan car", "sedan auto"), "'sedan' has the parent 'auto'"),
        (TRAIN.replace("\n12\n", "\n7\n"), "lists 7 twice among its models"),
        (TRAIN.replace("gear wheel 1", "gear 1"), "'gear 1' is no class line"),
    ],
)
def test_refused_lists(tmp_path, text, says):
    path = tmp_path / "a.cla"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        read_cla(path)
    assert "\n" not in str(caught.value)


def test_foreign_line_ends_tabs_and_blanks(tmp_path):
    path = tmp_path / "a.cla"
    path.write_bytes(
        b"\xef\xbb\xbfPSB 1\t\r\n2\t3  \r\n\r\nbee\t0 2 \t\r\n  7\t\r\n12 \r\n\r\n\t\r\nwine_bottle 0\t1\r\n000030\t\r\n\r\n"
    )
    assert [tuple(entry) for entry in read_cla(path)] == [
        ("bee", ("7", "12")),
        ("wine_bottle", ("000030",)),
    ]


def test_what_is_counted_has_its_name(tmp_path):
    path = tmp_path / "a.cla"
    path.write_text("PSB 1\n1 3\nbee 0 2\n1\n2\n")
    with pytest.raises(DataError, match="announces 1 classes and 3 sketches but holds 1 and 2"):
        read_cla(path, items="sketches")
