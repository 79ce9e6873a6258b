"""The class activation map and its picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from melascope.domain.assessment import Heatmap
from melascope.domain.image import RgbImage
from melascope.errors import UsageError
from melascope.imaging.preprocess import PreprocessSpec, frame
from melascope.runtime.explain import COLOUR_TABLE, class_activation, heatmap_of, render_heatmap

FINITE = st.floats(-100, 100, width=32)


def grey(height_px: int, width_px: int, level: int = 128) -> RgbImage:
    pixels = np.full((height_px, width_px, 3), level, dtype=np.uint8)
    return RgbImage(pixels_HWC=pixels, name="grey", format="PNG", sha256="0" * 64)


@given(arrays(np.float32, (2, 3, 4, 5), elements=FINITE), arrays(np.float32, 3, elements=FINITE))
def test_a_map_is_the_positive_weighted_sum_over_its_maximum(
    features: np.ndarray, weight: np.ndarray
) -> None:
    maps = class_activation(features, weight)
    assert maps.shape == (2, 4, 5)
    assert np.isfinite(maps).all()
    assert maps.min() >= 0
    for n in range(2):
        evidence = np.maximum(np.tensordot(weight.astype(float), features[n].astype(float), axes=(0, 0)), 0)
        assert maps[n].max() == (1.0 if evidence.max() > 0 else 0.0)
        np.testing.assert_allclose(maps[n] * evidence.max(), evidence, rtol=1e-9, atol=1e-9)


def test_without_evidence_the_photograph_stays_as_it_is() -> None:
    image = grey(30, 40)
    heatmap = heatmap_of(
        np.zeros((7, 7)), PreprocessSpec(), width_px=image.width_px, height_px=image.height_px
    )
    np.testing.assert_array_equal(render_heatmap(image, heatmap), image.pixels_HWC)
    lit = heatmap_of(np.ones((7, 7)), PreprocessSpec(), width_px=image.width_px, height_px=image.height_px)
    np.testing.assert_array_equal(render_heatmap(image, lit, opacity=0.0), image.pixels_HWC)


def test_colour_lies_where_the_evidence_is_and_only_in_the_frame() -> None:
    activation = np.zeros((8, 8))
    activation[0, 0] = 1.0
    image = grey(80, 120)
    overlay = render_heatmap(
        image,
        heatmap_of(
            activation, PreprocessSpec(resize="crop"), width_px=image.width_px, height_px=image.height_px
        ),
        opacity=1.0,
    )
    changed = (overlay != image.pixels_HWC).any(axis=2)
    assert changed[0:10, 20:30].all()  # the grid's first cell: the centred square starts at x = 20
    assert not changed[:, :20].any()
    assert not changed[30:, :].any()
    assert not changed[:, 50:].any()


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("zoom", [1.0, 0.5])
@pytest.mark.parametrize("size", [(31, 97), (97, 31), (28, 28)])
def test_full_evidence_covers_the_frame_and_nothing_else(
    resize: str, zoom: float, size: tuple[int, int]
) -> None:
    image = grey(*size)
    spec = PreprocessSpec(resize=resize, zoom=zoom)  # type: ignore[arg-type]
    overlay = render_heatmap(
        image,
        heatmap_of(np.ones((5, 5)), spec, width_px=image.width_px, height_px=image.height_px),
        opacity=1.0,
    )
    left, top, right, bottom = frame(image.width_px, image.height_px, spec)
    covered = np.zeros(size, dtype=bool)
    covered[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = True
    np.testing.assert_array_equal((overlay == np.rint(COLOUR_TABLE[255])).all(axis=2), covered)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_an_opacity_outside_its_range_is_refused(opacity: float) -> None:
    heatmap = Heatmap(values_HW=((1.0,),), frame_px=(0, 0, 30, 30))
    with pytest.raises(UsageError, match="opacity"):
        render_heatmap(grey(30, 30), heatmap, opacity=opacity)


def test_the_colours_are_those_of_inferno() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    inferno = np.asarray(matplotlib.colormaps["inferno"].colors) * 255
    assert np.abs(COLOUR_TABLE - inferno).max() <= 6
