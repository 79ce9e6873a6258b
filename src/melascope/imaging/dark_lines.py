"""Thin dark lines in a photograph: hair, and the ticks of a ruler.

`thin_dark` finds what is thin and dark, `long_lines` keeps of it what is long and straight, and `tick_regularity`
looks in the rest for ticks at equal distances along a line. Lengths are in pixels of a picture of about 300 x 225.
Morphology is NumPy's, since a cold start should not wait for SciPy's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Step = tuple[int, int]  #: down and right, down never negative

_WIDTH_PX = 9  #: lines as wide as this are no longer thin
_LENGTH_PX = 19  #: lines shorter than this are not hair; pigment network is shorter
_DIRECTIONS: tuple[Step, ...] = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))

_TICK_DEPTH = 14  #: levels of 255 by which a tick is darker than what is around it
_SPACINGS_PX = np.array([2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9, 10, 12])
_N_ANGLES = 16
_ANGLES = np.arange(_N_ANGLES) * np.pi / _N_ANGLES
_MARGIN_PX = 26  #: further than any tooth of a comb reaches: two spacings, and rounding
_STRIP_PX = 6.0  #: width of the strips along which ticks are counted
_MAX_POINTS = 256  #: dark points that are looked at; of more, an even selection
_CHANCE_TICKS = 5.0  #: so that a few ticks amid nothing are not infinitely regular


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


def tick_regularity(depth_HW: NDArray[np.uint8], lines_HW: NDArray[np.uint8]) -> float:
    """How far ticks at equal distances along a line outnumber what chance gives; 0 for none.

    A dark point that is on no long line counts for a spacing and an angle if the two next to it on either side are
    dark as well and the places half-way between them are not. Those of one strip along that angle are counted; the
    fullest strip is compared with the average over all spacings and angles, since texture fits many of them a little.
    """
    dark_HW = np.pad((depth_HW > _TICK_DEPTH) & (lines_HW < depth_HW // 2), _MARGIN_PX)
    dark = dark_HW.ravel()
    points = np.flatnonzero(dark)
    thinning = -(-len(points) // _MAX_POINTS)
    if not thinning:
        return 0.0
    points = points[::thinning]
    comb, at = _fitting_combs(dark, points, dark_HW.shape[1])
    if not len(comb):
        return 0.0
    y, x = np.divmod(points[at], dark_HW.shape[1])
    angle = _ANGLES[comb % _N_ANGLES]
    across = y * np.cos(angle) - x * np.sin(angle)
    strip = ((across - across.min()) / _STRIP_PX).astype(np.intp)
    n_strips, n_combs = int(strip.max()) + 2, len(_SPACINGS_PX) * _N_ANGLES
    counts = (
        np.bincount(comb * n_strips + strip, minlength=n_combs * n_strips).reshape(n_combs, n_strips)
        * thinning
    )
    fullest = (counts[:, 1:] + counts[:, :-1]).max()  # a ruler may lie across the edge between two strips
    return float(fullest / (counts.sum() / n_combs + _CHANCE_TICKS))


def _fitting_combs(
    dark: NDArray[np.bool_], points: NDArray[np.intp], width: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which combs (spacing and angle) fit which points: indices of combs, and of points, in pairs."""
    spacing, angle = (grid.ravel() for grid in np.meshgrid(_SPACINGS_PX, _ANGLES, indexing="ij"))

    def offset(teeth: float) -> NDArray[np.intp]:
        down, right = np.rint(teeth * spacing * np.sin(angle)), np.rint(teeth * spacing * np.cos(angle))
        offsets: NDArray[np.intp] = (down * width + right).astype(np.intp)
        return offsets

    def dark_at(teeth: float) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = dark[points + offset(teeth)[:, None]]
        return found

    comb, at = np.nonzero(dark_at(1) & dark_at(-1) & ~dark_at(0.5) & ~dark_at(-0.5))
    centre = points[at]
    fits = np.ones(len(at), dtype=bool)
    for teeth in (2, -2):
        fits &= dark[centre + offset(teeth)[comb]] & ~dark[centre + offset(0.75 * teeth)[comb]]
    return comb[fits], at[fits]
