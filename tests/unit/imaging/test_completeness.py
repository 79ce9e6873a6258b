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

from melascope.errors import TruncatedImageError, UnsupportedImageError
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


# --- work ---------------------------------------------------------------------------------------------------


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def of_scans(side_px: int, n_scans: int, *, behind_first: bytes = b"", frame: int = 0xC2) -> bytes:
    """A gray progressive JPEG, all black: one bit a block for the first scan, a few bytes for every other."""
    n_blocks = ((side_px + 7) // 8) ** 2
    first = bytes(-(-n_blocks // 8))  # the code 0 means no change of brightness
    runs = "".join(
        "0" + format(min(32767, max(16384, n_blocks - at)) - 16384, "014b")
        for at in range(0, n_blocks, 32767)
    )
    runs += "1" * (-len(runs) % 8)
    empty = bytes(int(runs[at : at + 8], 2) for at in range(0, len(runs), 8)).replace(b"\xff", b"\xff\0")
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + b"\1" * 64)
        + segment(frame, struct.pack(">BHHBBBB", 8, side_px, side_px, 1, 1, 0x11, 0))
        + segment(0xC4, b"\0\1" + bytes(15) + b"\0")
        + segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")  # ends 16384 blocks or more
        + segment(0xDA, b"\1\1\0\0\0\0")
        + first
        + behind_first
        + (segment(0xDA, b"\1\1\0\1\x3f\0") + empty) * (n_scans - 1)
        + END
    )


def test_few_scans_are_read_whatever_the_size() -> None:
    assert decode(of_scans(400, 200)).shape == (400, 400, 3)
    assert decode(of_scans(7_000, 20)).shape == (7_000, 7_000, 3)


@pytest.mark.parametrize("hiding", [b"", segment(0xFE, END), segment(0xE1, b"Exif\0\0" + END)])
@pytest.mark.parametrize(("side_px", "n_scans"), [(64, 201), (7_000, 31)])
def test_scans_beyond_number_are_refused_wherever_an_end_mark_seems_to_be(
    side_px: int, n_scans: int, hiding: bytes
) -> None:
    with pytest.raises(UnsupportedImageError, match=f"has {n_scans} scans of {side_px} x {side_px} pixels"):
        decode(of_scans(side_px, n_scans, behind_first=hiding))


@pytest.mark.parametrize("marker", [0x02, 0x5A, 0xBF])
def test_a_marker_that_does_not_exist_cannot_hide_scans(marker: int) -> None:
    with pytest.raises(TruncatedImageError, match="does not exist"):
        decode(of_scans(64, 3, behind_first=segment(marker, bytes(40))))


@pytest.mark.parametrize("frame", [0xC3, 0xC9, 0xCA])
def test_lossless_and_arithmetic_coding_are_refused(frame: int) -> None:
    with pytest.raises(UnsupportedImageError, match="lossless or arithmetic"):
        decode(of_scans(64, 1, frame=frame))
