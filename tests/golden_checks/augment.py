"""Point-cloud augmentations with recorded draws: each operation alone, on points and normals."""

from __future__ import annotations

import numpy as np

from golden_checks.case import Case
from jax3dret.data import points as ops
from jax3dret.geometry.normalize import normalize_points

TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}
PLANES = {"flip_all": ("xy", "yz", "xz"), "flip_yz_xz": ("yz", "xz")}


def check_augment(case: Case) -> None:
    given, expected = case.group("in"), case.group("out")
    cloud = given.pop("points_normals")
    points, normals = cloud[:, :3], cloud[:, 3:]
    operations = {key.split("/")[0] for key in expected}
    assert operations == {key.split("/")[0] for key in given}
    for operation in sorted(operations):
        draws = {
            key.split("/")[1]: value
            for key, value in given.items()
            if key.startswith(operation + "/")
        }
        ours = _apply(operation, draws, points, normals)
        for name, value in ours.items():
            np.testing.assert_allclose(
                value,
                expected.pop(f"{operation}/{name}"),
                err_msg=f"{operation}/{name}",
                **TOLERANCE,
            )
    assert not expected, f"not compared: {sorted(expected)}"


def _apply(
    operation: str, draws: dict[str, np.ndarray], points: np.ndarray, normals: np.ndarray
) -> dict[str, np.ndarray]:
    if operation == "normalize":
        out, _, scale = normalize_points(draws["points"])
        return {"out": out, "scale": np.asarray(scale)}
    (drawn,) = draws.values()
    if operation.startswith("rotate_"):
        matrix = ops.rotation_matrix(
            **{f"angle_{axis}": a for axis, a in zip(operation[7:], drawn, strict=True)}
        )
        points, normals = ops.rotate(points, matrix), ops.rotate(normals, matrix)
    elif operation.startswith("flip_"):
        planes = PLANES[operation.rsplit("_", 1)[0]]
        axis = ops.flip_axis(list(drawn), **dict.fromkeys(planes, True))
        points, normals = ops.flip(points, axis), ops.flip(normals, axis)
    elif operation == "stretch":
        points, normals = (
            ops.stretch(points, drawn),
            ops.stretch_normals(normals, drawn, "published"),
        )
    elif operation == "scale":
        points = ops.scale(points, drawn.item())
    elif operation == "jitter":
        points = ops.jitter(points, drawn, sigma=0.05, clip=0.07)
    elif operation == "shift":
        points = ops.shift(points, drawn)
    else:
        raise AssertionError(f"no check for the operation '{operation}'")
    return {"out": np.concatenate([points, normals], axis=1)}


CHECKS = {"augment": check_augment}
