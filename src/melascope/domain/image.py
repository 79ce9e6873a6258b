"""A decoded photograph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RgbImage:
    """Upright sRGB pixels and where they came from; nothing else of the file's metadata survives decoding."""

    pixels_HWC: NDArray[np.uint8]  #: shape (height, width, 3), sRGB
    name: str  #: for messages; never trusted as a path
    format: str  #: "JPEG", "PNG", ... as found in the content
    sha256: str  #: hex digest of the file's bytes

    @property
    def height_px(self) -> int:
        return int(self.pixels_HWC.shape[0])

    @property
    def width_px(self) -> int:
        return int(self.pixels_HWC.shape[1])
