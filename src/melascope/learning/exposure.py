"""Fitting a network's novelty model: lesions, as they are and as other clinics give them, against other pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from melascope.decision.novelty import NoveltyModel, fit_novelty
from melascope.errors import MelascopeError
from melascope.imaging.appearance import appearance
from melascope.imaging.preprocess import PreprocessSpec, to_uint8
from melascope.learning.foreign import SIDE_PX, as_uint8, drawn_picture

_BATCH = 16
_SKIN_LIGHT = 70  # of 255: what is darker than this at the border is hair, ink or the tube, not skin

Picture = Callable[[], NDArray[np.uint8]]


def fit_by_exposure(
    photographs: Sequence[Picture],
    embed: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.floating]],
    spec: PreprocessSpec,
    *,
    foreign: Sequence[Picture] = (),
    n_familiar: int = 4500,
    n_varied: int = 1500,
    n_drawn: int = 3900,
    n_spoiled: int = 1000,
    seed: int = 0,
) -> NoveltyModel:
    """The novelty model of a network.

    Parameters
    ----------
    photographs
        Each gives the pixels (height, width, 3) of a photograph that the network was trained on; best one a lesion.
    embed
        The network's embedding, shape (n, e), of images that went through `imaging.preprocess.to_uint8`.
    foreign
        Each gives the pixels of a picture that shows no lesion, beside those that are drawn.
    n_familiar, n_varied, n_drawn, n_spoiled
        Photographs as they are (at most), as other clinics might give them, drawn pictures, and photographs without
        their lesion.

    Raises
    ------
    MelascopeError
        There is no photograph.
    """
    if not photographs:
        raise MelascopeError(
            "There is no photograph to fit a novelty model on.", remedy="Give those of training."
        )
    random = np.random.default_rng(seed)

    def chosen(n: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
        for index in random.integers(len(photographs), size=n):
            yield photographs[index](), int(random.integers(1 << 32))

    def familiar() -> Iterator[NDArray[np.uint8]]:
        for index in random.permutation(len(photographs))[:n_familiar]:
            yield photographs[index]()
        yield from (varied_picture(pixels, n) for pixels, n in chosen(n_varied))

    def strange() -> Iterator[NDArray[np.uint8]]:
        yield from (drawn_picture(int(n)) for n in random.integers(1 << 32, size=n_drawn))
        yield from (spoiled_picture(pixels, n) for pixels, n in chosen(n_spoiled))
        yield from (picture() for picture in foreign)

    familiar_embedding, familiar_appearance = _traits(familiar(), embed, spec)
    foreign_embedding, foreign_appearance = _traits(strange(), embed, spec)
    return fit_novelty(
        familiar_embedding_NE=familiar_embedding,
        familiar_appearance_NA=familiar_appearance,
        foreign_embedding_ME=foreign_embedding,
        foreign_appearance_MA=foreign_appearance,
    )


def _traits(
    pictures: Iterator[NDArray[np.uint8]],
    embed: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.floating]],
    spec: PreprocessSpec,
) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Embedding and appearance of each picture; no more than a batch is held at once."""
    embeddings: list[NDArray[np.floating]] = []
    appearances: list[NDArray[np.float64]] = []
    while batch := [to_uint8(pixels, spec) for pixels in islice(pictures, _BATCH)]:
        embeddings.append(embed(batch))
        appearances.extend(map(appearance, batch))
    return np.concatenate(embeddings), np.stack(appearances)


