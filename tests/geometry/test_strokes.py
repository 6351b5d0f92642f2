"""The hand: errors that are smooth, details and gaps that are missing, all from the generator."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.geometry import strokes
from jax3dret.geometry.line_drawing import Line
from jax3dret.geometry.strokes import Hand, draw_by_hand, random_hand


def segment(a, b, num: int = 100, kind: str = "crease") -> Line:
    return Line(np.linspace(a, b, num).astype(float), kind)


def square(side: float = 200.0) -> list[Line]:
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * side + 40
    return [segment(a, b) for a, b in itertools.pairwise(corners)]


def ink(picture: np.ndarray) -> float:
    return float((255 - picture.astype(float)).sum() / 255)


def test_a_perfect_hand_draws_the_lines_in_the_middle():
    picture = draw_by_hand(square(), np.random.default_rng(0), hand=Hand(width=0.01))
    assert picture.shape == (448, 448) and picture.dtype == np.uint8
    rows = np.flatnonzero((picture < 128).any(1))
    assert abs(rows[0] - 0.08 * 448) <= 3 and abs(rows[-1] - 0.92 * 448) <= 3
    assert (picture[100:350, 100:350] == 255).all()
    np.testing.assert_array_equal(picture < 128, picture[::-1, ::-1] < 128)
    # A line is 0.01 * 0.84 * 448 = 3.8 pixels wide.
    assert ink(picture) == pytest.approx(4 * 0.84 * 448 * 3.8, rel=0.15)
    thick = draw_by_hand(square(), np.random.default_rng(0), hand=Hand(width=0.02))
    assert ink(thick) == pytest.approx(2 * ink(picture), rel=0.15)
    small = draw_by_hand(square(), np.random.default_rng(0), size=64, hand=Hand(width=0.03))
    assert small.shape == (64, 64) and (small < 128).any()


def test_the_same_generator_state_gives_the_same_drawing():
    first, again, other = (
        draw_by_hand(square(), np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.01
    rng = np.random.default_rng(3)
    assert random_hand(rng) != random_hand(rng)


def test_the_wobble_is_smooth():
    hand = Hand(wobble=0.02, wavelength=0.4)
    line = np.linspace([0.0, 0.0], [1.0, 0.0], 400)
    across = np.stack(
        [strokes._wobbled(line, hand, np.random.default_rng(seed))[:, 1] for seed in range(50)]
    )
    assert 0.008 < across.std() < 0.04
    # White noise of that size would differ from place to place by more than itself.
    assert np.abs(np.diff(across, axis=1)).max() < 0.3 * across.std()
    spectrum = np.abs(np.fft.rfft(across - across.mean(1, keepdims=True), axis=1)) ** 2
    assert spectrum[:, 12:].sum() < 0.05 * spectrum.sum()
    np.testing.assert_allclose(
        strokes._wobbled(line, Hand(), np.random.default_rng(0)), line, atol=1e-12
    )


def test_ends_are_too_long_or_too_short():
    line = np.linspace([0.0, 0.0], [1.0, 0.0], 200)
    ends = np.array(
        [
            strokes._wobbled(line, Hand(overshoot=0.02), np.random.default_rng(s))[[0, -1], 0]
            for s in range(200)
        ]
    )
    assert ends[:, 0].std() == pytest.approx(0.02, rel=0.2) and ends[:, 1].std() == pytest.approx(
        0.02, rel=0.2
    )
    assert (
        (ends[:, 0] < 0).any()
        and (ends[:, 0] > 0).any()
        and (ends[:, 1] > 1).any()
        and (ends[:, 1] < 1).any()
    )


def test_details_are_left_out_and_the_first_line_never():
    details = [segment([50 + 10 * i, 100], [50 + 10 * i, 104], 5) for i in range(15)]
    plain = draw_by_hand([*square(), *details], np.random.default_rng(0), hand=Hand())
    bare = draw_by_hand(
        [*square(), *details], np.random.default_rng(0), hand=Hand(least=0.05, skip=1.0)
    )
    inside = np.s_[100:350, 100:350]
    assert plain[inside].min() == 0 and bare[inside].min() == 255 and bare.min() == 0
    alone = draw_by_hand(
        details[:1], np.random.default_rng(0), hand=Hand(least=2.0, skip=1.0, forget=1.0)
    )
    assert (alone < 128).any()


def test_lines_side_by_side_are_drawn_once():
    double = [*square(), *[Line(line.points + 1.0, "crease") for line in square()]]
    hand = Hand(merge=0.016)
    once = strokes._chosen(
        strokes._framed([line.points for line in double]), hand, np.random.default_rng(0)
    )
    assert len(once) == 4
    far = [*square(), *[Line(line.points * 0.8 + 30, "crease") for line in square()]]
    assert (
        len(
            strokes._chosen(
                strokes._framed([line.points for line in far]), hand, np.random.default_rng(0)
            )
        )
        == 8
    )


def test_gaps_and_second_strokes():
    line = np.linspace([0.0, 0.0], [1.0, 0.0], 300)
    parts = [
        strokes._interrupted(line, Hand(gaps=2.0), np.random.default_rng(seed))
        for seed in range(100)
    ]
    assert 1.5 < np.mean([len(part) - 1 for part in parts]) < 2.1  # some gaps overlap
    drawn = [sum(len(piece) for piece in part) / 300 for part in parts]
    assert 0.9 < np.mean(drawn) < 0.99
    twice = [
        strokes._performed(line, Hand(again=0.5), np.random.default_rng(seed))
        for seed in range(100)
    ]
    assert 30 < sum(len(part) == 2 for part in twice) < 70


def test_proportions():
    places = strokes._framed([line.points for line in square()])
    wide = np.concatenate(strokes._misjudged(places, Hand(stretch=0.2)))
    assert np.ptp(wide[:, 0]) / np.ptp(wide[:, 1]) == pytest.approx(np.exp(0.2))
    turned = np.concatenate(strokes._misjudged(places, Hand(turn=90.0)))
    np.testing.assert_allclose(turned[0], [0.5, -0.5], atol=1e-12)
    deep = strokes._misjudged(places, Hand(keystone=(0.0, 0.2)))
    assert np.ptp(deep[0][:, 0]) / np.ptp(deep[2][:, 0]) == pytest.approx(1.1 / 0.9)


def test_nothing_to_draw():
    rng = np.random.default_rng(0)
    for lines in ([], [Line(np.zeros((1, 2)), "crease")]):
        with pytest.raises(DataError, match="no lines"):
            draw_by_hand(lines, rng)
    with pytest.raises(DataError, match="without extent"):
        draw_by_hand([Line(np.ones((5, 2)), "crease")], rng)
