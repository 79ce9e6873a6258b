"""Is the photograph good enough? Blur, exposure, glare, resolution, hair, rulers, ink, dark corners, a cut lesion.

Everything is measured on a reduced copy of about 300 x 225 pixels, about what a network reads: lengths mean
the same for every camera, a 12-megapixel photograph costs little more than a small one, and blur that does not
survive the reduction harms nobody. Small photographs are not enlarged. `docs/image-quality.md` says how the limits
were found and how many photographs of public datasets cross them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from melascope.domain.assessment import QualityFinding, Severity
from melascope.imaging.dark_lines import long_lines, ruler_line, small_bright, thin_dark


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """All that is measured of a photograph. A "share" is of pixels, 0 to 1; the centre is 60 % of either side."""

    short_side_px: float  #: of the photograph itself
    contrast: float  #: of the most varied channel: 1st to 99th percentile at coarse scale, 0 to 255
    skin_luma: float  #: 95th percentile of the luma at coarse scale, 0 to 255
    burnt: float  #: share of the centre that is white or nearly so at coarse scale
    blur_px: float  #: standard deviation of the blur, see `_blur_px`; NaN where nothing has an edge
    coarse_blur_px: float  #: the same, measured at coarse scale, where strong blur and noise are told apart
    glare: float  #: share of the centre in small white spots
    hair: float  #: share under long thin dark lines, of the centre or of its surroundings, whichever is less
    lesion_cut: float  #: share of the picture's border that has the colour of a lesion
    dark_corners: float  #: share of the picture that is black and reaches its border
    ruler: float  #: length of a lone straight dark line in diagonals, see `ruler_line`
    ink: float  #: share of what surrounds the centre that is far bluer or greener than the skin
    stretch: float  #: longer side by shorter side
    colour: float  #: mean difference of the strongest and the weakest channel, 0 to 255
    blue_cast: float  #: mean of blue by mean of red


class _Limit(NamedTuple):
    code: str
    severity: Severity
    measure: str  #: the field of `Quality`
    limit: float
    side: int  #: 1: values above the limit are found; -1: values below it


#: The gravest limit of a code comes first. "Real" are the 12,015 photographs of HAM10000 and ISIC 2017 (training);
#: "the score" is the default network's log odds of melanoma, r its correlation with that of the unharmed photograph.
_LIMITS = (
    # The palest real photograph spans 36 levels. With 70 % of the contrast gone r is 0.80, with 90 % it is 0.47.
    _Limit("blank", "unusable", "contrast", 16, -1),
    _Limit("blank", "poor", "contrast", 30, -1),
    # 103 in the darkest real photograph. Three stops too dark, r is 0.94; six, it is 0.55.
    _Limit("too-dark", "unusable", "skin_luma", 30, -1),
    _Limit("too-dark", "poor", "skin_luma", 80, -1),
    # 0.28 in the brightest real photograph. White tells nothing of what was there.
    _Limit("too-bright", "unusable", "burnt", 0.8, 1),
    _Limit("too-bright", "poor", "burnt", 0.3, 1),
    # 1.44 and 7.6 in the most blurred real photographs. Blurred by 1 % of the shorter side, r is 0.93; by 6 %, 0.64.
    _Limit("blurred", "unusable", "coarse_blur_px", 12, 1),
    _Limit("blurred", "poor", "coarse_blur_px", 8, 1),
    _Limit("blurred", "poor", "blur_px", 1.5, 1),
    # r is 0.98 at 96 pixels, 0.90 at 48.
    _Limit("low-resolution", "unusable", "short_side_px", 48, -1),
    _Limit("low-resolution", "poor", "short_side_px", 96, -1),
    # What 10 spots of 2 % of the shorter side cover; r is 0.97 then, 0.88 with 40 spots.
    _Limit("glare", "poor", "glare", 0.005, 1),
    # r is 0.90 at a share of 0.05, 0.52 at 0.15; real hair is softer than painted hair, and 1.4 % have more than this.
    _Limit("hair", "poor", "hair", 0.12, 1),
    # By lesion masks seven in ten of the photographs above it are cut indeed; of those that are, a third is found.
    _Limit("lesion-cut", "poor", "lesion_cut", 0.15, 1),
    # These do not move the score (r is 0.99 and more): to be told, for the next photograph.
    _Limit("dark-corners", "note", "dark_corners", 0.02, 1),
    _Limit("ruler", "note", "ruler", 0.25, 1),
    _Limit("ink", "note", "ink", 0.02, 1),
    # 1.3 in real photographs. A strip, a screenshot, a collage: the network would see its middle alone.
    _Limit("odd-shape", "poor", "stretch", 2, 1),
    # 5.4 in the palest of 6,000 real photographs; without colour, melanomas are passed over.
    _Limit("no-colour", "poor", "colour", 4, -1),
    # 1.21 or less in 999 of 1,000 real photographs: skin is red.
    _Limit("colour-cast", "poor", "blue_cast", 1.25, 1),
)

#: What was found and what to do, by code; `{value}` is what was measured.
SENTENCES = {
    "blank": "The picture shows hardly anything that stands out from its background. Photograph the lesion again.",
    "too-dark": "The picture is too dark. Photograph it again with the dermoscope's light on or a longer exposure.",
    "too-bright": "{value:.0%} of the picture's centre is burnt out to white. Photograph it again with less exposure.",
    "blurred": "The picture is blurred. Rest the dermoscope on the skin, focus on the lesion and hold still.",
    "low-resolution": "The picture's shorter side has only {value:.0f} pixels. Use the original, not a preview of it.",
    "glare": "Reflections cover parts of the lesion. Use polarised light, or more immersion fluid without bubbles.",
    "hair": "Hair covers much of the lesion. Clip it or comb it aside and photograph the lesion again.",
    "lesion-cut": "The lesion seems to reach beyond the picture. Photograph it from further away, with skin around it.",
    "dark-corners": "{value:.0%} of the picture is the dermoscope's dark rim. Zoom in, or crop if the lesion allows.",
    "ruler": "There seems to be a ruler in the picture, or a long straight hair. Keep both away from the lesion.",
    "ink": "There seems to be ink, or a coloured marker, beside the lesion. Photograph lesions before marking them.",
    "odd-shape": "The picture is {value:.1f} times as long as wide. Give the photograph itself.",
    "no-colour": "The picture has next to no colour. Photograph the lesion in colour, with white light.",
    "colour-cast": "The picture is far bluer than skin. Set the white balance to the dermoscope's light.",
}


def examine(pixels_HWC: NDArray[np.uint8]) -> tuple[QualityFinding, ...]:
    """What limits the answer for a photograph: `findings` of what is measured."""
    return findings(measure(pixels_HWC))


def findings(quality: Quality) -> tuple[QualityFinding, ...]:
    """The measured values that are beyond their limits, one finding a code; the sentences are of `SENTENCES`."""
    found: dict[str, QualityFinding] = {}
    for code, severity, name, limit, side in _LIMITS:
        value: float = getattr(quality, name)
        if code not in found and side * value > side * limit:
            text = SENTENCES[code].format(value=value)
            found[code] = QualityFinding(code=code, severity=severity, value=value, limit=limit, text=text)
    return tuple(found.values())


COARSE = 4  #: the coarse copy's sides are this many times smaller than the reduced copy's


def measure(pixels_HWC: NDArray[np.uint8]) -> Quality:
    """Everything that is measured of a photograph; takes a few milliseconds.

    Parameters
    ----------
    pixels_HWC
        sRGB, shape (height, width, 3), at least 28 pixels either way.
    """
    copy = reduced_copy(pixels_HWC)
    luma_HW = np.asarray(copy.convert("L"))
    coarse = copy.reduce(COARSE)
    coarse_HWC = np.asarray(coarse)
    coarse_luma = coarse.convert("L")
    coarse_luma_HW = np.asarray(coarse_luma)
    skin_luma = float(_levels(coarse_luma, 0.95)[0])
    rim_HW = _reached_from_border(coarse_luma_HW < _RIM_LUMA * skin_luma)
    lines_HW = long_lines(thin_dark(luma_HW))
    return Quality(
        short_side_px=float(min(pixels_HWC.shape[:2])),
        contrast=float((_levels(coarse, 0.99) - _levels(coarse, 0.01)).max()),
        skin_luma=skin_luma,
        burnt=_shares(coarse_luma_HW >= _BURNT_LUMA)[0],
        blur_px=_blur_px(luma_HW, rim_HW),
        coarse_blur_px=COARSE * _blur_px(coarse_luma_HW, rim_HW[::COARSE, ::COARSE]),
        glare=_glare(copy),
        hair=min(_shares(lines_HW > _HAIR_DEPTH)),
        lesion_cut=_lesion_cut(coarse),
        dark_corners=float(rim_HW.mean()),
        ruler=ruler_line(lines_HW),
        ink=_ink(coarse),
        stretch=max(pixels_HWC.shape[:2]) / min(pixels_HWC.shape[:2]),
        colour=float(np.ptp(coarse_HWC, axis=-1).mean()),
        blue_cast=float(coarse_HWC[..., 2].mean() / max(coarse_HWC[..., 0].mean(), 1.0)),
    )


# --- copies and regions -------------------------------------------------------------------------------------

_COPY_PX = 300 * 225  #: area of the reduced copy


def reduced_copy(pixels_HWC: NDArray[np.uint8]) -> Image.Image:
    """The photograph with about 300 x 225 pixels, its aspect kept; as it is if it is smaller.

    Of a large photograph four pixels of each cell are averaged, not all: Pillow alone would take ten times as long
    to copy 12 megapixels.
    """
    height, width = pixels_HWC.shape[:2]
    shrink = math.sqrt(height * width / _COPY_PX)
    if shrink <= 1:
        return Image.fromarray(pixels_HWC)
    if (cell := int(shrink)) > 2:
        rows, columns = height - height % cell, width - width % cell
        places = (cell // 4, cell - 1 - cell // 4)
        total = np.zeros((rows // cell, columns // cell, 3), np.uint16)
        for y in places:
            for x in places:
                total += pixels_HWC[y:rows:cell, x:columns:cell]
        pixels_HWC = (total >> 2).astype(np.uint8)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    return Image.fromarray(pixels_HWC).resize(size, Image.Resampling.BOX, reducing_gap=1.0)


_RIM_LUMA = 0.25  #: of the skin's; a dermoscope's rim is darker


def _reached_from_border(dark_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where nothing but dark pixels lies between a pixel and the border, straight up, down, left or right."""
    reach = np.logical_and.accumulate
    rows = reach(dark_HW, axis=1) | reach(dark_HW[:, ::-1], axis=1)[:, ::-1]
    columns = reach(dark_HW, axis=0) | reach(dark_HW[::-1], axis=0)[::-1]
    reached: NDArray[np.bool_] = rows | columns
    return reached


