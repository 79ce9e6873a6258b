"""A small JPEG of a photograph, for pages and reports: browsers do not show every format that is assessed."""

from __future__ import annotations

import io

from PIL import Image

from melascope.domain.image import RgbImage


def preview_of(image: RgbImage, *, side_px: int) -> bytes:
    """A JPEG, upright sRGB without metadata, no longer than `side_px`."""
    picture = Image.fromarray(image.pixels_HWC)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
