"""Pictures that show no lesion, drawn by chance: what the novelty model learns to refuse.

Nobody can list what people will photograph. Drawn pictures of many kinds teach where dermoscopy ends, without any
data set: surfaces, noise of many spectra, occluding shapes ("dead leaves"), shaded objects, strokes as of writing,
light bodies on dark as of X-rays, cells.

References
----------
Hendrycks, Mazeika and Dietterich, "Deep anomaly detection with outlier exposure", ICLR 2019. Baradad et al., "Learning
to see by looking at noise", NeurIPS 2021 (spectra and dead leaves stand in for photographs).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats = NDArray[np.float64]

SIDE_PX = 320  #: height and width of every picture
_SKIN = np.array([225.0, 175.0, 150.0])


def drawn_picture(seed: int) -> NDArray[np.uint8]:
    """A picture of one of the kinds `KINDS`, the same for the same seed: shape (320, 320, 3)."""
    random = np.random.default_rng(seed)
    weights = np.array(list(KINDS.values()), dtype=np.float64)
    kind = list(KINDS)[random.choice(len(KINDS), p=weights / weights.sum())]
    return draw(kind, random)


def draw(kind: Callable[[Generator], Floats], random: Generator) -> NDArray[np.uint8]:
    """A picture of that kind; one in eight is grey."""
    pixels = kind(random)
    return as_uint8(
        pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1) if random.random() < 0.12 else pixels
    )


# --- what pictures are made of ------------------------------------------------------------------------------


def as_uint8(pixels: Floats) -> NDArray[np.uint8]:
    """Clipped to 0 to 255."""
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _image(pixels: Floats) -> Image.Image:
    return Image.fromarray(as_uint8(pixels))


def _floats(image: Image.Image) -> Floats:
    return np.asarray(image, dtype=np.float64)


def _coordinates() -> tuple[Floats, Floats]:
    """y and x of every pixel, from -1 to 1."""
    y, x = np.mgrid[-1 : 1 : SIDE_PX * 1j, -1 : 1 : SIDE_PX * 1j]
    return y, x


def _colour(random: Generator) -> Floats:
    """Grey, of skin, or any."""
    chance = random.random()
    if chance < 0.3:
        return np.full(3, random.uniform(0, 255))
    if chance < 0.5:
        return _SKIN * random.uniform(0.4, 1.1) + random.normal(0, 10, 3)
    return random.uniform(0, 255, 3)


def _ink(random: Generator) -> tuple[int, ...]:
    return tuple(as_uint8(_colour(random)).tolist())


def _noise(random: Generator, slope: float, *, channels: int = 1) -> Floats:
    """Gaussian fields whose amplitude falls with frequency to the power `slope`; deviation 1; at times of one grain."""
    y, x = np.fft.fftfreq(SIDE_PX)[:, None], np.fft.rfftfreq(SIDE_PX)[None]
    amplitude = 1 / np.maximum(np.hypot(y, x), 1 / SIDE_PX) ** slope
    amplitude[0, 0] = 0
    if random.random() < 0.3:
        angle = random.uniform(0, np.pi)
        amplitude = amplitude * np.exp(
            -(((x * np.cos(angle) + y * np.sin(angle)) * random.uniform(0, 40)) ** 2)
        )
    shape = (channels, *amplitude.shape)
    fields = np.fft.irfft2(
        amplitude * (random.normal(size=shape) + 1j * random.normal(size=shape)), s=(SIDE_PX, SIDE_PX)
    )
    return np.moveaxis(fields / fields.std(axis=(1, 2), keepdims=True), 0, -1)


def _ellipse_distance(random: Generator, *, centre: Floats, axes: Floats) -> tuple[Floats, Floats]:
    """Offsets from the centre of a turned ellipse, in units of its axes."""
    y, x = _coordinates()
    angle = random.uniform(0, 2 * np.pi)
    u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    v = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    return u / axes[0], v / axes[1]


def _body(random: Generator, *, rough: float) -> tuple[Floats, Floats]:
    """Coverage in [0, 1] and shading of one rounded body, shape (side, side, 1)."""
    axes = np.exp(random.uniform(-1.6, 0.1, 2))
    u, v = _ellipse_distance(random, centre=random.normal(0, 0.25, 2), axes=axes)
    power = random.choice([1.0, 2.0, 2.0, 2.0, 4.0, 8.0])
    distance = (np.abs(u) ** power + np.abs(v) ** power) ** (1 / power)
    around = np.arctan2(v, u)
    for k in range(2, 7):
        wave = np.cos(k * around + random.uniform(0, 2 * np.pi))
        distance = distance * (1 + rough * random.normal() / k * wave)
    edge_px = random.uniform(0.6, 3)
    coverage = np.clip((1 - distance) * axes.min() * SIDE_PX / 2 / edge_px + 0.5, 0, 1)
    light = random.normal(size=2)
    light *= random.uniform(0, 0.6) / np.linalg.norm(light)
    shading = 0.45 + 0.55 * np.sqrt(np.clip(1 - distance**2, 0, 1)) - 0.5 * (light[0] * u + light[1] * v)
    return coverage[..., None], shading[..., None]


# --- kinds --------------------------------------------------------------------------------------------------


def texture(random: Generator) -> Floats:
    """Noise of one colour or of several."""
    slope, contrast, ground = random.uniform(0, 3), random.uniform(3, 70), _colour(random)
    if random.random() < 0.5:
        return ground + contrast * _noise(random, slope, channels=3) @ random.normal(0, 0.6, (3, 3))
    tint_C = random.normal(0, 1, 3) if random.random() < 0.5 else np.ones(3)
    return ground + contrast * _noise(random, slope) * tint_C


def surface(random: Generator) -> Floats:
    """One colour or a gradient of two, with some grain."""
    pixels = np.broadcast_to(_colour(random), (SIDE_PX, SIDE_PX, 3)).astype(np.float64)
    if random.random() < 0.6:
        y, x = _coordinates()
        angle = random.uniform(0, 2 * np.pi)
        ramp = x * np.cos(angle) + y * np.sin(angle)
        if random.random() < 0.4:
            ramp = np.hypot(x - random.normal(), y - random.normal())
        pixels = pixels + (_colour(random) - pixels) * ((ramp - ramp.min()) / np.ptp(ramp))[..., None]
    if random.random() < 0.5:
        pixels = pixels + random.uniform(0, 6) * random.normal(
            size=(SIDE_PX, SIDE_PX, int(random.choice([1, 3])))
        )
    return pixels


def leaves(random: Generator) -> Floats:
    """Shapes over shapes, few of them large and many small, plain or textured."""

    def ground() -> Image.Image:
        return _image(texture(random) if random.random() < 0.6 else surface(random))

    image, fillings = ground(), [ground() for _ in range(4)]
    plain, angular = random.random() < 0.5, random.random()
    smallest, largest = random.choice([4, 10, 25]), random.choice([60, 150])
    for _ in range(int(random.choice([3, 10, 40, 150]))):
        radius = smallest * (1 - random.random() * (1 - (smallest / largest) ** 1.5)) ** (-1 / 1.5)
        x, y = random.uniform(0, SIDE_PX, 2)
        mask = Image.new("L", (SIDE_PX, SIDE_PX))
        if random.random() < angular:
            angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 8)))
            corners = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
            ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
        else:
            half = radius * random.uniform(0.4, 1.2)
            ImageDraw.Draw(mask).ellipse([x - radius, y - half, x + radius, y + half], fill=255)
        filling = (
            Image.new("RGB", (SIDE_PX, SIDE_PX), _ink(random)) if plain else fillings[random.integers(4)]
        )
        image.paste(filling, (0, 0), mask)
    if random.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 4)))
    return _floats(image)


def waves(random: Generator) -> Floats:
    """Straight or bent stripes between two colours."""
    y, x = _coordinates()
    wave = np.zeros((SIDE_PX, SIDE_PX))
    for _ in range(random.integers(1, 4)):
        angle = random.uniform(0, np.pi)
        bend = 3 * random.choice([0, 0.3, 1.0]) * _noise(random, 2.5)[..., 0]
        wave += np.sin((x * np.cos(angle) + y * np.sin(angle)) * random.uniform(3, 120) + bend)
    if random.random() < 0.5:
        wave = np.sign(wave)
    between = (wave - wave.min()) / np.ptp(wave)
    first, second = _colour(random), _colour(random)
    return np.asarray(first + (second - first) * between[..., None])


def strokes(random: Generator) -> Floats:
    """Strokes in rows, as of writing, or anywhere, as of drawing."""
    light = random.random() < 0.7
    paper = np.full(3, random.uniform(215, 255)) if light else _colour(random)
    ink = tuple(as_uint8(random.uniform(0, 90, 3)).tolist()) if light else _ink(random)
    image = _image(np.broadcast_to(paper, (SIDE_PX, SIDE_PX, 3)))
    draw_on = ImageDraw.Draw(image)
    if random.random() < 0.6:
        size = int(random.integers(5, 40))
        for y in range(int(random.integers(0, 15)), SIDE_PX, int(size * 1.5)):
            x, end = float(random.integers(0, 20)), SIDE_PX * random.uniform(0.6, 1)
            while x < end:
                points = random.uniform([x, y], [x + size * 0.6, y + size], (random.integers(2, 6), 2))
                draw_on.line([tuple(point) for point in points.tolist()], fill=ink, width=max(1, size // 8))
                x += size * (0.7 if random.random() < 0.85 else 1.6)
        return _floats(image)
    for _ in range(random.integers(1, 25)):
        steps = random.normal(0, random.uniform(5, 40), (random.integers(2, 30), 2))
        points = steps.cumsum(axis=0) + random.uniform(0, SIDE_PX, 2)
        fill = _ink(random) if random.random() < 0.5 else ink
        draw_on.line(
            [tuple(point) for point in points.tolist()], fill=fill, width=int(random.integers(1, 12))
        )
    return _floats(image)


def blocks(random: Generator) -> Floats:
    """A grid of squares, of any colours or of two, or rectangles over one another."""
    if random.random() < 0.4:
        n = int(random.integers(3, 60))
        first, second = _colour(random), _colour(random)
        cells = first + (second - first) * random.integers(0, 2, (n, n, 1))
        if random.random() < 0.5:
            cells = random.uniform(0, 255, (n, n, 3))
        repeat = SIDE_PX // n + 1
        return np.asarray(cells.repeat(repeat, axis=0).repeat(repeat, axis=1)[:SIDE_PX, :SIDE_PX])
    image = _image(surface(random))
    for _ in range(random.integers(2, 40)):
        x, y = random.uniform(0, SIDE_PX, 2)
        width, height = random.uniform(5, 150, 2)
        fill = _ink(random) if random.random() < 0.8 else None
        ImageDraw.Draw(image).rectangle([x, y, x + width, y + height], fill=fill, outline=_ink(random))
    return _floats(image)


def lights(random: Generator) -> Floats:
    """Smooth bodies of light on dark, as in X-ray images, at night or under the microscope; or the negative."""
    light = np.zeros((SIDE_PX, SIDE_PX))
    for _ in range(random.integers(1, 25)):
        u, v = _ellipse_distance(
            random, centre=random.uniform(-0.8, 0.8, 2), axes=random.uniform(0.03, 0.8, 2)
        )
        distance = u**2 + v**2
        body = np.sqrt(np.clip(1 - distance, 0, None)) if random.random() < 0.5 else np.exp(-distance)
        light += random.uniform(-0.3, 1) * body
    light = np.clip(light, 0, None)[..., None] / max(light.max(), 1e-9)
    tint_C = np.ones(3) if random.random() < 0.7 else random.random(3)
    grain = random.uniform(0, 15) * _noise(random, random.uniform(0, 2)) * np.sqrt(light)
    pixels = light * tint_C * random.uniform(80, 255) + grain
    return np.asarray(pixels if random.random() < 0.85 else 255 - pixels)


def cells(random: Generator) -> Floats:
    """Many small discs or rings of one colour on a ground of another, as of stained tissue."""
    image = _image(_colour(random) + random.uniform(2, 20) * _noise(random, random.uniform(0.5, 2)))
    colour, radius, rings = _colour(random), random.uniform(2, 16), random.random() < 0.3
    for _ in range(int(random.uniform(0.1, 0.8) * (SIDE_PX / radius / 2) ** 2)):
        x, y = random.uniform(0, SIDE_PX, 2)
        width, height = radius * random.uniform(0.5, 1.3, 2)
        fill = None if rings else tuple(as_uint8(colour + random.normal(0, 15, 3)).tolist())
        outline = tuple(as_uint8(colour * 0.8).tolist())
        ImageDraw.Draw(image).ellipse(
            [x - width, y - height, x + width, y + height], fill=fill, outline=outline
        )
    return _floats(image.filter(ImageFilter.GaussianBlur(random.uniform(0.2, 2))))


def bands(random: Generator) -> Floats:
    """A field in false colours, smooth or in steps."""
    field = _noise(random, random.uniform(1.5, 3))[..., 0]
    if random.random() < 0.4:
        y, x = _coordinates()
        rings = np.hypot(x - random.normal(0, 0.3), y - random.normal(0, 0.3)) * random.uniform(2, 8)
        field = 0.3 * field + rings + np.arctan2(y, x) * random.integers(0, 5)
    n = int(random.integers(3, 9))
    palette = np.array([_colour(random) for _ in range(n)])
    place = (field - field.min()) / np.ptp(field) * (n - 1) * random.choice([1, 1, 3]) % (n - 1)
    lower = np.clip(place.astype(int), 0, n - 2)
    between = (place - lower)[..., None]
    if random.random() < 0.4:
        between = np.round(between)
    return np.asarray(palette[lower] + (palette[lower + 1] - palette[lower]) * between)


def objects(random: Generator) -> Floats:
    """Shaded things, often of warm colours, on paper, on black or before a blurred room."""
    ground = random.choice(["paper", "black", "room", "surface"], p=[0.45, 0.15, 0.25, 0.15])
    if ground == "room":
        pixels = _floats(_image(leaves(random)).filter(ImageFilter.GaussianBlur(random.uniform(3, 15))))
    elif ground == "surface":
        pixels = surface(random)
    else:
        pixels = np.full((SIDE_PX, SIDE_PX, 3), 255.0 if ground == "paper" else random.uniform(0, 30))
    for _ in range(int(random.choice([1, 1, 1, 2, 3, 6]))):
        coverage, shading = _body(random, rough=random.choice([0, 0.1, 0.4]))
        colour = random.uniform([120, 60, 20], [250, 190, 150]) if random.random() < 0.5 else _colour(random)
        grain = 1 + random.uniform(0, 0.25) * _noise(random, random.uniform(0.5, 2.5))
        body = colour * grain * (shading if random.random() < 0.75 else 1.0)
        if random.random() < 0.4:
            body = 0.75 * body + 0.25 * waves(random) * shading
        if random.random() < 0.5:
            body = body + 200 * random.uniform(1, 6) * np.clip(shading - 0.95, 0, 1)
        pixels = pixels * (1 - coverage) + body * coverage
    return pixels


def flesh(random: Generator) -> Floats:
    """Surfaces of skin colour with folds, shade, lips, eyes and hair, as of a face or a hand from near."""
    skin = _SKIN * random.uniform(0.4, 1.1) + random.normal(0, 12, 3)
    shade = 1 + random.uniform(0.05, 0.3) * _noise(random, random.uniform(2.2, 3.2))
    pixels = skin * shade + random.uniform(0, 5) * _noise(random, random.uniform(0.3, 1.5))
    for _ in range(random.integers(1, 6)):
        coverage, shading = _body(random, rough=0.3)
        hair = skin * random.uniform(0.15, 1.2) * (1 + 0.2 * _noise(random, 1.0))
        white, red, other = random.uniform(180, 255) * np.ones(3), skin * [1, 0.75, 0.75], _colour(random)
        part = random.choice(4, p=[0.4, 0.15, 0.2, 0.25])
        body = (hair, white * shading, red * shading, other * shading)[part]
        pixels = pixels * (1 - coverage) + body * coverage
    image = _image(pixels)
    for _ in range(int(random.choice([0, 2, 10, 60]))):
        steps = random.normal(0, 4, (30, 2)) + random.normal(0, 5, 2)
        points = steps.cumsum(axis=0) + random.uniform(0, SIDE_PX, 2)
        fill = tuple(as_uint8(skin * random.uniform(0.1, 0.8)).tolist())
        line = [tuple(point) for point in points.tolist()]
        ImageDraw.Draw(image).line(line, fill=fill, width=int(random.integers(1, 4)))
    return _floats(image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 3))))


#: Every kind, and how often it is drawn beside the others: most what comes nearest to photographs.
KINDS: dict[Callable[[Generator], Floats], int] = {
    texture: 2,
    surface: 1,
    leaves: 6,
    waves: 1,
    strokes: 2,
    blocks: 1,
    lights: 1,
    cells: 1,
    bands: 1,
    objects: 5,
    flesh: 2,
}
