"""The published evaluation of geometric retrieval: 1-NN accuracy and macro F1, and its NDCG beside
three honest ones.
"""

import numpy as np

from jax3dret.metrics import classification, ranking, retrieval


def check_retrieval_eval(case):
    inputs = case.group("in")
    gallery, gallery_labels = inputs["train_emb"], inputs["train_labels"]
    queries, query_labels = inputs["test_emb"], inputs["test_labels"]
    k, num_classes = case.info["k"], case.info["num_classes"]
    total = ranking.count_relevant(query_labels, gallery_labels)
    checked = set()
    for name, distance in (("euclidean_as_coded", "euclidean"), ("cosine_as_described", "cosine")):
        rows = np.concatenate(
            [rows for _, rows, _ in ranking.rank(queries, gallery, k=k, distance=distance)]
        )
        relevant = ranking.relevance(rows, query_labels, gallery_labels)
        predicted = gallery_labels[rows[:, 0]]
        mean = retrieval.mean_over_queries
        ours = {
            "nn_acc": mean(retrieval.nn_accuracy(relevant)),
            "nn_f1_macro": classification.macro_f1(query_labels, predicted),
            "ndcg_published_code": mean(retrieval.ndcg_published_code(relevant, num_classes, n=k)),
            "derived_closed_form_of_published_ndcg": mean(
                retrieval.ndcg_published_code(relevant, num_classes, n=k)
            ),
            "derived_ndcg_ideal_min_k_R": mean(retrieval.ndcg(relevant, total, n=k), empty="zero"),
            "derived_ndcg_ideal_k": mean(
                retrieval.ndcg(relevant, total, n=k, ideal="n"), empty="zero"
            ),
            "derived_ndcg_ideal_retrieved_hits": mean(
                retrieval.ndcg(relevant, total, n=k, ideal="retrieved"), empty="zero"
            ),
        }
        expected = case.group(f"out/{name}")
        np.testing.assert_array_equal(
            predicted, expected["pred"], err_msg=f"{name}: nearest-neighbour class"
        )
        for key, value in ours.items():
            # The float32 references are rounded; the float64 ones are not.
            tolerance = 1e-12 if expected[key].dtype == np.float64 else 2e-7
            np.testing.assert_allclose(
                value, expected[key].item(), rtol=0, atol=tolerance, err_msg=f"{name}: {key}"
            )
        checked |= {f"out/{name}/{key}" for key in (*ours, "pred")}
    assert {key for key in case.tensors if key.startswith("out/")} == checked


CHECKS = {"retrieval_eval": check_retrieval_eval}
