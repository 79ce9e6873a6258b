"""A HEIF file's picture is decoded only where that takes work in proportion to its size."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from drawn import quarters
from heif_writer import CODED, HEIGHT_PX, HVCC, WIDTH_PX, box, full_box, heic, heif_file

from melascope.errors import ImageError, ImageTooLargeError, TruncatedImageError, UnsupportedImageError
from melascope.imaging.decode import decode_image
from melascope.imaging.heif import coded_size_px

TILE = (WIDTH_PX, HEIGHT_PX)
SIZE, MASK = 2, 3  #: properties of `picture`


def ispe(size_px: tuple[int, int]) -> bytes:
    return full_box(b"ispe", struct.pack(">II", *size_px))


def grid(columns: int, rows: int, size_px: tuple[int, int]) -> bytes:
    return struct.pack(">BBBBII", 0, 1, (rows - 1) & 255, (columns - 1) & 255, *size_px)


def overlay(n_inputs: int) -> bytes:
    return b"\0\0" + struct.pack(">4H2H", 0, 0, 0, 65535, *TILE) + bytes(4 * n_inputs)


def picture(
    kinds: Sequence[tuple[bytes, bytes]],
    references: Sequence[tuple[bytes, int, Sequence[int]]],
    *,
    masks: Sequence[int] = (),
    tile_px: tuple[int, int] = TILE,
    sizes_px: dict[int, tuple[int, int]] | None = None,
    primary: int | None = None,
    wide: bool = False,
) -> bytes:
    """A file of items of these kinds and contents, numbered from 1, the last one primary."""
    items = [(number, kind, content) for number, (kind, content) in enumerate(kinds, 1)]
    sizes_px = sizes_px or {}
    alpha = full_box(b"auxC", b"urn:mpeg:hevc:2015:auxid:1\0")
    properties = [box(b"hvcC", HVCC), ispe(tile_px), alpha, *map(ispe, sizes_px.values())]
    links = {
        number: [1, SIZE, *([MASK] if number in masks else [])]
        for number, kind, _ in items
        if kind != b"Exif" and number not in sizes_px
    } | {number: [at] for at, number in enumerate(sizes_px, MASK + 1)}
    return heif_file(items, references, properties, links, primary=primary or len(items), wide=wide)


HVC1 = (b"hvc1", CODED)


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, name="x.heic").pixels_HWC


# --- what phones write --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [False, True])
def test_a_grid_with_all_that_phones_put_beside_it_is_read(wide: bool) -> None:
    data = picture(
        [HVC1, HVC1, HVC1, HVC1, (b"grid", grid(2, 2, (180, 120))), HVC1, HVC1, (b"Exif", b"\0\0\0\0II*\0")],
        [
            (b"dimg", 5, [1, 2, 3, 4]),
            (b"thmb", 6, [5]),
            (b"auxl", 7, [5]),
            (b"cdsc", 8, [5]),
        ],
        masks=[7],
        sizes_px={5: (180, 120)},
        primary=5,
        wide=wide,
    )
    assert coded_size_px(data) == (180, 120)
    assert decode(data).shape == (120, 180, 3)


def test_a_picture_that_is_input_of_a_tone_map_is_read() -> None:
    """As phones write it since 2024: base picture and gain map are grids, and inputs of a "tmap" item."""
    one = (b"grid", grid(1, 1, TILE))
    data = picture(
        [HVC1, HVC1, one, one, (b"tmap", b"\0")],
        [(b"dimg", 3, [1]), (b"dimg", 4, [2]), (b"dimg", 5, [3, 4])],
        primary=3,
    )
    assert np.abs(decode(data).astype(int) - quarters(96, 64)).max() <= 8


@pytest.mark.parametrize("behind", [b"PK\x03\x04<html>", bytes(40), b"x" * 5])
def test_what_stands_behind_the_boxes_does_not_matter(behind: bytes) -> None:
    assert decode(heic() + behind).shape == (64, 96, 3)


# --- what takes too long ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 60])
def test_overlays_are_refused(depth: int) -> None:
    kinds, references, below = [HVC1] * 3, [], [1, 2, 3]
    for _ in range(
        depth
    ):  # each of three overlays takes all three below: three to the power of `depth` decodes
        kinds += [(b"iovl", overlay(3))] * 3
        above = [len(kinds) - 2, len(kinds) - 1, len(kinds)]
        references += [(b"dimg", number, below) for number in above]
        below = above
    with pytest.raises(UnsupportedImageError, match=r"^x\.heic: .*'iovl', which is not read\. Save it as"):
        decode(picture(kinds, references))


@pytest.mark.parametrize("outer", [b"grid", b"iden"])
def test_a_picture_of_pictures_of_pictures_is_refused(outer: bytes) -> None:
    one = grid(1, 1, TILE)
    data = picture([HVC1, (b"grid", one), (outer, one)], [(b"dimg", 2, [1]), (b"dimg", 3, [2])])
    with pytest.raises(UnsupportedImageError, match="put together themselves"):
        decode(data)


@pytest.mark.parametrize(("n_tiles", "tile_px"), [(1025, (64, 64)), (9, (4096, 4096))])
def test_more_tiles_than_the_picture_calls_for_are_refused(n_tiles: int, tile_px: tuple[int, int]) -> None:
    kinds = [HVC1] * n_tiles + [(b"grid", grid(n_tiles, 1, (4096, 3000)))]
    data = picture(
        kinds,
        [(b"dimg", n_tiles + 1, range(1, n_tiles + 1))],
        tile_px=tile_px,
        sizes_px={n_tiles + 1: (4096, 3000)},
    )
    with pytest.raises(UnsupportedImageError, match="more parts than its size calls for"):
        decode(data)


MASKS_IN_A_CIRCLE = picture([HVC1] * 3, [(b"auxl", 2, [1, 3]), (b"auxl", 3, [2])], masks=[2, 3], primary=1)
A_TILE_MASKED_BY_THE_WHOLE = picture(
    [HVC1, (b"grid", grid(1, 1, TILE))], [(b"dimg", 2, [1]), (b"auxl", 2, [1])], masks=[2]
)


@pytest.mark.parametrize("data", [MASKS_IN_A_CIRCLE, A_TILE_MASKED_BY_THE_WHOLE])
def test_masks_in_a_circle_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match="more parts"):
        decode(data)


def test_the_size_before_a_crop_counts() -> None:
    crop = box(b"clap", struct.pack(">8i", 40, 1, 40, 1, 0, 1, 0, 1))
    properties = [box(b"hvcC", HVCC), ispe((20_000, 20_000)), crop]
    data = heif_file([(1, *HVC1)], [], properties, {1: [1, 2, 3]}, primary=1)
    with pytest.raises(ImageTooLargeError, match="20000 x 20000"):
        decode(data)


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "finding"),
    [(b"meta", "2 boxes"), (b"iinf", "2 boxes"), (b"iref", "2 boxes"), (b"ispe", "no size")],
)
def test_a_box_twice_or_not_at_all_is_damage(kind: bytes, finding: str) -> None:
    data = heic(grid=TILE)
    if kind == b"meta":
        start = data.index(kind) - 4
        data += data[start : start + struct.unpack_from(">I", data, start)[0]]
    elif kind == b"ispe":
        data = data.replace(kind, b"free")
    else:
        data = data.replace(b"hdlr", kind)
    with pytest.raises(TruncatedImageError, match=finding):
        decode(data)


def test_damage_anywhere_is_told_or_harmless() -> None:
    sound, rng = heic(grid=TILE, exif=b"II*\0"), random.Random(1)
    for cut in range(len(sound)):
        _told_or_harmless(sound[:cut])
    for _ in range(2_000):
        data = bytearray(sound)
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        _told_or_harmless(bytes(data))


def _told_or_harmless(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        coded_size_px(data)
