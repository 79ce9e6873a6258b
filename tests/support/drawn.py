"""Pictures that are drawn, with no symmetry, and what a file of them may look like."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def quarters(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Flat patches of colour of which no rotation or flip looks like another; edges on multiples of 16 px."""
    pixels_HWC = np.empty((height_px, width_px, 3), np.uint8)
    pixels_HWC[:] = (200, 150, 120)
    pixels_HWC[: height_px // 2, : width_px // 2] = (220, 30, 40)
    pixels_HWC[height_px // 2 :, : width_px // 4] = (20, 40, 200)
    pixels_HWC[height_px // 4 : height_px // 2, width_px // 2 :] = (30, 160, 60)
    return pixels_HWC


def lesion(width_px: int = 120, height_px: int = 90, *, seed: int = 0) -> NDArray[np.uint8]:
    """A dark blot with a noisy rim on skin: as hard to code as a photograph."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height_px, :width_px]
    radius = np.hypot((x - width_px * 0.45) / width_px, (y - height_px * 0.55) / height_px)
    inside = (radius + rng.normal(0, 0.03, radius.shape) < 0.28)[..., None]
    pixels = np.where(inside, (90, 50, 40), (205, 160, 140)) + rng.normal(0, 9, (height_px, width_px, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def encode(pixels: NDArray[Any] | Image.Image, image_format: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    # Copies, since Pillow keeps one format's encoder settings on an image and trips over them in the next.
    if "append_images" in options:
        options["append_images"] = [image.copy() for image in options["append_images"]]
    image = pixels.copy() if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()
