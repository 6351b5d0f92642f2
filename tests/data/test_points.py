"""Point transforms: directions, order of draws, probabilities, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data import points as P


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def cloud(count: int = 50, normals: bool = True, seed: int = 3) -> dict:
    rng = generator(seed)
    record = {
        "id": "part/1",
        "label": 2,
        "points": rng.uniform(-1, 1, (count, 3)).astype(np.float32),
    }
    if normals:
        vectors = rng.standard_normal((count, 3))
        record["normals"] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(
            np.float32
        )
    return record


@pytest.mark.parametrize(
    ("axis", "before", "after"),
    [("x", (0, 1, 0), (0, 0, 1)), ("y", (0, 0, 1), (1, 0, 0)), ("z", (1, 0, 0), (0, 1, 0))],
)
def test_a_quarter_turn_is_counter_clockwise(axis, before, after):
    matrix = P.rotation_matrix(**{f"angle_{axis}": np.pi / 2})
    np.testing.assert_allclose(P.rotate(np.array([before], np.float32), matrix), [after], atol=1e-7)


def test_rotations_compose_as_x_then_y_then_z():
    angles = (0.3, 1.1, -2.0)
    step = cloud()["points"]
    for axis, angle in zip("xyz", angles, strict=True):
        step = P.rotate(step, P.rotation_matrix(**{f"angle_{axis}": angle}))
    np.testing.assert_allclose(
        P.rotate(cloud()["points"], P.rotation_matrix(*angles)), step, atol=1e-6
    )
    assert np.linalg.det(P.rotation_matrix(*angles)) == pytest.approx(1)


def test_rotate_draws_only_for_enabled_axes_and_turns_normals_with_the_points():
    record = cloud()
    out = P.Rotate(x=True, z=True)(record, generator(5))
    draws = generator(5)
    matrix = P.rotation_matrix(draws.uniform(0, 2 * np.pi), 0, draws.uniform(0, 2 * np.pi))
    for key in ("points", "normals"):
        np.testing.assert_allclose(out[key], record[key] @ matrix.T.astype(np.float32), atol=1e-6)
        assert out[key].dtype == np.float32


@pytest.mark.parametrize(
    ("uniforms", "axis"),
    [
        ((0.6, 0.9, 0.9), 2),
        ((0.4, 0.6, 0.9), 0),
        ((0.4, 0.4, 0.6), 1),
        ((0.4, 0.4, 0.4), None),
        ((0.5, 0.5, 0.5), None),
    ],
)
def test_the_first_draw_above_one_half_decides_the_plane(uniforms, axis):
    assert P.flip_axis(uniforms, xy=True, yz=True, xz=True) == axis


def test_flip_takes_one_draw_per_enabled_plane():
    assert P.flip_axis((0.1, 0.8), yz=True, xz=True) == 1
    with pytest.raises(ValueError, match="3 draws for 2 enabled planes"):
        P.flip_axis((0.1, 0.8, 0.2), yz=True, xz=True)
    rng = generator(1)
    P.Flip(xy=True, yz=True)(cloud(), rng)
    expected = generator(1)
    expected.uniform(size=2)
    assert rng.uniform() == expected.uniform()


def test_flip_negates_the_coordinate_off_the_plane_with_chances_one_half_one_quarter_one_eighth():
    record = cloud(4)
    rng, counts = generator(0), {2: 0, 0: 0, 1: 0, None: 0}
    trials = 4000
    for _ in range(trials):
        out = P.Flip(xy=True, yz=True, xz=True)(record, rng)
        signs = (out["points"] / record["points"])[0]
        np.testing.assert_array_equal(out["points"], record["points"] * signs)
        np.testing.assert_array_equal(out["normals"], record["normals"] * signs)
        flipped = np.flatnonzero(signs < 0)
        assert len(flipped) <= 1
        counts[int(flipped[0]) if len(flipped) else None] += 1
    for axis, chance in ((2, 1 / 2), (0, 1 / 4), (1, 1 / 8), (None, 1 / 8)):
        assert counts[axis] / trials == pytest.approx(chance, abs=0.03)


def test_stretched_normals_stay_normal_to_the_stretched_surface():
    tangent, normal, factors = (
        np.array([[1.0, -1.0, 0.5]]),
        np.array([[1.0, 1.0, 0.0]]),
        np.array([0.7, 1.2, 0.9]),
    )
    stretched = P.stretch(tangent, factors)
    inverse = P.stretch_normals(normal, factors)
    published = P.stretch_normals(normal, factors, "published")
    assert float((stretched * inverse).sum()) == pytest.approx(0, abs=1e-12)
    assert abs(float((stretched * published).sum())) > 0.1
    np.testing.assert_allclose(np.linalg.norm([inverse[0], published[0]], axis=1), 1)
    np.testing.assert_array_equal(P.stretch_normals(np.zeros((1, 3)), factors), np.zeros((1, 3)))
    with pytest.raises(ConfigError, match="inverse"):
        P.Stretch(0.7, 1.2, normals="forward")


def test_stretch_draws_a_factor_per_axis_and_scale_one_for_all():
    record = cloud()
    ratio = P.Stretch(0.7, 1.25)(record, generator(2))["points"] / record["points"]
    assert ratio.std(axis=0).max() < 1e-5
    assert len(np.unique(ratio[0].round(4))) == 3
    assert ((ratio > 0.699) & (ratio < 1.251)).all()
    scaled = P.Scale(0.7, 1.25)(record, generator(2))
    assert (scaled["points"] / record["points"]).std() < 1e-5
    np.testing.assert_array_equal(scaled["normals"], record["normals"])
    with pytest.raises(ConfigError, match="0 < min <= max"):
        P.Scale(1.25, 0.7)


def test_jitter_clips_the_offset_and_not_the_noise():
    record = cloud(2000)
    offsets = P.Jitter(0.05, 0.07)(record, generator(4))["points"] - record["points"]
    assert np.abs(offsets).max() == pytest.approx(0.07, abs=1e-6)
    assert 0.10 < (np.abs(offsets) > 0.0699).mean() < 0.22  # 16 % of N(0, 1) lie beyond 1.4 sigma
    assert np.abs(offsets.mean(axis=0)).max() < 0.005
    points = np.zeros((1, 3), np.float32)
    np.testing.assert_allclose(
        P.jitter(points, np.array([[0.5, -1, 3]]), 0.05, 0.07), [[0.025, -0.05, 0.07]], atol=1e-8
    )


def test_shift_moves_every_point_by_one_vector():
    record = cloud()
    moved = P.Shift(0.07)(record, generator(6))["points"] - record["points"]
    assert moved.std(axis=0).max() < 1e-6
    assert np.abs(moved).max() <= 0.0701
    assert len(np.unique(moved[0].round(5))) == 3


def test_subsample_repeats_nothing_while_there_are_enough_points():
    record = cloud(40)
    for count in (40, 13):
        out = P.Subsample(count)(record, generator(7))
        assert len(np.unique(out["points"], axis=0)) == count
        rows = [
            int(np.flatnonzero((record["points"] == point).all(axis=1))[0])
            for point in out["points"]
        ]
        np.testing.assert_array_equal(out["normals"], record["normals"][rows])
        assert rows != sorted(rows)


def test_subsample_repeats_points_of_a_small_cloud():
    out = P.Subsample(64)(cloud(5), generator(7))
    assert out["points"].shape == out["normals"].shape == (64, 3)
    assert len(np.unique(out["points"], axis=0)) == 5


@pytest.mark.parametrize(
    "points", [np.zeros((0, 3), np.float32), np.zeros((4, 2), np.float32), None]
)
def test_a_cloud_without_points_is_named(points):
    record = {"id": "part/7", "label": 0} | ({} if points is None else {"points": points})
    for transform in (
        P.Subsample(4),
        P.Rotate(y=True),
        P.Normalize(),
        P.Jitter(0.1, 0.2),
        P.Flip(xy=True),
    ):
        with pytest.raises(DataError, match="part/7"):
            transform(record, generator())


def test_normalize_puts_the_mean_at_the_origin_and_the_farthest_point_at_one():
    points = np.array(
        [[3, 0, 0], [5, 0, 0], [4, 4, 0], [4, 0, 0]], np.float32
    )  # box centre (4, 2, 0), mean (4, 1, 0)
    out = P.Normalize()({"id": "part/1", "points": points, "scale": 7.0}, generator())
    np.testing.assert_allclose(out["points"] * 3 + [4, 1, 0], points, atol=1e-6)
    assert out["points"].dtype == np.float32 and out["scale"] == 7.0
    with pytest.raises(DataError, match=r"part/1.*one place"):
        P.Normalize()({"id": "part/1", "points": np.ones((5, 3), np.float32)}, generator())


def test_up_axis_turns_z_to_y_without_mirroring():
    record = {
        **cloud(6),
        "vertices": np.eye(3, dtype=np.float32),
        "centroid": np.array([1, 2, 3], np.float32),
    }
    out = P.UpAxis("z")(record, generator())
    np.testing.assert_array_equal(
        out["vertices"], P.rotate(np.eye(3), P.rotation_matrix(-np.pi / 2)).round()
    )
    np.testing.assert_array_equal(out["vertices"][2], [0, 1, 0])
    np.testing.assert_array_equal(out["centroid"], [1, 3, -2])
    np.testing.assert_array_equal(
        out["points"], record["points"][:, [0, 2, 1]] * np.array([1, 1, -1], np.float32)
    )
    assert P.UpAxis("y")(record, generator())["points"] is record["points"]
    with pytest.raises(ConfigError, match="'y' or 'z'"):
        P.UpAxis("x")


def test_two_views_are_different_draws_of_one_record():
    record = cloud(60)
    make = P.TwoViews((P.Subsample(16), *P.paper_augmentations("xyz")))
    out = make(record, generator(9))
    assert out["view_a"].shape == out["view_b"].shape == (16, 3)
    assert not np.allclose(out["view_a"], out["view_b"])
    only = P.TwoViews((P.Subsample(16),))(record, generator(9))
    assert {tuple(p) for p in only["view_a"]} != {tuple(p) for p in only["view_b"]}
    again = make(record, generator(9))
    np.testing.assert_array_equal(out["view_b"], again["view_b"])
    assert not np.array_equal(out["view_a"], make(record, generator(10))["view_a"])


def test_transforms_leave_the_record_they_were_given_alone():
    record = cloud(60)
    kept = {key: np.array(value) for key, value in record.items()}
    transforms = (
        P.UpAxis("z"),
        P.Normalize(),
        P.Flip(xy=True, yz=True),
        *P.paper_augmentations("xyz"),
        P.Subsample(60),
    )
    out = record
    for transform in transforms:
        out = transform(out, generator(1))
    assert out["points"].dtype == out["normals"].dtype == np.float32
    for key, value in kept.items():
        np.testing.assert_array_equal(record[key], value)


def test_keep_names_what_is_missing():
    assert set(P.Keep(("points",))(cloud(), generator())) == {"points"}
    with pytest.raises(DataError, match="'view_a' to keep; it has id, label"):
        P.Keep(("view_a",))(cloud(), generator())


def test_presets():
    kinds = [type(t).__name__ for t in P.paper_augmentations("xyz")]
    assert kinds == ["Rotate", "Stretch", "Scale", "Jitter", "Shift"]
    assert P.paper_augmentations("")[0] == P.Stretch(0.7, 1.25)
    assert P.paper_augmentations()[0] == P.Rotate(y=True)
    assert P.published_augmentations("scanobjectnn")[:2] == (
        P.Rotate(y=True),
        P.Flip(xy=True, yz=True),
    )
    assert P.published_augmentations("objaverse_easy")[0] == P.Flip(yz=True, xz=True)
    assert P.published_augmentations("mcb") == (
        P.Stretch(0.8, 1.1),
        P.Jitter(0.001, 0.01),
        P.Shift(0.05),
    )
    mirror, *rest = P.part_augmentations()
    assert rest == [P.Stretch(0.7, 1.25), P.Jitter(0.001, 0.01), P.Shift(0.05)]
    cloud = {"points": np.full((1, 3), 1.0, np.float32)}
    mirrored = {
        tuple(mirror(cloud, np.random.default_rng(seed))["points"][0]) for seed in range(50)
    }
    assert mirrored == {(1, 1, 1), (-1, 1, 1), (1, 1, -1)}  # never upside down
    with pytest.raises(ConfigError, match="modelnet40, shapenet_normal"):
        P.published_augmentations("modelnet10")
    with pytest.raises(ConfigError, match="name the axes"):
        P.paper_augmentations("w")
