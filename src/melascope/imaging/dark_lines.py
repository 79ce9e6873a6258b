"""Thin dark lines in a photograph: hair, and the edge of a ruler.

`thin_dark` finds what is thin and dark, `long_lines` keeps of it what is long, and `ruler_line` looks there for one
line that is straight all along and alone. Lengths are in pixels of a picture of about 300 x 225. Morphology is
NumPy's, since a cold start should not wait for SciPy's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Step = tuple[int, int]  #: down and right, down never negative

_WIDTH_PX = 9  #: lines as wide as this are no longer thin
_LENGTH_PX = 19  #: lines shorter than this are not hair; pigment network is shorter
_DIRECTIONS: tuple[Step, ...] = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))

_LINE_DEPTH = 10  #: levels of 255 by which a ruler's edge is darker than what is around it
_FRAME_PX = 4  #: lines this near the border are the picture's frame
_ANGLES = np.arange(96) * np.pi / 96
_STRIP_PX = 2  #: a straight line stays within a strip as wide as this
_BESIDE = 8  #: strips to either side in which other lines are looked for, but for the next two
_GAP_PX = 12  #: a longer gap ends a line
_MAX_POINTS = 400  #: dark points that are looked at; of more, an even selection
_CROWD = 8  #: points a strip beside a line that halve its weight


def thin_dark(luma_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """By how many levels each pixel is darker than its surroundings, if what is dark there is thin.

    The bottom-hat transform: a morphological closing with a 9 x 9 square, less the picture.
    """
    return _by_square(luma_HW, _WIDTH_PX, closing=True) - luma_HW


def small_bright(luma_HW: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """By how many levels each pixel is brighter than its surroundings, if what is bright there is small.

    The top-hat transform: the picture, less a morphological opening with a square of `side_px`, an odd number.
    """
    return luma_HW - _by_square(luma_HW, side_px, closing=False)


def _by_square(luma_HW: NDArray[np.uint8], side_px: int, *, closing: bool) -> NDArray[np.uint8]:
    pixels_HW = np.pad(luma_HW, side_px - 1, mode="edge")
    for extreme in (np.maximum, np.minimum) if closing else (np.minimum, np.maximum):
        for step in ((0, 1), (1, 0)):
            pixels_HW = _along(pixels_HW, extreme, step, side_px)
    return pixels_HW


def long_lines(depth_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`depth_HW` where it lies on a straight line 19 pixels long in one of 8 directions, less elsewhere.

    The greatest of the morphological openings with those lines. Lee et al., "DullRazor", Comput. Biol. Med. 27:533
    (1997), find hair by closings with lines; they are shorter and take pigment network for hair.
    """
    padded = np.pad(depth_HW, _LENGTH_PX)
    greatest = np.zeros_like(depth_HW)
    for down, right in _DIRECTIONS:
        count = round(_LENGTH_PX / math.hypot(down, right))
        above, beside = _LENGTH_PX - down * (count - 1), _LENGTH_PX - abs(right) * (count - 1)
        needed = padded[above : padded.shape[0] - above, beside : padded.shape[1] - beside]
        lowest = _along(needed, np.minimum, (down, right), count)
        np.maximum(greatest, _along(lowest, np.maximum, (down, right), count), out=greatest)
    return greatest


def _along(pixels_HW: NDArray[np.uint8], extreme: np.ufunc, step: Step, count: int) -> NDArray[np.uint8]:
    """Extreme of each `count` pixels in a row along `step`, where all of them are there; so the result is smaller."""
    reached = 1
    while reached < count:
        stride = min(reached, count - reached)
        down, right = step[0] * stride, step[1] * stride
        height, width = pixels_HW.shape
        here = pixels_HW[: height - down, max(-right, 0) : width - max(right, 0)]
        there = pixels_HW[down:, max(right, 0) : width - max(-right, 0)]
        pixels_HW = extreme(here, there)
        reached += stride
    return pixels_HW


def ruler_line(lines_HW: NDArray[np.uint8]) -> float:
    """Length of the straightest of `long_lines`, as a share of the picture's diagonal; less where it is not alone.

    The edge of a ruler is straight over a third of the picture. A hair seldom is, and where there is much of it,
    some lie in a row by chance: the length is divided by 1 + n/8, n being the dark points a strip beside it. A
    Hough transform (Duda and Hart, Commun. ACM 15:11, 1972) finds the strip, 2 pixels wide, with the most points.
    """
    inner_HW = lines_HW[_FRAME_PX:-_FRAME_PX, _FRAME_PX:-_FRAME_PX]
    y, x = np.nonzero(inner_HW > _LINE_DEPTH)
    thinning = -(-len(y) // _MAX_POINTS)
    if not thinning:
        return 0.0
    y, x = y[::thinning], x[::thinning]
    across_AN = np.outer(np.cos(_ANGLES), y) - np.outer(np.sin(_ANGLES), x)
    strip_AN = ((across_AN - across_AN.min()) / _STRIP_PX).astype(np.intp) + _BESIDE
    n_strips = int(strip_AN.max()) + _BESIDE + 1
    flat_AN = strip_AN + n_strips * np.arange(len(_ANGLES))[:, None]
    counts_AS = np.bincount(flat_AN.ravel(), minlength=len(_ANGLES) * n_strips).reshape(-1, n_strips)
    angle, strip = np.unravel_index(counts_AS.argmax(), counts_AS.shape)
    beside = np.delete(
        counts_AS[angle, strip - _BESIDE : strip + _BESIDE + 1], slice(_BESIDE - 2, _BESIDE + 3)
    )
    along = (y * np.sin(_ANGLES[angle]) + x * np.cos(_ANGLES[angle]))[strip_AN[angle] == strip]
    crowd = thinning * float(beside.mean())
    return _longest_run(along, _GAP_PX + thinning) / math.hypot(*lines_HW.shape) / (1 + crowd / _CROWD)


def _longest_run(places: NDArray[np.float64], gap: float) -> float:
    """Length of the longest stretch of a line with no gap wider than `gap` between the places on it."""
    ordered = np.sort(places)
    ends = np.flatnonzero(np.diff(ordered, append=np.inf) > gap)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return float((ordered[ends] - ordered[starts]).max())