def spoiled_picture(pixels_HWC: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """What a photograph of a lesion becomes when the lesion is lost: shape (320, 320, 3).

    Half of the time the evenest, lightest piece of its border, enlarged or mirrored to fill the picture; else its
    tiles in disorder, its negative, or its colour channels exchanged.
    """
    random = np.random.default_rng(seed)
    pixels = np.asarray(_square(pixels_HWC).resize((SIDE_PX, SIDE_PX)))
    kind = random.choice(["skin", "skin", "skin", "tiles", "negative", "channels"])
    if kind == "skin" and (skin := _plain_skin(pixels, random)) is not None:
        return skin
    if kind == "tiles":
        tiles = int(random.choice([4, 5, 8, 10]))
        side = SIDE_PX // tiles
        grid = pixels.reshape(tiles, side, tiles, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
        mixed = random.permutation(grid).reshape(tiles, tiles, side, side, 3)
        return np.ascontiguousarray(mixed.swapaxes(1, 2).reshape(SIDE_PX, SIDE_PX, 3))
    if kind == "channels":
        order = ((2, 1, 0), (1, 0, 2), (1, 2, 0), (2, 0, 1))[random.integers(4)]
        return np.ascontiguousarray(pixels[..., order])
    return np.asarray(255 - pixels, dtype=np.uint8)


def varied_picture(pixels_HWC: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """A photograph of a lesion as another clinic might give it, still familiar: shape (320, 320, 3).

    Half of the time smaller, with more skin around it; often with a ruler, ink, a sticker or hair; in another light.
    """
    random = np.random.default_rng(seed)
    if random.random() < 0.5:
        border = int(min(pixels_HWC.shape[:2]) * random.uniform(0.1, 0.45))
        pixels_HWC = np.pad(pixels_HWC, ((border, border), (border, border), (0, 0)), mode="symmetric")
    image = _square(pixels_HWC).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    for addition, chance in ((_add_ruler, 0.35), (_add_ink, 0.35), (_add_sticker, 0.2), (_add_hair, 0.3)):
        if random.random() < chance:
            addition(image, random)
    light_C = np.exp(random.normal(0, 0.06, 3)) * random.uniform(0.85, 1.1)
    return as_uint8(np.asarray(image) * light_C)


def _at_the_rim(random: Generator, distance: float) -> NDArray[np.float64]:
    """A point in some direction from the middle, at that share of the side."""
    angle = random.uniform(0, 2 * np.pi)
    return SIDE_PX * (0.5 + distance * np.array([np.cos(angle), np.sin(angle)]))


def _add_ruler(image: Image.Image, random: Generator) -> None:
    length, step = random.uniform(100, 220), random.uniform(5, 14)
    left, y = random.uniform(0, SIDE_PX - length), SIDE_PX * random.uniform(0.75, 0.97)
    mask = Image.new("L", image.size)
    lines = ImageDraw.Draw(mask)
    lines.line([left, y, left + length, y], fill=255)
    for mark in range(int(length / step) + 1):
        x = left + mark * step
        lines.line([x, y, x, y - (5 if mark % 5 else 10)], fill=255)
    image.paste((60, 50, 50), (0, 0), mask.rotate(random.normal(0, 15)))


def _add_ink(image: Image.Image, random: Generator) -> None:
    for _ in range(random.integers(1, 6)):
        spread, n = random.uniform(4, 14), random.integers(4, 25)
        points = _at_the_rim(random, random.uniform(0.3, 0.48)) + random.normal(0, spread, (n, 2))
        violet = as_uint8(random.normal([70, 40, 110], 25))
        ImageDraw.Draw(image).line(
            [tuple(point) for point in points.tolist()],
            fill=tuple(violet.tolist()),
            width=int(random.integers(1, 6)),
        )


def _add_sticker(image: Image.Image, random: Generator) -> None:
    radius = SIDE_PX * random.uniform(0.2, 0.45)
    x, y = _at_the_rim(random, 0.5 + radius / SIDE_PX * random.uniform(0, 0.6))
    for share in (1.0, 0.6) if random.random() < 0.5 else (1.0,):
        r = radius * share
        colour = tuple(random.integers(0, 256, 3).tolist())
        ImageDraw.Draw(image).ellipse([x - r, y - r, x + r, y + r], fill=colour)


def _add_hair(image: Image.Image, random: Generator) -> None:
    for _ in range(random.integers(5, 60)):
        steps = random.normal(0, 1.5, (30, 2)) + random.normal(0, 6, 2)
        points = random.uniform(0, SIDE_PX, 2) + steps.cumsum(axis=0)
        brown = as_uint8(random.uniform(20, 90) * np.array([1, 0.85, 0.75]))
        ImageDraw.Draw(image).line(
            [tuple(point) for point in points.tolist()],
            fill=tuple(brown.tolist()),
            width=int(random.integers(1, 3)),
        )


def _square(pixels_HWC: NDArray[np.uint8]) -> Image.Image:
    height_px, width_px = pixels_HWC.shape[:2]
    side = min(height_px, width_px)
    left, top = (width_px - side) // 2, (height_px - side) // 2
    return Image.fromarray(pixels_HWC).crop((left, top, left + side, top + side))


def _plain_skin(pixels: NDArray[np.uint8], random: Generator) -> NDArray[np.uint8] | None:
    """The evenest and lightest of twelve squares at the border, made to fill the picture; None if all are dark."""
    best, best_cost = None, np.inf
    for _ in range(12):
        side = int(SIDE_PX * random.uniform(0.22, 0.3))
        along = int(random.integers(0, SIDE_PX - side))
        far = SIDE_PX - side
        top, left = ((0, along), (far, along), (along, 0), (along, far))[random.integers(4)]
        patch = pixels[top : top + side, left : left + side]
        light = patch.mean(axis=-1)
        cost = light.std() - 0.3 * light.mean()
        if np.percentile(light, 2) >= _SKIN_LIGHT and cost < best_cost:
            best, best_cost = patch, cost
    if best is None:
        return None
    if random.random() < 0.5:
        return np.asarray(Image.fromarray(best).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
    missing = SIDE_PX - len(best)
    return np.pad(best, ((0, missing), (0, missing), (0, 0)), mode="symmetric")
