"""inr2vec's published evaluation: the share of queries with one of their class among the k
nearest.
"""

import numpy as np

from golden_checks.case import Case
from jax3dret.metrics import hit_rate


def check_retrieval(case: Case) -> None:
    """By Euclidean distance, and of embeddings of length 1, which is by their angle."""
    inputs, out = case.group("in"), case.group("out")
    vectors, labels = inputs["embeddings"], inputs["labels"]
    ids = [str(i) for i in range(len(labels))]
    cuts = case.info["config"]["k"]
    for name, distance in (("recall", "euclidean"), ("recall_cos", "cosine")):
        found = hit_rate.by_query(
            vectors,
            vectors,
            hit_rate.Sides(labels, ids, labels, ids),
            cuts=cuts,
            distance=distance,
        )
        ours = [found[hit_rate.HIT_RATE.at(k=k)].mean() for k in cuts]
        np.testing.assert_allclose(ours, out.pop(name), rtol=0, atol=case.info["atol"])
    assert not out


CHECKS = {"retrieval": check_retrieval}
