"""What a picture looks like at a glance: how much it varies from fine to coarse, and its colours.

A dermoscopic photograph is smooth, of skin colours and not very bright or dark anywhere; few other pictures are all
of this. The numbers serve to tell them apart and mean nothing about a lesion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: How many numbers `appearance` gives.
N_APPEARANCE = 28

_GRID = 28  # cells a side: no preprocessed image has fewer pixels
_HALF_LEVEL = 1 / 512  # added to contrasts of [0, 1] pixels, so that the logarithm of none is finite
_DARK, _BRIGHT = 0.05, 0.95
_BLUE_CAST = 0.03


def appearance(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Numbers that describe a preprocessed picture.

    Parameters
    ----------
    pixels_HWC
        As `imaging.preprocess.to_uint8` gives them: square, at least 28 pixels a side, 1 or 3 channels.

    Returns
    -------
    ndarray
        Shape (28,), finite: the logarithm of the contrast at four scales, finest first, of red, green and blue
        each; their means; how these differ in the picture's middle; mean and deviation of the saturation, of
        red - green and of green - blue; the shares of the picture that are dark, bright, greenish and bluish.
    """
    size_px = len(pixels_HWC)
    levels_HWC = np.broadcast_to(pixels_HWC, (size_px, size_px, 3))
    edges = np.linspace(0, size_px, _GRID + 1).astype(int)
    area = np.outer(np.diff(edges), np.diff(edges))[..., None]
    rows = np.add.reduceat(levels_HWC, edges[:-1], axis=0, dtype=np.uint32)
    sums = np.add.reduceat(rows, edges[:-1], axis=1)
    squares_C = np.multiply(levels_HWC, levels_HWC, dtype=np.uint16).sum(axis=0, dtype=np.uint32).sum(axis=0)
    within_C = (squares_C - (sums.astype(np.float64) ** 2 / area).sum(axis=(0, 1))) / (255 * size_px) ** 2
    cells = sums / area / 255
    middle, coarse = _halved(cells), _halved(_halved(cells))
    contrasts = (
        np.sqrt(np.maximum(within_C, 0)),
        (cells - _doubled(middle)).std(axis=(0, 1)),
        (middle - _doubled(coarse)).std(axis=(0, 1)),
        coarse.std(axis=(0, 1)),
    )
    mean_C = coarse.mean(axis=(0, 1))
    red_green, green_blue = cells[..., 0] - cells[..., 1], cells[..., 1] - cells[..., 2]
    saturation, lightness = cells.max(axis=-1) - cells.min(axis=-1), cells.mean(axis=-1)
    spread = [f(part) for part in (saturation, red_green, green_blue) for f in (np.mean, np.std)]
    shares = [
        np.mean(part)
        for part in (lightness < _DARK, lightness > _BRIGHT, red_green < 0, green_blue < -_BLUE_CAST)
    ]
    off_centre_C = coarse[2:5, 2:5].mean(axis=(0, 1)) - mean_C
    logarithms = [np.log(contrast_C + _HALF_LEVEL) for contrast_C in contrasts]
    return np.concatenate([*logarithms, mean_C, off_centre_C, spread, shares])


def _halved(cells: NDArray[np.floating]) -> NDArray[np.floating]:
    """Means of 2 x 2 cells."""
    half = len(cells) // 2
    return np.asarray(cells.reshape(half, 2, half, 2, -1).mean(axis=(1, 3)))


def _doubled(cells: NDArray[np.floating]) -> NDArray[np.floating]:
    return cells.repeat(2, axis=0).repeat(2, axis=1)
