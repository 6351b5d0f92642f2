"""Parity with published code: every reference case below --golden is checked by the kind in its
name.
"""

import importlib
import pkgutil

import golden_checks
from golden_checks.case import Case

CHECKS = {}
for _module in pkgutil.iter_modules(golden_checks.__path__):
    CHECKS.update(getattr(importlib.import_module(f"golden_checks.{_module.name}"), "CHECKS", {}))


def test_golden(golden_path):
    case = Case.load(golden_path)
    assert case.kind in CHECKS, (
        f"{golden_path.name}: no check for the kind '{case.kind}' (there are: "
        f"{', '.join(sorted(CHECKS))})"
    )
    CHECKS[case.kind](case)
