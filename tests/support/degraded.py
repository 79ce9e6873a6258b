"""Photographs made worse, by how much is an argument. Lengths are shares of the picture's shorter side.

For the tests of image quality, and for `benchmarks/quality.py`, which does the same to real photographs.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Pixels = NDArray[np.uint8]


def _side(pixels: Pixels) -> int:
    return min(pixels.shape[:2])


def _painted(pixels: Pixels, layer: Image.Image, colour: tuple[int, int, int]) -> Pixels:
    return np.asarray(Image.composite(Image.new("RGB", layer.size, colour), Image.fromarray(pixels), layer))


def _layer(pixels: Pixels) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    layer = Image.new("L", (pixels.shape[1], pixels.shape[0]))
    return layer, ImageDraw.Draw(layer)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """By a Gaussian of standard deviation `sigma` times the shorter side."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma * _side(pixels))))


def exposed(pixels: Pixels, stops: float) -> Pixels:
    """With 2**stops times the light; gamma 2.2 stands for sRGB's."""
    levels = 255 * np.minimum((np.arange(256) / 255) * 2 ** (stops / 2.2), 1)
    return np.rint(levels).astype(np.uint8)[pixels]


def flattened(pixels: Pixels, share: float) -> Pixels:
    """With this share of its contrast taken away."""
    mean = pixels.mean(axis=(0, 1))
    return np.rint(mean + (pixels - mean) * (1 - share)).astype(np.uint8)


def noisy(pixels: Pixels, sigma: float, *, seed: int = 0) -> Pixels:
    """With independent normal noise of `sigma` levels."""
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def recompressed(pixels: Pixels, quality: int) -> Pixels:
    """Through JPEG of this quality."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def shrunk(pixels: Pixels, side_px: float) -> Pixels:
    """To this shorter side."""
    scale = side_px / _side(pixels)
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def hairy(pixels: Pixels, hairs: float, *, seed: int = 0) -> Pixels:
    """Under that many dark arcs from side to side, 1 % of the shorter side wide."""
    rng = np.random.default_rng(seed)
    layer, draw = _layer(pixels)
    height, width = pixels.shape[:2]
    t = np.linspace(0, 1, 30)
    for _ in range(round(hairs)):
        angle, offset, bend = rng.uniform(0, math.pi), rng.uniform(-0.5, 0.5), rng.uniform(-0.15, 0.15)
        along, across = (2 * t - 1) * 0.8, offset + bend * np.sin(math.pi * t)
        x = width / 2 + (along * math.cos(angle) - across * math.sin(angle)) * width
        y = height / 2 + (along * math.sin(angle) + across * math.cos(angle)) * width
        draw.line(list(zip(x, y, strict=True)), fill=230, width=max(1, round(0.01 * _side(pixels))))
    return _painted(pixels, layer, (40, 25, 20))


def with_ruler(pixels: Pixels, length: float) -> Pixels:
    """With a ruler of this length, somewhat aslant: an edge 1 % wide and a tick every 4 %."""
    layer, draw = _layer(pixels)
    side, angle = _side(pixels), math.radians(5)
    start = np.array([0.15 * pixels.shape[1], 0.93 * pixels.shape[0]])
    along, up = np.array([math.cos(angle), -math.sin(angle)]), np.array([-math.sin(angle), -math.cos(angle)])
    width = max(1, round(side / 100))
    draw.line([*start, *(start + along * length * side)], fill=255, width=width)
    for tick in np.arange(0, length, 0.04):
        foot = start + along * tick * side
        draw.line([*foot, *(foot + up * 0.03 * side)], fill=255, width=width)
    return _painted(pixels, layer, (30, 30, 30))


def inked(pixels: Pixels, radius: float) -> Pixels:
    """With a purple blot in a corner."""
    layer, draw = _layer(pixels)
    reach = radius * _side(pixels)
    draw.ellipse((-reach, -reach, reach, reach), fill=255)
    return _painted(pixels, layer, (80, 50, 150))


def glaring(pixels: Pixels, spots: float, *, seed: int = 0) -> Pixels:
    """With that many white spots of 2 % about the middle."""
    rng = np.random.default_rng(seed)
    layer, draw = _layer(pixels)
    reach = 0.01 * _side(pixels)
    for share in rng.uniform(0.3, 0.7, (round(spots), 2)):
        x, y = share * (pixels.shape[1], pixels.shape[0])
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    return _painted(pixels, layer, (255, 255, 255))


def vignetted(pixels: Pixels, share: float) -> Pixels:
    """Seen through a round opening that leaves out this share of the half diagonal."""
    layer, draw = _layer(pixels)
    x, y = pixels.shape[1] / 2, pixels.shape[0] / 2
    reach = (1 - share) * math.hypot(x, y)
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    return _painted(pixels, ImageChops.invert(layer), (5, 5, 5))


def cropped(pixels: Pixels, share: float) -> Pixels:
    """Without this share of its left and top: what is in the middle comes to lie on the border."""
    return pixels[round(share * pixels.shape[0]) :, round(share * pixels.shape[1]) :]
