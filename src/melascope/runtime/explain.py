"""Where the network saw melanoma: the class activation map, and its picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from melascope.domain.assessment import Heatmap
from melascope.domain.image import RgbImage
from melascope.errors import UsageError
from melascope.imaging.preprocess import PreprocessSpec, frame

# Inferno, perceptually uniform, by Nathaniel J. Smith and Stefan van der Walt, CC0 (https://bids.github.io/colormap/):
# every fifteenth of its 256 colours; linear between them, within 6 levels of the original.
_INFERNO = (
    "000004 0a0722 1e0c45 380962 510e6c 69166e 801f6c 982766 b0315b "
    "c63d4d d94d3d e9612b f47918 fa9407 fcb014 f8cd37 f2ea69 fcffa4"
)
_ANCHORS = np.array([list(bytes.fromhex(colour)) for colour in _INFERNO.split()], dtype=np.float64)
COLOUR_TABLE = np.stack(
    [np.interp(np.arange(256), np.linspace(0, 255, len(_ANCHORS)), _ANCHORS[:, c]) for c in range(3)], axis=1
)  #: shape (256, 3), 0 to 255


def class_activation(
    features_NFHW: NDArray[np.floating], weight_F: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Class activation maps: the evidence for a class at each place of the last feature map.

    Parameters
    ----------
    features_NFHW
        The network's output `features`.
    weight_F
        The classifier's weights of the class.

    Returns
    -------
    ndarray
        Shape (n, h, w), each map scaled to [0, 1] by its maximum; all zero where nothing speaks for the
        class.

    References ---------- Zhou et al., "Learning deep features for discriminative localization", CVPR
    2016. With global average pooling before the classifier it equals Grad-CAM (Selvaraju et al., ICCV
    2017) up to its scale.
    """
    raw_NHW = np.einsum("nfhw,f->nhw", features_NFHW.astype(np.float64), weight_F.astype(np.float64))
    evidence_NHW = np.maximum(raw_NHW, 0.0)
    peak_N11 = evidence_NHW.max(axis=(1, 2), keepdims=True)
    return np.asarray(evidence_NHW / np.where(peak_N11 > 0, peak_N11, 1.0))


def heatmap_of(
    activation_HW: NDArray[np.float64], spec: PreprocessSpec, *, width_px: int, height_px: int
) -> Heatmap:
    """A class activation map and the part of an image of that size that it covers."""
    return Heatmap(
        values_HW=tuple(tuple(map(float, row)) for row in activation_HW),
        frame_px=frame(width_px, height_px, spec),
    )


def render_heatmap(image: RgbImage, heatmap: Heatmap, *, opacity: float = 0.6) -> NDArray[np.uint8]:
    """The heatmap laid over its image, in the colours of inferno.

    The stronger the evidence, the more the colour covers; where there is none the photograph stays as it
    is, and so does what the network did not see.

    Parameters
    ----------
    opacity
        Of the colour where the evidence is strongest, 0 to 1.

    Returns
    -------
    ndarray
        Shape (height, width, 3), sRGB: as large as the image.

    Raises
    ------
    UsageError
        `opacity` outside 0 to 1.
    """
    if not 0 <= opacity <= 1:
        raise UsageError(f"opacity is {opacity}.", remedy="Use 0 to 1.")
    heat_HW = strength(heatmap, width_px=image.width_px, height_px=image.height_px)
    colour_HWC = COLOUR_TABLE[np.rint(heat_HW * 255).astype(np.uint8)]
    cover_HW1 = (opacity * heat_HW)[..., None]
    return np.asarray(np.rint(image.pixels_HWC * (1 - cover_HW1) + colour_HWC * cover_HW1), dtype=np.uint8)


def strength(heatmap: Heatmap, *, width_px: int, height_px: int) -> NDArray[np.float32]:
    """The heatmap brought to the size of its image, shape (height, width), 0 to 1; 0 where the network did not look.

    Parameters
    ----------
    width_px, height_px
        Of the image that `heatmap.frame_px` speaks of.
    """
    left, top, right, bottom = heatmap.frame_px
    x0, x1 = max(0, round(left)), min(width_px, round(right))
    y0, y1 = max(0, round(top)), min(height_px, round(bottom))
    grid_HW = np.asarray(heatmap.values_HW, dtype=np.float32)
    to_grid_x, to_grid_y = grid_HW.shape[1] / (right - left), grid_HW.shape[0] / (bottom - top)
    box = (
        max(0.0, (x0 - left) * to_grid_x),
        max(0.0, (y0 - top) * to_grid_y),
        min(float(grid_HW.shape[1]), (x1 - left) * to_grid_x),
        min(float(grid_HW.shape[0]), (y1 - top) * to_grid_y),
    )
    upsampled = Image.fromarray(grid_HW).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, box=box)
    strength_HW = np.zeros((height_px, width_px), dtype=np.float32)
    strength_HW[y0:y1, x0:x1] = np.clip(np.asarray(upsampled), 0.0, 1.0)  # bicubic overshoots
    return strength_HW
