"""A picture of which a part is missing is refused, a whole one never."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from drawn import encode, lesion
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import png_file
from PIL import Image

from melascope.errors import TruncatedImageError
from melascope.imaging.decode import decode_image

END = b"\xff\xd9"


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, name="x").pixels_HWC


# --- PNG ----------------------------------------------------------------------------------------------------


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        found.append((kind, data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def ended_early(png: bytes, share: float) -> bytes:
    """The same picture, its rows after a share of them missing, every stream and checksum in order."""
    chunks = png_chunks(png)
    rows = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    kept = zlib.compress(rows[: int(len(rows) * share)])
    heads = [chunk for chunk in chunks if chunk[0] in (b"IHDR", b"PLTE", b"tRNS")]
    return png_file(*heads, (b"IDAT", kept), (b"IEND", b""))


def adam7(pixels_HWC: np.ndarray) -> bytes:
    """An interlaced PNG, which Pillow cannot write (PNG, 8.2)."""
    height_px, width_px = pixels_HWC.shape[:2]
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    rows = [b"\0" + row.tobytes() for x, y, dx, dy in passes for row in pixels_HWC[y::dy, x::dx] if row.size]
    header = (b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 1))
    return png_file(header, (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))


PNGS = {
    "rgb": encode(lesion(), "PNG"),
    "gray": encode(Image.fromarray(lesion()).convert("L"), "PNG"),
    "one bit": encode(Image.fromarray(lesion(117, 90)).convert("1"), "PNG"),
    "palette": encode(Image.fromarray(lesion()).quantize(16), "PNG"),
    "alpha": encode(Image.fromarray(lesion()).convert("RGBA"), "PNG"),
    "sixteen bits": encode(Image.fromarray(lesion()[..., 0].astype(np.uint16) * 257), "PNG"),
    "interlaced": adam7(lesion(61, 47)),
}


@pytest.mark.parametrize("kind", PNGS)
def test_a_whole_png_is_read(kind: str) -> None:
    decode(PNGS[kind])
    decode(ended_early(PNGS[kind], 1.0))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("kind", PNGS)
def test_a_png_whose_compressed_data_ends_early_is_refused(kind: str, share: float) -> None:
    with pytest.raises(TruncatedImageError, match="ends early"):
        decode(ended_early(PNGS[kind], share))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_a_png_that_ends_in_black_is_read(mode: str) -> None:
    black = lesion()
    black[-20:] = 0
    image = Image.fromarray(black).convert(mode)
    np.testing.assert_array_equal(decode(encode(image, "PNG"))[-20:], np.zeros((20, 120, 3), np.uint8))


# --- JPEG ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_progressive_jpeg_that_was_cut_and_given_an_end_mark_is_refused(mode: str, share: float) -> None:
    picture = Image.fromarray(lesion(320, 240)).convert(mode)
    data = encode(picture, "JPEG", quality=90, progressive=True)
    with pytest.raises(TruncatedImageError, match=r"scan"):
        decode(data[: int(len(data) * share)] + END)


def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    data = encode(lesion(), "JPEG", progressive=True)
    scans = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    assert len(scans) > 5
    for scan in scans[1:]:
        tables = data.rfind(b"\xff\xc4", 0, scan)  # that go before the scan
        with pytest.raises(TruncatedImageError, match="scans of the JPEG file are missing"):
            decode(data[: max(tables, data.rfind(b"\xff\xda", 0, scan) + 14)] + END)


@settings(deadline=None, max_examples=60)
@given(
    width_px=st.integers(28, 90),
    height_px=st.integers(28, 90),
    seed=st.integers(0, 9),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.integers(1, 100),
    options=st.fixed_dictionaries(
        {"progressive": st.booleans(), "subsampling": st.sampled_from([0, 1, 2])},
        optional={"restart_marker_blocks": st.integers(1, 9)},
    ),
    behind=st.binary(max_size=30),
)
def test_a_whole_jpeg_is_read_whatever_stands_behind_it(
    width_px: int, height_px: int, seed: int, mode: str, quality: int, options: dict, behind: bytes
) -> None:
    picture = Image.fromarray(lesion(width_px, height_px, seed=seed)).convert(mode)
    decode(encode(picture, "JPEG", quality=quality, **options) + behind)
