"""Losses over views against loops, and against the versions they are not."""

import jax
import numpy as np
import pytest
from on_device import on_device

from jax3dret.core.types import ConfigError
from jax3dret.losses import views

single_view = on_device(views.single_view)
view_gcn = on_device(views.view_gcn)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 4)).astype(np.float32) * 2
SCORES = tuple(RNG.normal(size=(3, s, 2, 4)).astype(np.float32) * 3 for s in (5, 1))
LABELS = np.array([2, 0, 3])


def nll(row, label):
    return np.log(np.exp(np.float64(row)).sum()) - row[label]


def literal(rows=range(3)):
    """Mean over items; mean over all scores of all selectors together."""
    shape = [nll(LOGITS[i], LABELS[i]) for i in rows]
    selector = [nll(row, LABELS[i]) for i in rows for s in SCORES for row in s[i].reshape(-1, 4)]
    return np.mean(shape), np.mean(selector)


def test_equals_the_loops():
    total, terms = view_gcn(LOGITS, SCORES, LABELS)
    shape, selector = literal()
    np.testing.assert_allclose(
        [terms["shape"], terms["selector"], total], [shape, selector, shape + selector], 1e-5
    )
    np.testing.assert_allclose(
        view_gcn(LOGITS, SCORES, LABELS, selector_weight=0.5)[0], shape + selector / 2, 1e-5
    )


def test_is_none_of_the_likely_wrong_ones():
    selector = float(view_gcn(LOGITS, SCORES, LABELS)[1]["selector"])
    each = [
        np.mean([nll(row, LABELS[i]) for i in range(3) for row in s[i].reshape(-1, 4)])
        for s in SCORES
    ]
    tiled = [
        nll(row, np.tile(LABELS, 12)[r])
        for r, row in enumerate(
            np.concatenate([s.reshape(3, -1, 4) for s in SCORES], 1).reshape(-1, 4)
        )
    ]
    best = [nll(row, LABELS[i]) for i in range(3) for s in SCORES for row in s[i].max(1)]
    for wrong in (np.mean(each), np.sum(each), np.mean(tiled), np.mean(best)):
        assert abs(selector - wrong) > 1e-3


def test_single_view_equals_the_loops():
    found = single_view(SCORES[0][:, :, 0], LABELS)
    expected = np.mean([nll(row, LABELS[i]) for i in range(3) for row in SCORES[0][i, :, 0]])
    np.testing.assert_allclose(found, expected, 1e-5)


def test_masked_items_do_not_count_whatever_they_hold():
    mask = np.array([True, False, True])
    logits, scores = LOGITS.copy(), tuple(s.copy() for s in SCORES)
    logits[1], scores[0][1] = np.nan, np.nan
    labels = np.where(mask, LABELS, -1)

    def loss(logits, *scores):
        return view_gcn(logits, scores, labels, mask=mask)[0]

    value, grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(logits, *scores)
    np.testing.assert_allclose(value, sum(literal([0, 2])), 1e-5)
    for grad in grads:
        assert np.isfinite(grad).all() and (np.asarray(grad)[1] == 0).all()
    assert view_gcn(LOGITS, SCORES, LABELS, mask=np.zeros(3, bool))[0] == 0


def test_shapes_that_do_not_fit(unchecked):
    with pytest.raises(ConfigError, match="scores none"):
        view_gcn(LOGITS, (), LABELS)
    with pytest.raises(ConfigError, match=r"\[B, S, k, C\]"):
        view_gcn(LOGITS, (SCORES[0][:2],), LABELS)
    with pytest.raises(ConfigError, match="single_view"):
        single_view(SCORES[0], LABELS)
