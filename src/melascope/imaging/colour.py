"""Colour: grayscale and colour constancy, on uint8 pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: ITU-R BT.601 luma weights, those of `PIL.Image.convert("L")`.
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def grayscale(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of an RGB image.

    Parameters
    ----------
    pixels_HWC
        sRGB, shape (height, width, 3).

    Returns
    -------
    ndarray
        Shape (height, width, 1), ITU-R BT.601 luma rounded to the nearest integer.
    """
    luma_HW: NDArray[np.float32] = pixels_HWC.astype(np.float32) @ _LUMA_WEIGHTS
    return np.rint(luma_HW).astype(np.uint8)[..., None]


def shades_of_gray(pixels_HWC: NDArray[np.uint8], *, power: int = 6) -> NDArray[np.uint8]:
    """Colour constancy by the Shades of Gray method: make the Minkowski mean of the three channels equal.

    Parameters
    ----------
    pixels_HWC
        sRGB, shape (height, width, 3).
    power
        The Minkowski norm; 1 is Gray World, infinity is max-RGB. 6 is what Barata et al. found best for
        dermoscopy.

    References
    ----------
    Finlayson and Trezzi, "Shades of gray and colour constancy", CIC 2004. Barata, Celebi and Marques,
    "Improving dermoscopy image classification using color constancy", IEEE JBHI 19(3), 2015.
    """
    levels = (np.arange(256, dtype=np.float64) / 255.0) ** power
    illuminant_C = np.array(
        [
            (np.bincount(pixels_HWC[..., c].ravel(), minlength=256) @ levels) / pixels_HWC[..., c].size
            for c in range(3)
        ]
    ) ** (1.0 / power)
    if illuminant_C.min() <= 0:  # a channel that is black throughout has no colour to correct
        return pixels_HWC
    gain_C = np.linalg.norm(illuminant_C) / np.sqrt(3.0) / illuminant_C
    lookup = np.clip(np.rint(np.arange(256)[:, None] * gain_C), 0, 255).astype(np.uint8)
    return np.stack([lookup[pixels_HWC[..., c], c] for c in range(3)], axis=-1)
