"""Colour profiles, transparency, palettes and depths come out as sRGB of 8 bits."""

from __future__ import annotations

import struct
import zlib

import heif_writer
import numpy as np
import pytest
from drawn import encode, lesion, quarters
from PIL import Image, ImageCms

from melascope.errors import UnsupportedImageError
from melascope.imaging.decode import decode_image

PICTURE = quarters(96, 64)
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, name="x.jpg").pixels_HWC


# --- colour -------------------------------------------------------------------------------------------------


def matrix_profile(columns_xyz: list[tuple[float, float, float]], gamma: float) -> bytes:
    """A minimal ICC v2 display profile (ICC.1:2001-04): three D50 colorants and one gamma."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(4 + 4 + 2 + 1 + 67 + 3)
    blocks = {
        b"desc": text,
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": xyz(columns_xyz[0]),
        b"gXYZ": xyz(columns_xyz[1]),
        b"bXYZ": xyz(columns_xyz[2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, offset = struct.pack(">I", len(blocks)), b"", 128 + 4 + 12 * len(blocks)
    for tag, block in blocks.items():
        table += struct.pack(">4sII", tag, offset + len(body), len(block))
        body += block + bytes(-len(block) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI12s4s44x",
        offset + len(body), b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp", bytes(4),
        0, 0, 0, 0, 0, b"".join(map(fixed, (0.9642, 1.0, 0.8249))), b"\0\0\0\0",
    )  # fmt: skip
    return header + table + body


#: Adobe RGB (1998), version 2005-05, Annex A: colorants at D50, gamma 563/256.
ADOBE_RGB = matrix_profile(
    [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)], 563 / 256
)


def adobe_rgb_to_srgb(rgb: tuple[int, int, int]) -> np.ndarray:
    """By the two standards' own formulas (D65 matrices of Adobe RGB 1998 and IEC 61966-2-1)."""
    linear = (np.array(rgb) / 255) ** (563 / 256)
    to_xyz = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])
    to_srgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    out = np.clip(to_srgb @ to_xyz @ linear, 0, 1)
    return np.where(out <= 0.0031308, 12.92 * out, 1.055 * out ** (1 / 2.4) - 0.055) * 255


@pytest.mark.parametrize(
    "rgb", [(180, 120, 100), (128, 128, 128), (90, 60, 50), (200, 170, 150), (255, 255, 255)]
)
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_adobe_rgb_is_converted_to_srgb(image_format: str, rgb: tuple[int, int, int]) -> None:
    flat = np.full((40, 40, 3), rgb, np.uint8)
    data = encode(flat, image_format, icc_profile=ADOBE_RGB, **LOSSLESS[image_format])
    np.testing.assert_allclose(decode(data)[7, 7], adobe_rgb_to_srgb(rgb), atol=1.5)


def test_heic_profile_is_converted() -> None:
    plain, tagged = decode(heif_writer.heic()), decode(heif_writer.heic(icc=ADOBE_RGB, nclx=None))
    np.testing.assert_allclose(tagged[40, 60], adobe_rgb_to_srgb(tuple(plain[40, 60])), atol=1.5)


def test_an_srgb_profile_changes_next_to_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = lesion()
    assert np.abs(decode(encode(pixels, "PNG", icc_profile=profile)).astype(int) - pixels).max() <= 1


def test_palette_and_gray_pixels_get_their_rgb_profile() -> None:
    flat = Image.new("RGB", (40, 40), (180, 120, 100))
    palette = flat.quantize(4)
    pixels = decode(encode(palette, "PNG", icc_profile=ADOBE_RGB))
    np.testing.assert_allclose(pixels[5, 5], adobe_rgb_to_srgb((180, 120, 100)), atol=1.5)
    gray = decode(encode(Image.new("L", (40, 40), 128), "PNG", icc_profile=ADOBE_RGB))
    np.testing.assert_allclose(gray[5, 5], adobe_rgb_to_srgb((128, 128, 128)), atol=1.5)


@pytest.mark.parametrize("profile", [b"junk" * 50, ADOBE_RGB[:200], ADOBE_RGB[:140] + b"\xff" * 400, b"\0"])
def test_a_broken_profile_counts_as_srgb(profile: bytes) -> None:
    np.testing.assert_array_equal(decode(encode(PICTURE, "PNG", icc_profile=profile)), PICTURE)


def test_a_profile_for_other_pixels_is_ignored() -> None:
    cmyk = Image.fromarray(PICTURE).convert("CMYK")
    with_profile = encode(cmyk, "TIFF", icc_profile=ADOBE_RGB)
    np.testing.assert_array_equal(decode(with_profile), np.asarray(cmyk.convert("RGB")))


def test_cmyk_jpeg_with_adobe_inversion() -> None:
    cmyk = Image.fromarray(PICTURE).convert("CMYK")
    data = encode(cmyk, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in data
    assert np.abs(decode(data).astype(int) - PICTURE).max() <= 4


# --- transparency, palette, depth ---------------------------------------------------------------------------


def test_transparent_pixels_become_black_whatever_colour_hides_in_them() -> None:
    rgba = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    rgba[:10, :, 3] = 0
    rgba[10:20, :, 3] = 128
    expected = PICTURE.copy()
    expected[:10] = 0
    expected[10:20] = np.rint(PICTURE[10:20] * (128 / 255))
    for image_format in ("PNG", "WEBP", "TIFF"):
        pixels = decode(encode(rgba, image_format, **LOSSLESS[image_format] | {"exact": True}))
        assert np.abs(pixels.astype(int) - expected).max() <= 1, image_format


def test_gray_with_alpha() -> None:
    la = Image.merge("LA", (Image.new("L", (40, 40), 200), Image.linear_gradient("L").resize((40, 40))))
    np.testing.assert_allclose(decode(encode(la, "PNG"))[20, 3], 200 * la.getpixel((3, 20))[1] / 255, atol=1)


@pytest.mark.parametrize("transparency", [0, bytes([0, 255, 128, 255])])
def test_palette_with_transparency(transparency: int | bytes) -> None:
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0, 9, 9, 9])
    palette.paste(1, (20, 0, 40, 40))
    pixels = decode(encode(palette, "PNG", transparency=transparency))
    assert pixels[5, 5].tolist() == [0, 0, 0]
    assert pixels[5, 30].tolist() == [200, 100, 50]


