"""What a metric is called: one record beside each function, under the name that files have."""

import numpy as np

from jax3dret.metrics import classification, instances, retrieval, shrec
from jax3dret.metrics.metric import Metric, about

MODULES = (retrieval, classification, shrec, instances)


def records(module):
    for value in vars(module).values():
        yield from [value] if isinstance(value, Metric) else []
        if isinstance(value, tuple) and value and isinstance(value[0], Metric):
            yield from value


def test_a_cut_is_filled_in_everywhere():
    metric = retrieval.PRECISION.at(k=7)
    assert metric == ("precision_7", "Precision@7", "relevant items among the first 7, over 7")
    assert retrieval.NN_ACC.at(k=7) == retrieval.NN_ACC


def test_about_keeps_the_order():
    wanted = (retrieval.NN_ACC, classification.NN_F1)
    assert list(about(wanted)) == ["nn_acc", "nn_f1"] != list(about(wanted[::-1]))
    assert about(wanted)["nn_f1"] == {"title": "Macro F1", "meaning": classification.NN_F1.meaning}


def test_every_record_says_what_it_is_in_one_line():
    for module in MODULES:
        found = [record.at(k=3, n=9) for record in records(module)]
        assert found, module.__name__
        for record in found:
            assert record.title and record.meaning and "\n" not in "".join(record)
            assert "{" not in "".join(record), record.key


def test_two_names_are_never_one_but_for_their_case():
    """mAP of the SHREC tracks and the mean average precision of pessimistic ties are two
    numbers."""
    keys = [
        r.at(k=1, n=1).key.lower() for m in (retrieval, classification, shrec) for r in records(m)
    ]
    own = [r.key for r in classification.BY_CLASS]
    keys = [key for key in keys if key not in own] + ["nn_acc"]
    assert len(set(keys)) == len(keys)
    assert {"map_pessimistic", "map"} <= set(keys)


def test_the_functions_give_what_is_described():
    relevant = np.array([[True, False, True]])
    assert {m.key for m in shrec.METRICS} == set(shrec.scores(relevant))
    assert {m.key for m in instances.METRICS} == set(instances.rank_metrics(np.array([1.0, 2.0])))
    table = classification.per_class_table(np.array([0]), np.array([0]), ["a"])
    assert {m.key for m in classification.BY_CLASS} == set(table[0]) - {"class", "items"}