def _levels(image: Image.Image, share: float) -> NDArray[np.intp]:
    """Of each channel the lowest level that this share of the pixels does not exceed."""
    counts = np.array(image.histogram()).reshape(-1, 256).cumsum(axis=1)
    levels: NDArray[np.intp] = (counts >= share * counts[:, -1:]).argmax(axis=1)
    return levels


def _shares(found_HW: NDArray[np.bool_]) -> tuple[float, float]:
    """Of the centre (60 % of either side) and of what surrounds it."""
    height, width = found_HW.shape
    centre = found_HW[height // 5 : height - height // 5, width // 5 : width - width // 5]
    in_centre = np.count_nonzero(centre)
    around = (np.count_nonzero(found_HW) - in_centre) / max(found_HW.size - centre.size, 1)
    return float(in_centre / centre.size), float(around)


# --- light --------------------------------------------------------------------------------------------------

_BURNT_LUMA = 250
_GLARE_LEVEL = 235  #: of the least of the three channels
_GLARE_STEP = 40  #: levels above what surrounds a spot
_GLARE_ABOVE_REST = 25  #: levels above the picture's 75th percentile; bright skin between hairs is no glare
_GLARE_SIDE_PX = 33  #: spots larger than this are no spots


def _glare(copy: Image.Image) -> float:
    red, green, blue = copy.split()
    least = ImageChops.darker(ImageChops.darker(red, green), blue)
    level = max(_GLARE_LEVEL, int(_levels(least, 0.75)[0]) + _GLARE_ABOVE_REST)
    least_HW = np.asarray(least)
    if least_HW.max() < level:
        return 0.0
    return _shares((least_HW >= level) & (small_bright(least_HW, _GLARE_SIDE_PX) >= _GLARE_STEP))[0]


# --- blur ---------------------------------------------------------------------------------------------------

_BOX = 3  #: side of the box by which the picture is blurred again, twice
_REBLUR_VARIANCE = 2 * (_BOX**2 - 1) / 12  #: of two such boxes, in square pixels
_ROUNDING = 1 / 3  #: what rounding to 8 bits adds to the squared slope, on average
_TILE = 8  #: pixels
_MIN_EDGE = 1.0  #: mean squared slope, in levels over two pixels, below which a tile has no edge
_MAX_BLUR_PX = 16.0  #: blur beyond this is not told apart


def _blur_px(luma_HW: NDArray[np.uint8], rim_HW: NDArray[np.bool_]) -> float:
    """Blur of the sharpest kind of edge there is, as the standard deviation of a Gaussian, in pixels of the copy.

    Blurring again by a known amount softens a sharp edge much and a soft one little: blurred by a variance of r²,
    the squared slope of an edge of variance s², summed across it, falls to 1 / sqrt(1 + r²/s²). Measured in tiles
    of 8 pixels off the dermoscope's rim, over the quarter with the strongest edges.

    References
    ----------
    Zhuo and Sim, "Defocus map estimation from a single image", Pattern Recognition 44:1852 (2011), who take the
    slope's peak instead.
    """
    sharp_HW = luma_HW.astype(np.int16)
    soft_HW = _box_sum(_box_sum(sharp_HW))  # at most 81 x 255, which int16 holds
    sharp_TT = _tile_means(_squared_slope(sharp_HW[_BOX - 1 : 1 - _BOX, _BOX - 1 : 1 - _BOX])) - _ROUNDING
    soft_TT = _tile_means(_squared_slope(soft_HW)) / _BOX**8
    used_TT = (soft_TT > _MIN_EDGE) & ~_tiles_near(rim_HW, soft_TT.shape)
    if not used_TT.any():
        return math.nan
    sharp, soft = sharp_TT[used_TT], soft_TT[used_TT]
    strongest = soft >= np.quantile(soft, 0.75)
    excess = float(sharp[strongest].sum() / soft[strongest].sum()) ** 2 - 1
    return math.sqrt(_REBLUR_VARIANCE / max(excess, _REBLUR_VARIANCE / _MAX_BLUR_PX**2))


def _box_sum(pixels_HW: NDArray[np.int16]) -> NDArray[np.int16]:
    """Sums of 3 x 3 pixels, where all of them are there."""
    rows = pixels_HW[:-2] + pixels_HW[1:-1] + pixels_HW[2:]
    sums: NDArray[np.int16] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return sums


def _squared_slope(pixels_HW: NDArray[np.int16]) -> NDArray[np.float32]:
    down = (pixels_HW[2:, 1:-1] - pixels_HW[:-2, 1:-1]).astype(np.float32)
    right = (pixels_HW[1:-1, 2:] - pixels_HW[1:-1, :-2]).astype(np.float32)
    return down * down + right * right


def _tile_means(values_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values_HW).reduce(_TILE))


