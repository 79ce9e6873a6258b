"""Draws `drawn-lesion.png`: a made-up pigmented lesion, since no photograph of a dataset may be in this repository.

It looks enough like dermoscopy to try the program with, and says nothing about how good the program is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH_PX, HEIGHT_PX = 600, 450


def cloud(rng: np.random.Generator, cell_px: int) -> np.ndarray:
    """Smooth noise in [-1, 1] with features of about `cell_px`, shape (height, width)."""
    small = rng.uniform(0, 255, (HEIGHT_PX // cell_px + 3, WIDTH_PX // cell_px + 3)).astype(np.uint8)
    image = Image.fromarray(small).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64) / 127.5 - 1


def draw(seed: int = 4) -> Image.Image:
    """The picture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    skin = np.array([214, 166, 142]) + 9 * cloud(rng, 60)[..., None] + 5 * cloud(rng, 9)[..., None]

    radius = np.hypot((x - 310) / 150, (y - 222) / 112) + 0.16 * cloud(rng, 90) + 0.09 * cloud(rng, 30)
    inside = 1 / (1 + np.exp((radius - 1) * 16))
    network = np.abs(np.sin(x / 5.1 + 2.2 * cloud(rng, 40)) * np.sin(y / 5.1 + 2.2 * cloud(rng, 40)))
    brown = np.array([112, 68, 48]) + 26 * cloud(rng, 70)[..., None] + 24 * (network - 0.5)[..., None]
    dark = 1 / (1 + np.exp((np.hypot((x - 365) / 62, (y - 190) / 50) + 0.4 * cloud(rng, 25) - 1) * 7))
    veil = 1 / (1 + np.exp((np.hypot((x - 262) / 48, (y - 262) / 36) + 0.4 * cloud(rng, 25) - 1) * 6))
    lesion = brown * (1 - dark[..., None]) + np.array([44, 30, 30]) * dark[..., None]
    lesion = lesion * (1 - 0.7 * veil[..., None]) + np.array([104, 110, 134]) * 0.7 * veil[..., None]

    pixels = skin * (1 - inside[..., None]) + lesion * inside[..., None]
    light = 1 - 0.22 * np.hypot((x - 300) / 300, (y - 225) / 225)[..., None] ** 2
    pixels = pixels * light + rng.normal(0, 2.5, pixels.shape)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    hairs = Image.new("L", image.size, 0)
    pen = ImageDraw.Draw(hairs)
    for _ in range(7):
        start, bend, end = rng.uniform((-40, -40), (640, 490), (3, 2))
        t = np.linspace(0, 1, 60)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        pen.line([tuple(point) for point in curve], fill=150, width=2)
    image.paste((62, 44, 36), mask=hairs.filter(ImageFilter.GaussianBlur(0.8)))
    return image.filter(ImageFilter.GaussianBlur(0.7))


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("drawn-lesion.png")
    draw().quantize(128).convert("RGB").save(out, optimize=True)
