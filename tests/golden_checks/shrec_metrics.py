"""The measures of the SHREC tracks, query by query, against public ports of its code, and their
variants by definition.
"""

import numpy as np

from golden_checks.case import Case
from jax3dret.metrics import shrec
from jax3dret.metrics.retrieval import mean_over_queries

PUBLISHED = {"NN": "NN", "FT": "FT", "ST": "ST", "E": "E32", "DCG": "nDCG", "AP": "mAP"}
BY_DEFINITION = {
    "AP": "mAP",
    "MRR": "MRR",
    "ST_precision": "ST_prec",
    "F1_at_2C": "F2C",
    "P_at_C": "FT",
    "nDCG_at_C": "nDCG_C",
}
MEANS = {**{k: v for k, v in BY_DEFINITION.items() if k != "AP"}, **PUBLISHED}


def check(case: Case) -> None:
    atol = case.info["atol"]
    checked = set()
    for kind in case.info["config"]["kinds"]:
        inputs = case.group(f"in/{kind}")
        order = np.argsort(inputs["distance"], axis=1, kind="stable")
        relevant = inputs["gallery_label"][order] == inputs["query_label"][:, None]
        np.testing.assert_array_equal(relevant.sum(axis=1), inputs["C"])
        ours = shrec.scores(relevant)
        hits = np.cumsum(relevant, axis=1)
        expected = {
            **{f"out/{kind}/sbsr_{name}": ours[key] for name, key in PUBLISHED.items()},
            **{f"spec/{kind}/{name}": ours[key] for name, key in BY_DEFINITION.items()},
            f"spec/{kind}/AP_matlab_padded": shrec.average_precision(
                relevant, largest=int(inputs["C"].max())
            ),
            f"spec/{kind}/PR20": shrec.precision_recall_curve(shrec.precision_at_recall(relevant))[
                1
            ],
            f"spec/{kind}/rank_first": 1 / ours["MRR"],
            f"out/{kind}/precision_at_k_mean": (hits / np.arange(1, hits.shape[1] + 1)).mean(
                axis=0
            ),
            f"out/{kind}/recall_at_k_mean": (hits / inputs["C"][:, None]).mean(axis=0),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(value, case.tensors[name], rtol=0, atol=atol, err_msg=name)
        for name, value in case.info["config"]["means"][kind].items():
            mean = (
                np.mean(1 / ours["MRR"])
                if name == "rank_first"
                else mean_over_queries(ours[MEANS[name]])
            )
            np.testing.assert_allclose(
                mean, value, rtol=0, atol=atol, err_msg=f"{kind}: mean {name}"
            )
        checked |= expected.keys()
    assert {name for name in case.tensors if not name.startswith("in/")} == checked


CHECKS = {"shrec_metrics": check}