def _tiles_near(rim_HW: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Tiles that hold some of the rim, and their neighbours."""
    y, x = np.nonzero(rim_HW)
    near_TT = np.zeros((shape[0] + 2, shape[1] + 2), dtype=bool)
    row, column = (np.minimum(at * COARSE // _TILE, n - 1) for at, n in zip((y, x), shape, strict=True))
    for down in range(3):
        for right in range(3):
            near_TT[row + down, column + right] = True
    return near_TT[1:-1, 1:-1]


# --- colour -------------------------------------------------------------------------------------------------

_HAIR_DEPTH = 12  #: levels by which hair is darker than what is around it
_LOG_OFFSET = np.float32(8)  #: levels, so that black is not infinitely dark

# A logistic regression, fitted to the border pixels of HAM10000 by `benchmarks/quality.py fit`: a lesion darkens
# green and blue more than red, shade darkens all alike, and what is darker than all else is rather the rim.
_LESION_WEIGHTS = np.array((18.1, -6.1, -15.7, -0.3, -3.3, 13.1), np.float32)
_LESION_OFFSET = -4.5

_INK_COLDER = 0.3  #: by how much ink's green or blue gains on red, in logarithms
_INK_DARKEST = -1.2  #: logarithm of green against skin's, below which colour is guesswork


def _log(levels: NDArray[Any]) -> NDArray[np.float32]:
    logarithms: NDArray[np.float32] = np.log(levels.astype(np.float32) + _LOG_OFFSET)
    return logarithms


def _skin(coarse: Image.Image) -> NDArray[np.float32]:
    """Logarithms of the skin's three levels: the median of the tenth of the pixels with the most red."""
    pixels_HWC = np.asarray(coarse)
    reddest_NC = pixels_HWC[pixels_HWC[..., 0] >= _levels(coarse, 0.9)[0]]
    return _log(np.median(reddest_NC, axis=0))


def border_features(coarse: Image.Image) -> NDArray[np.float32]:
    """What `lesion_cut` knows of each pixel on the border of the coarse copy.

    Returns
    -------
    ndarray
        Shape (n, 6): the rows at the top and bottom, then the columns between them. Logarithms of red, green and
        blue against the skin's; then those against the picture's median, where below it, else 0.
    """
    log_HWC, skin_C, median_C = _log(np.asarray(coarse)), _skin(coarse), _log(_levels(coarse, 0.5))
    border_NC = np.concatenate([log_HWC[0], log_HWC[-1], log_HWC[1:-1, 0], log_HWC[1:-1, -1]])
    return np.concatenate([border_NC - skin_C, np.minimum(border_NC - median_C, 0)], axis=1)


def _lesion_cut(coarse: Image.Image) -> float:
    return float((border_features(coarse) @ _LESION_WEIGHTS + _LESION_OFFSET > 0).mean())


def _ink(coarse: Image.Image) -> float:
    relative_HWC = _log(np.asarray(coarse)) - _log(_levels(coarse, 0.95))
    red_HW, green_HW, blue_HW = np.moveaxis(relative_HWC, 2, 0)
    cold_HW = np.maximum(green_HW, blue_HW) - red_HW > _INK_COLDER
    return _shares(cold_HW & (green_HW > _INK_DARKEST))[1]
