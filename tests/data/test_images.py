"""Images to the size and the numbers that a tower takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.images import CLIP, IMAGENET, MOBILENET, normalise, resize_center_crop

RNG = np.random.default_rng(0)


def test_normalise():
    image = RNG.integers(0, 256, (2, 3, 4, 3), np.uint8)
    found = jax.jit(lambda x: [normalise(x, n) for n in (IMAGENET, CLIP, MOBILENET)])(image)
    for value, (mean, std) in zip(found, (IMAGENET, CLIP, ((0.5,) * 3, (0.5,) * 3)), strict=True):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(
            value, (image / 255.0 - np.array(mean)) / np.array(std), rtol=0, atol=1e-5
        )
    assert (normalise(jnp.zeros(3, jnp.uint8), MOBILENET) == -1).all()
    assert (normalise(jnp.full(3, 255, jnp.uint8), MOBILENET) == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_normalise_takes_bytes_alone(unchecked, dtype):
    with pytest.raises(ConfigError, match="uint8 in"):
        normalise(np.zeros((2, 2, 3), dtype), IMAGENET)


@pytest.mark.parametrize(
    ("shape", "size", "resized", "left", "top"),
    [
        ((20, 31), 10, (15, 10), 2, 0),
        ((31, 20), 10, (10, 15), 0, 2),
        ((9, 20), 18, (40, 18), 11, 0),
        ((8, 8), 4, (4, 4), 0, 0),
    ],
)
@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_shorter_side_then_centre(shape, size, resized, left, top, name):
    image = RNG.integers(0, 256, (*shape, 3), np.uint8)
    whole = np.asarray(
        Image.fromarray(image).resize(resized, getattr(Image.Resampling, name.upper()))
    )
    found = resize_center_crop(image, size, name)
    assert found.shape == (size, size, 3) and found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, whole[top : top + size, left : left + size])


def test_fitting_image_stays_as_it_is():
    image = RNG.integers(0, 256, (6, 9, 3), np.uint8)
    np.testing.assert_array_equal(resize_center_crop(image, 6), image[:, 2:8])  # 1.5 rounds to even


def test_extreme_shapes():
    assert resize_center_crop(np.full((1, 1, 3), 7, np.uint8), 5).tolist() == [[[7] * 3] * 5] * 5
    assert resize_center_crop(np.zeros((2, 200, 3), np.uint8), 4).shape == (4, 4, 3)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_refuses_other_images(unchecked, image):
    with pytest.raises(DataError, match=r"expected uint8\[H, W, 3\]"):
        resize_center_crop(image)


def test_refuses_other_settings():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ConfigError, match="'area'; expected one of bicubic, bilinear"):
        resize_center_crop(image, 2, "area")
    with pytest.raises(ConfigError, match="at least 1 pixel"):
        resize_center_crop(image, 0)


@pytest.mark.parametrize("side", [0, 1])
def test_the_middle_of_a_long_image_without_scaling_it_whole(side, monkeypatch):
    """Of 30,000 x 3 pixels the square in the middle; what is seen is that of the whole, scaled."""
    wave = 128 + 100 * np.sin(np.arange(30_000)[None, :, None] / 3 + np.arange(3)[:, None, None])
    image = np.repeat(np.rint(wave).astype(np.uint8), 3, 2)
    image = np.ascontiguousarray(image if side else image.swapaxes(0, 1))
    found = resize_center_crop(image, 8)
    monkeypatch.setattr("jax3dret.data.images._LONG", 1e9)
    wanted = resize_center_crop(image, 8)
    assert found.shape == wanted.shape == (8, 8, 3)
    assert np.ptp(wanted) > 50 and np.abs(found.astype(int) - wanted).max() <= 1
