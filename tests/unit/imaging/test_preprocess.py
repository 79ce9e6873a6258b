"""The one evaluation transform: shapes, geometry, and that nothing is resized or normalised twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import lesion, quarters
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from melascope.errors import UsageError
from melascope.imaging.preprocess import PreprocessSpec, frame, normalise, preprocess, to_uint8

POLICIES, COLOURS = ("squash", "crop", "pad"), ("rgb", "grayscale", "shades_of_gray")
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "box")


def spec_for(colour: str = "rgb", **fields: Any) -> PreprocessSpec:
    channels = 1 if colour == "grayscale" else 3
    return PreprocessSpec(**{"colour": colour, "mean": (0.5,) * channels, "std": (0.25,) * channels} | fields)


@settings(max_examples=150, deadline=None)
@given(
    size_px=st.integers(28, 600),
    resize=st.sampled_from(POLICIES),
    colour=st.sampled_from(COLOURS),
    interpolation=st.sampled_from(INTERPOLATIONS),
    zoom=st.floats(0.25, 1.0),
    width_px=st.integers(28, 200),
    height_px=st.integers(28, 200),
)
def test_any_specification_gives_its_shape(
    size_px: int, resize: Any, colour: str, interpolation: Any, zoom: float, width_px: int, height_px: int
) -> None:
    spec = spec_for(colour, size_px=size_px, resize=resize, interpolation=interpolation, zoom=zoom)
    image = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    cached = to_uint8(image, spec)
    assert cached.shape == (size_px, size_px, spec.channels)
    assert cached.dtype == np.uint8
    pixels_NCHW = preprocess([image, image], spec)
    assert pixels_NCHW.shape == (2, *spec.input_shape)
    assert pixels_NCHW.dtype == np.float32
    assert pixels_NCHW.flags.c_contiguous
    assert np.isfinite(pixels_NCHW).all()
    assert -2.0 - 1e-6 <= pixels_NCHW.min() <= pixels_NCHW.max() <= 2.0 + 1e-6


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size_px", [28, 600])
@pytest.mark.parametrize("resize", POLICIES)
def test_the_smallest_image_grows_to_any_size(resize: Any, size_px: int, colour: str) -> None:
    flat = np.full((28, 28, 3), 128, np.uint8)
    np.testing.assert_array_equal(to_uint8(flat, spec_for(colour, size_px=size_px, resize=resize)), 128)


def test_the_smallest_size_of_the_smallest_image_is_the_image() -> None:
    image = lesion(28, 28)
    for resize in POLICIES:
        np.testing.assert_array_equal(to_uint8(image, spec_for(size_px=28, resize=resize)), image)


@given(
    width_px=st.integers(28, 5000),
    height_px=st.integers(28, 5000),
    resize=st.sampled_from(POLICIES),
    zoom=st.floats(0.25, 1.0),
)
def test_the_frame_is_centred_and_keeps_its_aspect(
    width_px: int, height_px: int, resize: Any, zoom: float
) -> None:
    left, top, right, bottom = frame(width_px, height_px, PreprocessSpec(resize=resize, zoom=zoom))
    assert left + right == pytest.approx(width_px)
    assert top + bottom == pytest.approx(height_px)
    aspect = width_px / height_px if resize == "squash" else 1.0
    assert (right - left) / (bottom - top) == pytest.approx(aspect)
    side_px = {"crop": min, "pad": max}.get(resize, lambda width, _: width)(width_px, height_px)
    assert right - left == pytest.approx(side_px * zoom)


def test_crop_takes_the_middle_square() -> None:
    image = quarters(96, 64)
    np.testing.assert_array_equal(to_uint8(image, spec_for(size_px=64)), image[:, 16:80])


def test_zoom_takes_the_middle_of_the_square() -> None:
    image = lesion(128, 128)
    np.testing.assert_array_equal(to_uint8(image, spec_for(size_px=64, zoom=0.5)), image[32:96, 32:96])


@pytest.mark.parametrize("upright", [False, True])
def test_pad_keeps_everything_and_adds_black_bars(upright: bool) -> None:
    image = np.full((64, 128, 3), 200, np.uint8)
    padded = to_uint8(image.swapaxes(0, 1) if upright else image, spec_for(size_px=128, resize="pad"))
    padded = padded.swapaxes(0, 1) if upright else padded
    assert (padded[32:96] == 200).all()
    assert not padded[:32].any()
    assert not padded[96:].any()


def test_doing_it_in_two_steps_is_doing_it_once() -> None:
    spec, images = spec_for(size_px=64), [lesion(seed=1), lesion(seed=2)]
    stacked = np.stack([to_uint8(image, spec) for image in images])
    np.testing.assert_array_equal(normalise(stacked, spec), preprocess(images, spec))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("resize", POLICIES)
def test_what_is_framed_already_stays(resize: Any, colour: str) -> None:
    spec = spec_for(colour, size_px=64, resize=resize)
    once = to_uint8(lesion(200, 150), spec)
    again = to_uint8(np.repeat(once, 3, axis=2) if spec.channels == 1 else once, spec)
    assert np.abs(again.astype(int) - once).max() <= 3  # rounding and clipping of the colour correction


def test_normalise_is_the_formula() -> None:
    spec = PreprocessSpec(size_px=28)
    image = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    expected = (image / 255.0 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(normalise(image, spec), expected.transpose(0, 3, 1, 2), rtol=0, atol=2e-7 * 4)


def test_downscaling_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    for interpolation in INTERPOLATIONS:
        small = to_uint8(stripes, spec_for(size_px=32, interpolation=interpolation))
        assert np.abs(small[4:-4, 4:-4].astype(int) - 128).max() <= 8, interpolation


def test_no_image_is_an_empty_batch() -> None:
    assert preprocess([], PreprocessSpec()).shape == (0, 3, 224, 224)


def test_an_image_as_pillow_gives_it_is_not_changed() -> None:
    image = np.asarray(Image.fromarray(lesion()))
    before = image.copy()
    preprocess([image], spec_for("shades_of_gray", size_px=64))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"size_px": 27}, "size_px is 27"),
        ({"size_px": 601}, "size_px is 601"),
        ({"zoom": 0.2}, "zoom is 0.2"),
        ({"zoom": 1.1}, "zoom is 1.1"),
        ({"zoom": float("nan")}, "zoom is nan"),
        ({"colour": "grayscale"}, "has 1 channel"),
        ({"mean": (0.5,)}, "mean has 1 values"),
        ({"std": (0.2, 0.0, 0.2)}, "std is"),
        ({"std": (0.2, float("nan"), 0.2)}, "std is"),
        ({"mean": (0.2, float("inf"), 0.2)}, "mean is"),
    ],
)
def test_an_impossible_specification_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        PreprocessSpec(**fields)
