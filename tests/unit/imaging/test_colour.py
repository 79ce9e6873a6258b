"""Grayscale as Pillow's; colour constancy takes a cast away and leaves balance alone."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import lesion
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from melascope.imaging.colour import grayscale, shades_of_gray

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)))


@given(IMAGES)
def test_grayscale_is_within_one_of_pillow(pixels_HWC: np.ndarray) -> None:
    ours = grayscale(pixels_HWC)
    assert ours.shape == (*pixels_HWC.shape[:2], 1)
    theirs = np.asarray(Image.fromarray(pixels_HWC).convert("L"))
    assert np.abs(ours[..., 0].astype(int) - theirs).max() <= 1


def test_gray_pixels_stay_what_they_are() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(grayscale(levels)[0, :, 0], np.arange(256))


def minkowski_means(pixels_HWC: np.ndarray, power: int) -> np.ndarray:
    return np.mean((pixels_HWC / 255.0) ** power, axis=(0, 1)) ** (1 / power)


@given(IMAGES)
def test_a_balanced_image_is_left_alone(pixels_HWC: np.ndarray) -> None:
    # Each permutation of the channels once: the three means are equal.
    balanced = np.concatenate([np.roll(pixels_HWC, shift, axis=2) for shift in range(3)])
    np.testing.assert_array_equal(shades_of_gray(balanced), balanced)


@given(st.floats(0.6, 1.0), st.floats(0.6, 1.0), st.integers(1, 8))
def test_a_cast_is_removed(green: float, blue: float, power: int) -> None:
    rng = np.random.default_rng(0)
    balanced = np.repeat(rng.integers(40, 140, (40, 40, 1)), 3, axis=2)
    cast = np.rint(balanced * np.array([1.0, green, blue])).astype(np.uint8)
    corrected = shades_of_gray(cast, power=power)
    means = minkowski_means(corrected, power) * 255
    assert np.ptp(means) < 1
    assert np.ptp(corrected.astype(int), axis=2).max() <= 3


def test_the_power_of_the_illuminant_is_kept() -> None:
    # Finlayson and Trezzi scale to a gray of the same Euclidean norm: bright stays bright.
    pixels = lesion()
    before, after = (minkowski_means(image, 6) for image in (pixels, shades_of_gray(pixels)))
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=0.02)


@given(IMAGES)
def test_correcting_again_changes_little(pixels_HWC: np.ndarray) -> None:
    once = shades_of_gray(pixels_HWC // 3 + 60)  # no clipping, no black channel
    assert np.abs(shades_of_gray(once).astype(int) - once).max() <= 2


@pytest.mark.parametrize("level", [(0, 0, 0), (120, 0, 60)])
def test_a_black_channel_has_no_colour_to_correct(level: tuple[int, int, int]) -> None:
    image = np.full((5, 5, 3), level, np.uint8)
    np.testing.assert_array_equal(shades_of_gray(image), image)
