"""THE step from an image to what a network reads: resize, crop, colour, normalise.

There is no second evaluation transform: training's evaluation, the parity check, `predict` and the server all
call this. The specification is data in the bundle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from melascope.errors import UsageError
from melascope.imaging.colour import grayscale, shades_of_gray

ResizePolicy = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic", "lanczos", "box"]
ColourMode = Literal["rgb", "grayscale", "shades_of_gray"]

MIN_SIZE_PX, MAX_SIZE_PX = 28, 600

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessSpec:
    """How an image becomes a network's input. Immutable; travels in the recipe and in the bundle."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    size_px: int = 224  #: side of the square the network reads, 28 to 600
    resize: ResizePolicy = "crop"
    """`crop`: the largest centred square; `squash`: the whole image, its aspect given up; `pad`: the whole
    image, its aspect kept, the rest filled with black."""
    zoom: float = 1.0  #: share of the chosen frame's sides that is kept around its centre, 0.25 to 1
    interpolation: Interpolation = "bilinear"  #: always with antialiasing
    colour: ColourMode = "rgb"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  #: per channel, of pixels in [0, 1]
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not MIN_SIZE_PX <= self.size_px <= MAX_SIZE_PX:
            raise UsageError(
                f"preprocess.size_px is {self.size_px}.", remedy=f"Use {MIN_SIZE_PX} to {MAX_SIZE_PX}."
            )
        if not 0.25 <= self.zoom <= 1.0:
            raise UsageError(f"preprocess.zoom is {self.zoom}.", remedy="Use 0.25 to 1.")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise UsageError(
                f"preprocess.mean has {len(self.mean)} values and std {len(self.std)}, "
                f"but colour {self.colour!r} has {self.channels} channel(s).",
                remedy=f"Give {self.channels} of each.",
            )
        if not all(map(math.isfinite, self.mean)):
            raise UsageError(f"preprocess.mean is {self.mean}.", remedy="Every value must be finite.")
        if not all(0 < value < math.inf for value in self.std):
            raise UsageError(
                f"preprocess.std is {self.std}.", remedy="Every value must be above 0 and finite."
            )

    @property
    def channels(self) -> int:
        """Channels of the network's input: 1 for grayscale, else 3."""
        return 1 if self.colour == "grayscale" else 3

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one input."""
        return (self.channels, self.size_px, self.size_px)


def frame(width_px: int, height_px: int, spec: PreprocessSpec) -> tuple[float, float, float, float]:
    """Part of the image that the network sees, as (left, top, right, bottom) in pixels of the image.

    With `pad` it reaches beyond the image. The heatmap is laid over this part.
    """
    match spec.resize:
        case "squash":
            side_x, side_y = float(width_px), float(height_px)
        case "crop":
            side_x = side_y = float(min(width_px, height_px))
        case "pad":
            side_x = side_y = float(max(width_px, height_px))
    side_x, side_y = side_x * spec.zoom, side_y * spec.zoom
    left, top = (width_px - side_x) / 2, (height_px - side_y) / 2
    return (left, top, left + side_x, top + side_y)


def to_uint8(pixels_HWC: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Resize, crop and colour, short of normalising: what a cache stores.

    Parameters
    ----------
    pixels_HWC
        sRGB, shape (height, width, 3).

    Returns
    -------
    ndarray
        Shape (size_px, size_px, channels).
    """
    height_px, width_px = pixels_HWC.shape[:2]
    left, top, right, bottom = frame(width_px, height_px, spec)
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width_px)), min(bottom, float(height_px)))
    # Only `pad` frames reach outside: resize what is inside and centre it on black.
    target_w = max(1, round(spec.size_px * (inside[2] - inside[0]) / (right - left)))
    target_h = max(1, round(spec.size_px * (inside[3] - inside[1]) / (bottom - top)))
    image = Image.fromarray(pixels_HWC)
    resized = np.asarray(image.resize((target_w, target_h), _FILTERS[spec.interpolation], box=inside))
    if (target_w, target_h) != (spec.size_px, spec.size_px):
        canvas = np.zeros((spec.size_px, spec.size_px, 3), dtype=np.uint8)
        y, x = (spec.size_px - target_h) // 2, (spec.size_px - target_w) // 2
        canvas[y : y + target_h, x : x + target_w] = resized
        resized = canvas
    match spec.colour:
        case "rgb":
            return resized
        case "grayscale":
            return grayscale(resized)
        case "shades_of_gray":
            return shades_of_gray(resized)


def normalise(pixels_NHWC: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.float32]:
    """Scale to [0, 1], subtract the mean, divide by the standard deviation, channels first.

    Parameters
    ----------
    pixels_NHWC
        As `to_uint8` gives them, stacked.

    Returns
    -------
    ndarray
        Shape (n, channels, size_px, size_px), float32, C-contiguous.
    """
    # A table of the 256 possible values per channel is exact and faster than arithmetic on every pixel.
    levels = np.arange(256, dtype=np.float64)[:, None] / 255.0
    table = ((levels - np.asarray(spec.mean)) / np.asarray(spec.std)).astype(np.float32)
    return np.stack([table[pixels_NHWC[..., c], c] for c in range(spec.channels)], axis=1)


def preprocess(images_HWC: Sequence[NDArray[np.uint8]], spec: PreprocessSpec) -> NDArray[np.float32]:
    """Images to one network input: `to_uint8` each, then `normalise`.

    Returns
    -------
    ndarray
        `pixels_NCHW`, shape (n, channels, size_px, size_px), float32.
    """
    if not images_HWC:
        return np.empty((0, *spec.input_shape), dtype=np.float32)
    return normalise(np.stack([to_uint8(pixels_HWC, spec) for pixels_HWC in images_HWC]), spec)
