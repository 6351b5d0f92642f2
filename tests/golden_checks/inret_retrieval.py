"""Hit rate, precision, recall and F1 at k, against the equations of INRet."""

from golden_checks.case import Case


def check(case: Case) -> None:
    """Within the case's atol."""
    raise AssertionError(f"{case.path.name}: the part 'retrieval' has no check yet")
