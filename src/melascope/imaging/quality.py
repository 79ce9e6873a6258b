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
from melascope.imaging.dark_lines import darker_than_around, long_lines, tick_regularity

_COPY_PX = 341 * 256  #: area of the reduced copy
_COARSE = 4  #: sides of the coarse copy are this many times smaller


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """All that is measured of a photograph. A "share" is of pixels, from 0 to 1."""

    short_side_px: float  #: of the photograph itself
    contrast: float  #: from the 1st to the 99th percentile of the coarse copy's most varied channel; 0 to 255
    skin_luma: float  #: 95th percentile of luma; 0 to 255
    burnt: float  #: share of the field of view that is white or nearly so
    blur_px: float  #: standard deviation of the blur at the strongest edges; NaN where there is no edge
    glare: float  #: share of the centre that is white amid darker surroundings
    hair: float  #: share of the centre, or of what surrounds it if that is less, under long dark lines
    lesion_cut: float  #: share of the picture's border that has the colour of the lesion
    dark_corners: float  #: share of the picture that lies outside the field of view
    ruler: float  #: see `dark_lines.tick_regularity`
    ink: float  #: share of what surrounds the centre that is far bluer or greener than the skin


def measure(pixels_HWC: NDArray[np.uint8]) -> Quality:
    copy = _reduced_copy(pixels_HWC)
    red, green, blue = (np.asarray(channel) for channel in copy.split())
    luma_HW = np.asarray(copy.convert("L"))
    coarse = copy.reduce(_COARSE)
    coarse_HWC = np.asarray(coarse)
    coarse_luma_HW = np.asarray(coarse.convert("L"))
    skin_luma = float(np.quantile(coarse_luma_HW, 0.95))
    outside_HW = _reached_from_border(coarse_luma_HW < _OUTSIDE_LUMA * skin_luma)
    inside_HW = ~outside_HW
    depth_HW = darker_than_around(luma_HW)
    low, high = np.quantile(coarse_HWC.reshape(-1, 3), [0.01, 0.99], axis=0)
    log_HWC = np.log(coarse_HWC.astype(np.float32) + _LOG_OFFSET)
    skin_C = np.quantile(log_HWC.reshape(-1, 3), 0.95, axis=0)
    return Quality(
        short_side_px=float(min(pixels_HWC.shape[:2])),
        contrast=float((high - low).max()),
        skin_luma=skin_luma,
        burnt=float(np.count_nonzero(coarse_luma_HW >= _BURNT_LUMA) / max(np.count_nonzero(inside_HW), 1)),
        blur_px=_blur_px(luma_HW, outside_HW),
        glare=_glare(np.minimum(np.minimum(red, green), blue)),
        hair=_hair(long_lines(depth_HW) > _HAIR_DEPTH),
        lesion_cut=_lesion_cut(log_HWC - skin_C),
        dark_corners=float(outside_HW.mean()),
        ruler=tick_regularity(depth_HW),
        ink=_ink(log_HWC - skin_C),
    )


_OUTSIDE_LUMA = 0.25
_BURNT_LUMA = 250
_LOG_OFFSET = 8
_HAIR_DEPTH = 12
_REBLUR_PX = math.sqrt(4 / 3)
_ROUNDING = 1 / 3


def _reduced_copy(pixels_HWC):
    height, width = pixels_HWC.shape[:2]
    shrink = math.sqrt(height * width / _COPY_PX)
    if shrink <= 1:
        return Image.fromarray(pixels_HWC)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    if (cell := int(shrink)) > 1:
        rows, columns = height // cell * cell, width // cell * cell
        taps = (cell // 4, cell - 1 - cell // 4)
        total = np.zeros((rows // cell, columns // cell, 3), np.uint16)
        for y in taps:
            for x in taps:
                total += pixels_HWC[y:rows:cell, x:columns:cell]
        pixels_HWC = (total // 4).astype(np.uint8)
    return Image.fromarray(pixels_HWC).resize(size, Image.Resampling.BOX)


def _reached_from_border(dark_HW):
    reach = np.logical_and.accumulate
    return (
        reach(dark_HW, axis=0) | reach(dark_HW[::-1], axis=0)[::-1]
        | reach(dark_HW, axis=1) | reach(dark_HW[:, ::-1], axis=1)[:, ::-1]
    )


def _blur_px(luma_HW, outside_HW):
    sharp = luma_HW.astype(np.float32)
    soft = _box(_box(sharp))
    a = np.maximum(_gradient(sharp[2:-2, 2:-2]) , 0)
    b = _gradient(soft)
    n = 16
    H, W = b.shape[0] // n, b.shape[1] // n
    if not H or not W: return math.nan
    A = a[:H*n,:W*n].reshape(H,n,W,n).mean((1,3)) - _ROUNDING; B = b[:H*n,:W*n].reshape(H,n,W,n).mean((1,3))
    out=np.zeros((H+2,W+2),bool)
    ys,xs=np.nonzero(outside_HW)
    ys=np.minimum(ys*4//n,H-1); xs=np.minimum(xs*4//n,W-1)
    m=np.zeros((H,W),bool); m[ys,xs]=1
    P=np.pad(m,1); m=P[1:-1,1:-1]|P[:-2,1:-1]|P[2:,1:-1]|P[1:-1,:-2]|P[1:-1,2:]
    A,B=A[~m],B[~m]
    if not A.size or B.max()<=0: return math.nan
    k=B>=np.quantile(B,.75)
    r=np.maximum(A[k]/np.maximum(B[k],1e-6)-1,1e-3)
    return float(np.median(_REBLUR_PX/np.sqrt(r)))


def _box(a):
    a = a[:-2] + a[1:-1] + a[2:]
    return (a[:, :-2] + a[:, 1:-1] + a[:, 2:]) / 9

def _gradient(a):
    y = a[2:, 1:-1] - a[:-2, 1:-1]; x = a[1:-1, 2:] - a[1:-1, :-2]
    return y * y + x * x

def _centre(h, w):
    return slice(h // 5, h - h // 5), slice(w // 5, w - w // 5)

def _glare(m):
    from melascope.imaging.dark_lines import _along
    n=33
    p=np.pad(m,n-1,mode="edge")
    for e in (np.minimum,np.maximum):
        for st in ((0,1),(1,0)): p=_along(p,e,st,n)
    g=(m>=235)&(m-p>=40)
    return float(g[_centre(*m.shape)].mean())

def _hair(m):
    c=m[_centre(*m.shape)]
    return float(min(c.mean(), (m.sum()-c.sum())/max(m.size-c.size,1)))

COEF=np.array([20.8,-5.5,-8.3]); CTX=np.array([4.7,-4.4,-4.8]); I0=-5.4
def _lesion_cut(d):
    ring=np.concatenate([d[0],d[-1],d[1:-1,0],d[1:-1,-1]])
    return float((ring@COEF+np.median(d,axis=(0,1))@CTX+I0>0).mean())

def _ink(d):
    cold=(np.maximum(d[...,1],d[...,2])-d[...,0]>.3)&(d[...,1]>-1.2)
    c=cold[_centre(*cold.shape)]
    return float((cold.sum()-c.sum())/max(cold.size-c.size,1))