def test_a_single_transparent_colour() -> None:
    pixels = decode(encode(PICTURE, "PNG", transparency=(220, 30, 40)))
    assert pixels[5, 5].tolist() == [0, 0, 0]
    assert pixels[5, 90].tolist() == [200, 150, 120]


def test_a_wholly_transparent_image_is_refused() -> None:
    with pytest.raises(UnsupportedImageError, match="wholly transparent"):
        decode(encode(Image.new("RGBA", (40, 40), (200, 100, 50, 0)), "PNG"))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled(image_format: str) -> None:
    levels = np.linspace(0, 65535, 60 * 60).astype(np.uint16).reshape(60, 60)
    pixels = decode(encode(levels, image_format))
    np.testing.assert_array_equal(pixels[..., 0], np.rint(levels / 257))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_16_bit_gray_with_a_transparent_level() -> None:
    levels = np.full((40, 40), 40000, np.uint16)
    levels[:20] = 30000
    pixels = decode(encode(levels, "PNG", transparency=30000))
    assert pixels[5, 5, 0] == 0
    assert pixels[30, 5, 0] == round(40000 / 257)


def tiff(
    pixels: np.ndarray, *, bits: int, photometric: int, sample_format: int = 1, order: str = "<"
) -> bytes:
    """A one-strip, uncompressed TIFF of one or three channels, written by the standard's table."""
    height_px, width_px = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    strip = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    extra = struct.pack(f"{order}3H", bits, bits, bits)
    tags = [
        (256, 4, 1, width_px), (257, 4, 1, height_px), (258, 3, channels, bits if channels == 1 else 8),
        (259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, 16), (277, 3, 1, channels),
        (278, 4, 1, height_px), (279, 4, 1, len(strip)), (339, 3, 1, sample_format),
    ]  # fmt: skip
    directory = struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        inline = (
            struct.pack(f"{order}HH", value, 0)
            if kind == 3 and count == 1
            else struct.pack(f"{order}I", value)
        )
        directory += struct.pack(f"{order}HHI", tag, kind, count) + inline
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 16 + len(strip))
    return head + extra + b"\0\0" + strip + directory + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_rgb_tiff_is_scaled_by_its_high_byte(order: str) -> None:
    levels = (quarters(60, 40).astype(np.uint16) << 8) + 77
    np.testing.assert_array_equal(decode(tiff(levels, bits=16, photometric=2, order=order)), quarters(60, 40))


def test_16_bit_rgb_png_is_scaled_by_its_high_byte() -> None:
    levels = (quarters(60, 40).astype(">u2") << 8) + 77
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(kind, content)
        for kind, content in (
            (b"IHDR", struct.pack(">IIBBBBB", 60, 40, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
    )
    np.testing.assert_array_equal(decode(png), quarters(60, 40))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_16_bit_tiff_with_white_as_zero() -> None:
    levels = np.full((40, 40), 60000, np.uint16)
    assert decode(tiff(levels, bits=16, photometric=0))[3, 3, 0] == 255 - round(60000 / 257)


def test_12_bit_gray_tiff_is_scaled_by_its_own_white() -> None:
    # Two 12-bit samples in three bytes: 0xFFF and 0x800.
    packed = np.frombuffer(bytes([0xFF, 0xF8, 0x00]) * (20 * 40), np.uint8).reshape(40, 60)
    data = bytearray(tiff(packed, bits=12, photometric=1))
    width_at = data.rfind(struct.pack("<HHII", 256, 4, 1, 60))
    data[width_at : width_at + 12] = struct.pack("<HHII", 256, 4, 1, 40)
    assert decode(bytes(data))[3, :2, 0].tolist() == [255, 128]


@pytest.mark.parametrize(
    "pixels",
    [np.ones((40, 40), np.float32), np.ones((40, 40), np.int32)],
    ids=["float", "32-bit"],
)
def test_pixels_of_unknown_range_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(UnsupportedImageError, match="unread kind"):
        decode(encode(pixels, "TIFF"))


def test_a_tiff_of_an_unknown_layout_is_unsupported_rather_than_damaged() -> None:
    with pytest.raises(UnsupportedImageError, match="unknown pixel mode"):
        decode(tiff(np.ones((40, 40, 3), np.float32), bits=32, photometric=2, sample_format=3))


def test_fax_codes_are_refused() -> None:
    fax = encode(Image.fromarray(PICTURE).convert("1"), "TIFF", compression="group4")
    with pytest.raises(UnsupportedImageError, match="TIFF compression 4 is not read"):
        decode(fax)


def test_one_bit_image() -> None:
    bits = Image.fromarray(PICTURE).convert("1")
    np.testing.assert_array_equal(decode(encode(bits, "PNG"))[..., 1], np.asarray(bits.convert("L")))
