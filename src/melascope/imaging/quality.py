"""Is the photograph good enough? Blur, exposure, glare, resolution, hair, rulers, ink, dark corners, a cut lesion.

Everything is measured on a reduced copy of about 341 x 256 pixels, somewhat more than what a network reads, so
that lengths mean the same for every camera and a 12-megapixel photograph costs little more than a small one:
blur that does not survive the reduction harms nobody. Small photographs are not enlarged. `docs/image-quality.md`
says how the limits were chosen and how many photographs of public datasets cross them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from melascope.domain.assessment import QualityFinding, Severity

_COPY_PX = 341 * 256  #: area of the reduced copy
_COARSE = 4  #: sides of the coarse copy are this many times smaller


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """All that is measured of a photograph. "Share" is of pixels, from 0 to 1."""

    contrast: float  #: widest range, 1st to 99th percentile, of a channel of the coarse copy, in levels of 255
    skin_luma: float  #: 95th percentile of the luma inside the field of view, 0 to 255
    burnt: float  #: share of the field of view that is white or nearly so
    blur_px: float  #: width (standard deviation) of the blur at the strongest edges; NaN where there is no edge
    short_side_px: float  #: of the photograph itself
    glare: float  #: share of the centre that is white amid darker surroundings
    hair: float  #: share of the centre, or of what surrounds it if that is less, under long dark lines
    lesion_cut: float  #: share of the picture's border that has the colour of the lesion
    dark_corners: float  #: share of the picture outside the field of view
    ruler: float  #: regularity of small dark ticks along a line, against what hair and texture give by chance
    ink: float  #: share of what surrounds the centre that is far bluer or greener than the skin


class _Limit(NamedTuple):
    code: str
    severity: Severity
    measure: Callable[[Quality], float]
    limit: float
    above: bool  #: whether values above the limit are found; else those below it
