"""An evaluator that lives outside the package, found by its name: how far apart the embeddings of a
split lie."""

import numpy as np

from jax3dret.data.pipeline import eval_batches


def make(data, open_source, *, distance, split="test", scale=1.0, offset=0.0):
    """The spread of the embeddings of a split, times `scale`, and `offset` as it is."""
    spec = data("shape", split)
    source = open_source(spec.split, spec.name)

    def evaluate(embed_fn, folder):
        rows = [embed_fn(batch)["shape"][batch["mask"]] for batch in eval_batches(source, spec)]
        spread = scale * np.ptp(np.concatenate(rows), axis=0).max()
        found = {f"spread_{distance}": float(spread), "items": float(len(source))}
        return found | ({"offset": np.float32(offset)} if offset else {})

    return evaluate
