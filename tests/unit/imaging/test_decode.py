"""What comes out of a sound file, upright; what is refused, and how. Colour and depth: `test_srgb`."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import heif_writer
import numpy as np
import pytest
from drawn import encode, lesion, quarters
from PIL import Image, ImageFile, PngImagePlugin

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


@pytest.mark.parametrize("kind", ["text", "profile"])
def test_metadata_that_unpacks_to_more_than_is_read_is_told_as_such(kind: str) -> None:
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    huge = bytes(3 * 2**20)
    if kind == "text":
        info.add_itxt("XML:com.adobe.xmp", huge.decode(), zip=True)
    Image.new("RGB", (64, 64)).save(
        buffer, "PNG", pnginfo=info, **({"icc_profile": huge} if kind == "profile" else {})
    )
    with pytest.raises(UnsupportedImageError, match="metadata unpacks") as refused:
        decode_image(buffer.getvalue(), name="a.png")
    assert "without metadata" in refused.value.remedy


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


def test_a_tiff_that_states_a_tag_twice_is_damage() -> None:
    data = bytearray(encode(lesion(), "TIFF"))
    at = data.rfind(struct.pack("<HH", 262, 3))  # another tag of one SHORT becomes a second compression
    struct.pack_into("<H", data, at, 259)
    with pytest.raises(TruncatedImageError, match="tag 259 twice"):
        decode(bytes(data))


@pytest.mark.parametrize("damage", ["none", "zeros", "a short byte count"])
def test_a_tiff_compressed_as_jpeg_is_refused(damage: str) -> None:
    """libtiff makes what is missing mid-grey without a word."""
    data = bytearray(encode(lesion(240, 180), "TIFF", compression="jpeg", strip_size=1 << 20))
    count_at = data.rfind(struct.pack("<HHI", 279, 4, 1)) + 8
    offset = struct.unpack_from("<I", data, data.rfind(struct.pack("<HHI", 273, 4, 1)) + 8)[0]
    half = struct.unpack_from("<I", data, count_at)[0] // 2
    if damage == "zeros":
        data[offset + half : offset + 2 * half] = bytes(half)
    elif damage == "a short byte count":
        struct.pack_into("<I", data, count_at, half)
    with pytest.raises(UnsupportedImageError, match=r"^x\.jpg: .*JPEG, .*Save it as .*uncompressed TIFF\.$"):
        decode(bytes(data))
