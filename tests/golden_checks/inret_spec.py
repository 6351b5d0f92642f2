"""The equations of INRet that no published code holds: one file a part, all parts checked."""

from golden_checks import (
    inret_chamfer,
    inret_conv3d,
    inret_octree,
    inret_retrieval,
    inret_unified,
)
from golden_checks.case import Case

PARTS = {
    "octree": inret_octree.check,
    "conv3d": inret_conv3d.check,
    "unified": inret_unified.check,
    "retrieval": inret_retrieval.check,
    "chamfer": inret_chamfer.check,
}


def check(case: Case) -> None:
    """Each part within the case's atol; a part of the case without a check is an error."""
    parts = {name.split("/")[1] for name in case.tensors if name.startswith("out/")}
    assert parts <= set(PARTS), f"{case.path.name}: no check for {sorted(parts - set(PARTS))}"
    for name in sorted(parts):
        PARTS[name](case)


CHECKS = {"inret_spec": check}
