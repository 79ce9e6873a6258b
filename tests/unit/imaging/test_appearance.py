import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from melascope.imaging.appearance import N_APPEARANCE, appearance


def pictures(*sizes, channels=3):
    return st.sampled_from(sizes).flatmap(lambda side: arrays(np.uint8, (side, side, channels)))


@settings(max_examples=40, deadline=None)
@given(pixels=pictures(28, 31, 112, 149))
def test_any_picture_has_finite_numbers(pixels):
    found = appearance(pixels)
    assert found.shape == (N_APPEARANCE,)
    assert np.isfinite(found).all()


@settings(max_examples=40, deadline=None)
@given(pixels=pictures(28, 56, 112))
def test_the_contrasts_at_all_scales_make_up_the_whole_contrast(pixels):
    contrast_SC = np.exp(appearance(pixels)[:12].reshape(4, 3)) - 1 / 512
    np.testing.assert_allclose((contrast_SC**2).sum(axis=0), (pixels / 255).var(axis=(0, 1)), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(pixels=pictures(56, 112))
def test_a_mirrored_picture_looks_the_same(pixels):
    np.testing.assert_allclose(appearance(pixels[:, ::-1]), appearance(pixels), atol=2e-3)


@settings(max_examples=20, deadline=None)
@given(pixels=pictures(28, 45, channels=1))
def test_one_channel_is_three_equal_ones(pixels):
    np.testing.assert_array_equal(appearance(pixels), appearance(pixels.repeat(3, axis=-1)))


@pytest.mark.parametrize(("step", "scale"), [(1, 0), (8, 1), (16, 2), (32, 3)])
def test_a_chessboard_has_contrast_at_its_own_scale_alone(step, scale):
    y, x = np.mgrid[:224, :224]
    board = (((y // step + x // step) % 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    contrast_SC = np.exp(appearance(board)[:12].reshape(4, 3)) - 1 / 512
    expected_SC = np.zeros((4, 3))
    expected_SC[scale] = 0.5
    np.testing.assert_allclose(contrast_SC, expected_SC, atol=1e-3)


def test_a_plain_colour_has_no_contrast_and_its_own_colour():
    found = appearance(np.broadcast_to(np.array([204, 102, 51], dtype=np.uint8), (112, 112, 3)))
    np.testing.assert_allclose(found[:12], np.log(1 / 512), atol=1e-3)
    np.testing.assert_allclose(found[12:18], [0.8, 0.4, 0.2, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[18:24], [0.6, 0, 0.4, 0, 0.2, 0], atol=1e-6)
    np.testing.assert_array_equal(found[24:], 0)


def test_shares_of_dark_bright_greenish_and_bluish():
    quarters = np.zeros((112, 112, 3), dtype=np.uint8)
    quarters[:56, 56:] = 255
    quarters[56:, :56] = (100, 200, 100)
    quarters[56:, 56:] = (100, 100, 200)
    np.testing.assert_allclose(appearance(quarters)[24:], 0.25)
