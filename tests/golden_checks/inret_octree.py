"""The sparse octree of features, against the equations of INRet."""

import jax.numpy as jnp
import numpy as np

from golden_checks.case import Case
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.octree_cells import corner_places, tree


def check(case: Case) -> None:
    """Summed features at points, within the case's atol."""
    config, given = case.info["config"], case.group("in/octree")
    base, levels = config["base_level"], config["levels"]
    cells = [given[f"level{base + i}/cells"] for i in range(levels)]
    table = []
    for i, places in enumerate(corner_places(cells)):
        stored = {
            tuple(place): row
            for place, row in zip(
                given[f"level{base + i}/corners"].tolist(),
                given[f"level{base + i}/features"],
                strict=True,
            )
        }
        assert len(stored) == len(places), "corners that no occupied cell has"
        table += [stored[tuple(place)] for place in places.tolist()]
    table = np.stack(table)
    octree = Octree(base=base, levels=levels, width=table.shape[1])
    variables = {"grid": {"table": jnp.asarray(table)}, "structure": tree(cells, base)}
    found = octree.features(variables, jnp.asarray(given["coords"]))
    np.testing.assert_allclose(
        found, case.tensors["out/octree/features"], rtol=0, atol=case.info["atol"]
    )
