"""What comes out of a sound file: pixels, orientation, colour, depth; what is refused, and how."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import heif_writer
import numpy as np
import pytest
from drawn import encode, lesion, quarters
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from melascope.errors import (
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    NotAnImageError,
    TruncatedImageError,
    UnreadablePathError,
    UnsupportedImageError,
)
from melascope.imaging.decode import ImageLimits, decode_image, read_image

PICTURE = quarters(96, 64)
LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": {"lossless": True}}


def decode(data: bytes, **limits: float) -> np.ndarray:
    return decode_image(data, name="x.jpg", limits=ImageLimits(**limits)).pixels_HWC


# --- formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", LOSSLESS)
def test_lossless_formats_give_back_their_pixels(image_format: str) -> None:
    image = decode_image(encode(PICTURE, image_format, **LOSSLESS[image_format]), name="a.doc")
    np.testing.assert_array_equal(image.pixels_HWC, PICTURE)
    assert image.format.upper() == image_format
    assert (image.width_px, image.height_px) == (96, 64)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_deflate"])
def test_compressed_tiff(compression: str) -> None:
    np.testing.assert_array_equal(decode(encode(PICTURE, "TIFF", compression=compression)), PICTURE)


def test_heic_is_close_to_what_was_coded() -> None:
    image = decode_image(heif_writer.heic(), name="phone.heic")
    assert image.format == "HEIF"
    assert np.abs(image.pixels_HWC.astype(int) - PICTURE).max() <= 8


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "restart_marker_rows": 1}])
def test_jpeg_pixels_are_those_of_a_full_decode(options: dict[str, object]) -> None:
    data = encode(lesion(), "JPEG", quality=90, **options)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_a_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encode(PICTURE, "PNG"))
    assert read_image(path).format == "PNG"


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "TIFF"])
def test_a_polyglot_is_what_its_first_bytes_say(format_: str) -> None:
    image = decode_image(encode(PICTURE, format_) + b"PK\x03\x04<html><script>%PDF-1.7", name="p.zip")
    assert image.format == format_


# --- orientation --------------------------------------------------------------------------------------------

#: EXIF orientation -> the stored picture that shall come out as PICTURE (Exif 3.0, 4.6.5: row 0, column 0).
STORED = {
    1: PICTURE,
    2: PICTURE[:, ::-1],
    3: PICTURE[::-1, ::-1],
    4: PICTURE[::-1],
    5: PICTURE.transpose(1, 0, 2),
    6: PICTURE.transpose(1, 0, 2)[::-1],
    7: PICTURE.transpose(1, 0, 2)[::-1, ::-1],
    8: PICTURE.transpose(1, 0, 2)[:, ::-1],
}


def exif_with(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(image_format: str, orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    options = {"quality": 100, "subsampling": 0} if image_format == "JPEG" else LOSSLESS[image_format]
    if image_format == "TIFF":
        options = {"tiffinfo": {0x0112: orientation}}
    else:
        options = {**options, "exif": exif_with(orientation)}
    pixels = decode(encode(stored, image_format, **options))
    assert pixels.shape == PICTURE.shape
    assert np.abs(pixels.astype(int) - PICTURE).max() <= 2


@pytest.mark.parametrize("orientation", STORED)
def test_heic_transforms_count_and_its_exif_orientation_does_not(orientation: int) -> None:
    exif = exif_with(orientation).removeprefix(b"Exif\0\0")
    pixels = decode(heif_writer.heic(orientation=orientation, exif=exif))
    turned = Image.fromarray(PICTURE)
    operation = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    expected = np.asarray(turned if operation is None else turned.transpose(Image.Transpose(operation)))
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 8


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(value: int) -> None:
    np.testing.assert_array_equal(decode(encode(PICTURE, "PNG", exif=exif_with(value))), PICTURE)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"junk" * 9])
def test_broken_exif_does_not_cost_the_picture_or_warn(exif: bytes) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        decode(encode(PICTURE, "JPEG", exif=exif))
        np.testing.assert_array_equal(decode(encode(PICTURE, "PNG", exif=exif)), PICTURE)
    assert not heard


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


# --- several pictures in one file ---------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_animations_and_pages_are_refused(image_format: str) -> None:
    second = Image.fromarray(lesion(96, 64))
    data = encode(PICTURE, image_format, save_all=True, append_images=[second])
    with pytest.raises(UnsupportedImageError, match=r"x\.jpg: it holds (several pages|an animation)\. Save"):
        decode(data)


def test_directories_in_a_circle_are_refused() -> None:
    data = bytearray(encode(PICTURE, "TIFF", save_all=True, append_images=[Image.fromarray(PICTURE)]))
    second = data.rfind(struct.pack("<HHI", 256, 4, 1)) - 2
    if second < 0:
        second = data.rfind(struct.pack("<HHI", 256, 3, 1)) - 2
    entries = struct.unpack_from("<H", data, second)[0]
    struct.pack_into("<I", data, second + 2 + 12 * entries, struct.unpack_from("<I", data, 4)[0])
    with pytest.raises(UnsupportedImageError, match="several pages"):
        decode(bytes(data))


def test_a_multi_picture_jpeg_gives_its_first_picture() -> None:
    data = encode(PICTURE, "MPO", save_all=True, append_images=[Image.fromarray(lesion(96, 64))], quality=95)
    assert data.count(b"\xff\xd8\xff") == 2
    image = decode_image(data, name="phone.jpg")
    assert image.format == "JPEG"
    assert np.abs(image.pixels_HWC.astype(int) - PICTURE).mean() < 3


def test_heic_with_several_pictures_gives_the_primary_one() -> None:
    assert decode(heif_writer.heic(pictures=3, primary=2)).shape == PICTURE.shape


def test_heic_sequences_are_refused() -> None:
    with pytest.raises(UnsupportedImageError, match="image sequence"):
        decode(heif_writer.heic(brand=b"hevc"))


@pytest.mark.parametrize(
    ("nclx", "finding"), [((9, 16, 9), "PQ"), ((9, 18, 9), "HLG"), ((12, 13, 6), "wide gamut")]
)
def test_heic_in_colours_that_would_come_out_wrong_is_refused(
    nclx: tuple[int, int, int], finding: str
) -> None:
    with pytest.raises(UnsupportedImageError, match=finding):
        decode(heif_writer.heic(nclx=nclx))


# --- what is no image ---------------------------------------------------------------------------------------

OTHERS = {
    "GIF": encode(PICTURE, "GIF"),
    "PDF": b"%PDF-1.7\n",
    "ZIP": b"PK\x03\x04" + bytes(40),
    "DICOM": bytes(128) + b"DICM" + bytes(40),
    "Photoshop": b"8BPS" + bytes(40),
    "AVIF": b"\0\0\0\x1cftypavif" + bytes(40),
    "text": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "no known": bytes(range(256)),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_image_is_told_by_kind(kind: str) -> None:
    with pytest.raises(NotAnImageError, match=rf"^x\.jpg: .*{kind}.*\. [A-Z].*\.$"):
        decode(OTHERS[kind])


@pytest.mark.parametrize("image_format", ["EPS", "PSD", "PPM", "TGA", "ICO", "JPEG2000", "SGI", "PCX"])
def test_no_other_format_of_pillow_is_tried(image_format: str) -> None:
    if image_format == "PSD":
        data = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 40, 40, 8, 3) + bytes(9999)
    else:
        data = encode(PICTURE, image_format)
    with pytest.raises(NotAnImageError):
        decode(data)


def test_an_empty_file() -> None:
    with pytest.raises(EmptyImageError, match=r"^scan\.jpg: the file is empty\. Save or copy it again\.$"):
        decode_image(b"", name="scan.jpg")


def test_a_name_cannot_steer_the_terminal() -> None:
    with pytest.raises(EmptyImageError) as caught:
        decode_image(b"", name="a\x1b[2J\udcff\n.jpg")
    assert str(caught.value).startswith("a\ufffd[2J\ufffd\ufffd.jpg: ")


# --- limits -------------------------------------------------------------------------------------------------


def test_each_limit() -> None:
    data = encode(quarters(100, 60), "PNG")
    decode(data, max_bytes=len(data), max_pixels=6000, min_side_px=60, max_aspect=100 / 60)
    with pytest.raises(ImageTooLargeError, match="bytes"):
        decode(data, max_bytes=len(data) - 1)
    with pytest.raises(ImageTooLargeError, match="100 x 60 pixels"):
        decode(data, max_pixels=5999)
    with pytest.raises(ImageTooSmallError, match="at least 61 pixels"):
        decode(data, min_side_px=61)
    with pytest.raises(UnsupportedImageError, match=r"over 1\.5 times"):
        decode(data, max_aspect=1.5)


# --- files --------------------------------------------------------------------------------------------------


def test_no_more_than_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "endless.jpg"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: takes no room on the disk
    with pytest.raises(ImageTooLargeError, match=r"endless\.jpg: the file has more than 1000 bytes"):
        read_image(path, limits=ImageLimits(max_bytes=1000))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "absent", "loop", "zero byte", "device"])
def test_what_is_no_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / "x.jpg")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "loop":
        os.symlink("x.jpg", path)
    elif kind == "zero byte":
        path = "x\0.jpg"
    elif kind == "device":
        path = "/dev/zero"
    with pytest.raises(UnreadablePathError) as caught:
        read_image(path)
    assert str(caught.value).startswith(path.replace("\0", "\ufffd") + ": ")


def test_a_file_without_read_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # as root, no permission is ever missing
    with pytest.raises(UnreadablePathError, match="may not be read"):
        read_image(tmp_path / "x.jpg")


# --- manners ------------------------------------------------------------------------------------------------


def test_pillow_and_the_warning_filters_are_left_as_they_were() -> None:
    formats, filters = set(Image.OPEN), list(warnings.filters)
    for data in (encode(PICTURE, "TIFF"), heif_writer.heic(), encode(PICTURE, "JPEG")):
        decode(data)
    assert set(Image.OPEN) == formats
    assert warnings.filters == filters
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1 << 20


def test_many_threads_decode_at_once() -> None:
    exif = exif_with(6)
    files = [encode(lesion(seed=n), f, exif=exif) for n in range(4) for f in ("JPEG", "PNG", "WEBP")]
    files += [encode(lesion(seed=n), "TIFF", compression="tiff_lzw") for n in range(4)]
    files += [encode(PICTURE, "TIFF")[:-9], b"", heif_writer.heic()]

    def outcome(data: bytes) -> bytes | type[ImageError]:
        try:
            return decode(data).tobytes()
        except ImageError as error:
            return type(error)

    alone = [outcome(data) for data in files]
    before = threading.active_count()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, files * 10)) == alone * 10
    assert threading.active_count() == before


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "HEIF"])
def test_a_file_that_is_cut_short_is_refused(image_format: str, share: float) -> None:
    data = heif_writer.heic() if image_format == "HEIF" else encode(lesion(), image_format)
    with pytest.raises((TruncatedImageError, NotAnImageError), match=r"^x\.jpg: "):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_scan_that_stops_before_its_end_mark_is_refused(
    mode: str, options: dict[str, int], share: float
) -> None:
    data = encode(Image.fromarray(lesion(320, 240)).convert(mode), "JPEG", quality=90, **options)
    decode(data)
    with pytest.raises(TruncatedImageError):
        decode(data[: int(len(data) * share)] + b"\xff\xd9")


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_whole_jpeg_with_a_gray_corner_is_no_damage(mode: str, options: dict[str, int]) -> None:
    pixels = lesion(320, 240)
    pixels[-64:] = 128
    image = Image.fromarray(pixels).convert(mode)
    if mode == "CMYK":
        image.paste((128, 128, 128, 128), (0, 176, 320, 240))
    decode(encode(image, "JPEG", **options))


def test_a_jpeg_without_its_end_mark_is_refused() -> None:
    with pytest.raises(TruncatedImageError, match="no end mark"):
        decode(encode(lesion(), "JPEG")[:-2] + bytes(500))


def test_a_flipped_bit_in_png_data_is_noticed() -> None:
    data = bytearray(encode(lesion(), "PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(TruncatedImageError, match="checksum"):
        decode(bytes(data))


def test_a_tag_beyond_the_end_of_a_tiff_is_damage() -> None:
    data = bytearray(encode(lesion(), "TIFF"))
    at = data.rfind(struct.pack("<HHI", 258, 3, 3))
    struct.pack_into("<I", data, at + 8, 1 << 30)
    with pytest.raises(TruncatedImageError):
        decode(bytes(data))
