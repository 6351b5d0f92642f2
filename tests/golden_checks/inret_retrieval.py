"""Hit rate, precision, recall and F1 at k, against the equations of INRet."""

import numpy as np

from golden_checks.case import Case
from jax3dret.metrics import hit_rate


def check(case: Case) -> None:
    """Within the case's atol."""
    inputs, out = case.group("in/retrieval"), case.group("out/retrieval")
    labels = inputs["labels"].astype(np.int64)
    ids = [str(i) for i in range(len(labels))]
    k = int(inputs["k"][0])
    found = hit_rate.by_query(
        inputs["embeddings"],
        inputs["embeddings"],
        hit_rate.Sides(labels, ids, labels, ids),
        cuts=(k,),
    )
    keys = {
        "hit": hit_rate.HIT_RATE,
        "precision": hit_rate.PRECISION,
        "recall": hit_rate.RECALL,
        "f1": hit_rate.F1,
    }
    assert set(out) == set(keys)
    for name, metric in keys.items():
        np.testing.assert_allclose(
            found[metric.at(k=k)].mean(), out[name][0], rtol=0, atol=case.info["atol"], err_msg=name
        )
