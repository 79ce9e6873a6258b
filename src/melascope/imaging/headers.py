"""What the bytes of an image file say of themselves, read before any decoder sees them.

Decoders trust counts and lengths that a hostile or damaged file declares. The checks here are linear in the
file's size, allocate next to nothing, and refuse what would make a decoder allocate or loop beyond reason.
Messages carry no file name: `decode.decode_image` puts it in front.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from melascope.errors import (
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedImageError,
)

COPY_AGAIN = "Save or copy it again."
SAVE_AS = "Save it as JPEG or PNG."

_MAX_SEGMENTS = 10_000  #: of a JPEG file before its first scan
_MAX_MARKERS = 10_000  #: of a JPEG file from its first scan on
_MAX_SCANS = 200  #: of a JPEG file; encoders write about ten, and every one takes time for every pixel
_MAX_SCANNED_PX = 1_500_000_000  #: pixels of a JPEG file times its scans, unless those are few
_FEW_SCANS = 30
_MAX_JUNK_BYTES = 65_536  #: between JPEG segments
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")  #: that ends coded data; not stuffing, fill or restart
SCAN, _END = 0xDA, 0xD9  #: start-of-scan and end-of-image markers of JPEG
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  #: start-of-frame markers of JPEG
_MAX_CHUNKS = 65_536  #: of a PNG file
_MAX_TAGS = 4_096  #: of a TIFF directory
_MAX_VALUES = 262_144  #: of one TIFF tag that is not plain bytes
_MAX_TILE_PX = 4_096 * 4_096  #: of a TIFF file
#: None, LZW, deflate, PackBits, old deflate. Fax codes hold no photographs, and hide damage.
_TIFF_COMPRESSIONS = {1, 5, 8, 32773, 32946}
_TIFF_JPEG = {6, 7}  #: JPEG, where libtiff fills in what is missing and tells nobody
#: None, with channel masks, with an alpha mask. Pillow unpacks run lengths byte by byte: seconds for few KiB.
_BMP_COMPRESSIONS = {0, 3, 6}
_MAX_EXIF_BYTES = 1 << 20  #: of a JPEG file


class ImageFormat(StrEnum):
    """The formats that are read."""

    JPEG = "JPEG"
    PNG = "PNG"
    TIFF = "TIFF"
    BMP = "BMP"
    WEBP = "WebP"
    HEIF = "HEIF"


_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

#: What people send instead of a picture: (offset, magic, what it is, what to do).
_OTHERS = (
    (0, b"GIF8", "a GIF", SAVE_AS),
    (0, b"%PDF", "a PDF document", "Export the picture in it as JPEG or PNG."),
    (128, b"DICM", "a DICOM file", "Export the picture in it as JPEG or PNG."),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document", "Unpack it."),
    (0, b"8BPS", "a Photoshop document", SAVE_AS),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image", SAVE_AS),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", SAVE_AS),
    (4, b"ftypavi", "an AVIF image", SAVE_AS),
    (4, b"ftyp", "a video or an unknown kind of HEIF", SAVE_AS),
)


def sniff(data: bytes) -> ImageFormat:
    """The format by content.

    Raises
    ------
    NotAnImageError
        The content is of no format that is read; says what it is instead if that is plain.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return ImageFormat.TIFF
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return ImageFormat.HEIF
    if data.startswith(b"BM") and data[6:10] == bytes(4):  # "BM" alone also begins texts
        return ImageFormat.BMP
    for offset, magic, kind, remedy in _OTHERS:
        if data[offset : offset + len(magic)] == magic:
            raise NotAnImageError(f"this is {kind}, which is not read.", remedy=remedy)
    kind = "text" if data[:256].isascii() and b"\0" not in data[:256] else "of no known image format"
    raise NotAnImageError(
        f"the content is {kind}, not an image.",
        remedy="Give a JPEG, PNG, TIFF, BMP, WebP or HEIC photograph.",
    )


def check(data: bytes, image_format: ImageFormat) -> None:
    """Refuse what no decoder should be given.

    Raises
    ------
    TruncatedImageError
        The structure breaks off or contradicts itself; a PNG chunk does not match its checksum.
    ImageTooLargeError
        It declares absurdly many parts.
    UnsupportedImageError
        A JPEG, TIFF or BMP file is compressed by a method that photographs are not, or that hides damage; a JPEG
        file has more scans than can be decoded in seconds.
    """
    match image_format:
        case ImageFormat.JPEG:
            _check_jpeg(data)
        case ImageFormat.PNG:
            _check_png(data)
        case ImageFormat.TIFF:
            _check_tiff(data)
        case ImageFormat.BMP:
            _check_bmp(data)
        case ImageFormat.WEBP | ImageFormat.HEIF:
            pass  # WebP's decoder needs `webp_size_px` first, HEIF's `heif.coded_size_px`


def damaged(what: str) -> TruncatedImageError:
    """The error for a file that is damaged or cut short."""
    return TruncatedImageError(what, remedy=COPY_AGAIN)


def absurd(what: str) -> ImageError:
    """The error for a file that declares more parts than any camera writes."""
    return ImageTooLargeError(what, remedy="Save it again without its metadata.")


# --- JPEG ---------------------------------------------------------------------------------------------------


def jpeg_scan(data: bytes) -> tuple[int, int]:
    """Offsets of the first picture's start-of-frame marker and first start-of-scan marker (ITU-T T.81, B.1).

    Raises
    ------
    TruncatedImageError, ImageTooLargeError
        As `check`.
    """
    position, frame, junk_bytes, exif_bytes = 2, 0, 0, 0
    for _ in range(_MAX_SEGMENTS):
        start = data.find(b"\xff", position)
        junk_bytes += start - position
        if start < 0 or start + 4 > len(data) or junk_bytes > _MAX_JUNK_BYTES:
            raise damaged("the JPEG file has no picture data.")
        marker = data[start + 1]
        if marker == SCAN:
            if not frame:
                raise damaged("the JPEG file has no frame header.")
            return frame, start
        if marker == _END:
            raise damaged("the JPEG file ends before its picture data.")
        if marker in (0x00, 0xFF):  # stuffing, fill
            position = start + 1
            junk_bytes += 1
        elif 0xD0 <= marker <= 0xD8 or marker == 0x01:  # markers without content
            position = start + 2
        else:
            frame = start if marker in _FRAMES else frame
            length = int.from_bytes(data[start + 2 : start + 4], "big")
            position = start + 2 + length
            exif_bytes += length if data[start + 4 : start + 10] == b"Exif\0\0" else 0
            if exif_bytes > _MAX_EXIF_BYTES:
                raise absurd("the JPEG file holds over 1 MiB of EXIF data.")
    raise absurd(f"the JPEG file has over {_MAX_SEGMENTS} segments.")


def jpeg_markers(data: bytes, scan: int) -> Iterator[int]:
    """Offsets of the markers from the first start-of-scan marker to the end-of-image marker behind the last scan.

    Segments are skipped by their length, whatever they hold, and coded data up to the next marker, as a decoder
    does it.

    Raises
    ------
    TruncatedImageError, ImageTooLargeError
        As `check`.
    """
    position = scan
    for _ in range(_MAX_MARKERS):
        yield position
        marker = data[position + 1]
        if marker == _END:
            return
        if marker < 0xC0:  # decoders disagree about whether such a marker has a length
            raise damaged(f"the JPEG file has a marker that does not exist ({marker:02X}).")
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        found = _MARKER.search(data, position + 2 + length)
        if found is None:
            raise damaged("the JPEG file has no end mark: its last part is missing.")
        position = found.start()
    raise absurd(f"the JPEG file has over {_MAX_MARKERS} markers behind its first scan.")


def _check_jpeg(data: bytes) -> None:
    frame, scan = jpeg_scan(data)
    if data[frame + 1] > 0xC2:
        raise UnsupportedImageError("it is a lossless or arithmetic-coded JPEG.", remedy=SAVE_AS)
    height_px, width_px = (int.from_bytes(data[frame + at : frame + at + 2], "big") for at in (5, 7))
    n_scans = sum(data[marker + 1] == SCAN for marker in jpeg_markers(data, scan))
    affordable = min(_MAX_SCANS, _MAX_SCANNED_PX // max(1, width_px * height_px))
    if n_scans > max(_FEW_SCANS, affordable):
        raise UnsupportedImageError(
            f"the JPEG file has {n_scans} scans of {width_px} x {height_px} pixels.",
            remedy="Save it again as a baseline JPEG, not a progressive one.",
        )


# --- PNG ----------------------------------------------------------------------------------------------------


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and start and end of the content, of each chunk, IEND the last (PNG, 5.3).

    Raises
    ------
    TruncatedImageError, ImageTooLargeError
        As `check`, short of checksums.
    """
    position = 8
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            raise damaged("the PNG file ends early.")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            raise damaged("the PNG file ends early.")
        yield kind, position + 8, end
        if kind == b"IEND":
            return
        position = end + 4
    raise absurd(f"the PNG file has over {_MAX_CHUNKS} parts.")


def _check_png(data: bytes) -> None:
    view = memoryview(data)
    for kind, start, end in png_chunks(data):
        if zlib.crc32(view[start - 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise damaged(f"the PNG file is damaged: the checksum of a part ({ascii(kind)[2:-1]}) is wrong.")


# --- WebP ---------------------------------------------------------------------------------------------------


def webp_size_px(data: bytes) -> tuple[int, int]:
    """Declared width and height (RFC 9649): Pillow's WebP decoder allocates its canvas as soon as it is opened.

    Raises
    ------
    TruncatedImageError
        There is no readable first chunk.
    """
    kind = data[12:16]
    if len(data) >= 30:
        if kind == b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        if kind == b"VP8L" and data[20] == 0x2F:
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
            width_px, height_px = struct.unpack_from("<HH", data, 26)
            return width_px & 0x3FFF, height_px & 0x3FFF
    raise damaged("the WebP file has a damaged header.")


# --- BMP ----------------------------------------------------------------------------------------------------


def _check_bmp(data: bytes) -> None:
    method = int.from_bytes(data[30:34], "little")
    if (
        data[14:18] != b"\x0c\0\0\0" and method not in _BMP_COMPRESSIONS
    ):  # the 12-byte header has no such field
        raise UnsupportedImageError(f"BMP compression {method} is not read.", remedy=SAVE_AS)


# --- TIFF and EXIF ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tag:
    kind: int  #: TIFF field type
    count: int
    inline: bytes  #: the value, if it fits; else the offset
    order: str  #: "<" or ">"

    @property
    def number(self) -> int | None:
        """The value of a single SHORT or LONG."""
        if self.count != 1 or self.kind not in (3, 4):
            return None
        return int(struct.unpack_from(f"{self.order}{'H' if self.kind == 3 else 'I'}", self.inline)[0])


def _first_directory(tiff: bytes) -> dict[int, _Tag]:
    """Tags of the first directory of a TIFF or BigTIFF structure (TIFF 6.0, section 2)."""
    order = "<" if tiff[:2] == b"II" else ">"
    if tiff[2:4] in (b"+\0", b"\0+"):
        offset_at, offset_code, count_code, entry_code = 8, "Q", "Q", "HHQ8s"
    else:
        offset_at, offset_code, count_code, entry_code = 4, "I", "H", "HHI4s"
    try:
        offset = struct.unpack_from(order + offset_code, tiff, offset_at)[0]
        count = struct.unpack_from(order + count_code, tiff, offset)[0] if offset < len(tiff) else 0
    except struct.error:
        count = 0
    entry_bytes = struct.calcsize(order + entry_code)
    first = offset + struct.calcsize(order + count_code) if count else len(tiff)
    if count > _MAX_TAGS:
        raise absurd(f"the TIFF directory has {count} tags.")
    if not count or first + count * entry_bytes > len(tiff):
        raise damaged("the TIFF directory lies outside the file: the file ends early or is damaged.")
    tags: dict[int, _Tag] = {}
    for at in range(first, first + count * entry_bytes, entry_bytes):
        tag, kind, values, inline = struct.unpack_from(order + entry_code, tiff, at)
        if tag in tags:  # which of them a decoder takes is its own affair
            raise damaged(f"the TIFF directory has the tag {tag} twice.")
        tags[tag] = _Tag(kind=kind, count=values, inline=inline, order=order)
    return tags


def _check_tiff(data: bytes) -> None:
    tags = _first_directory(data)
    for number, tag in tags.items():
        if tag.count > _MAX_VALUES and tag.kind not in (1, 2, 7):  # bytes, text, undefined stay bytes
            raise absurd(f"the TIFF tag {number} has {tag.count} values.")
    method = tags[259].number if 259 in tags else 1
    if method in _TIFF_JPEG:
        raise UnsupportedImageError(
            "it is a TIFF compressed as JPEG, in which missing parts would go unseen.",
            remedy="Save it as JPEG, PNG or uncompressed TIFF.",
        )
    if method not in _TIFF_COMPRESSIONS:
        raise UnsupportedImageError(f"TIFF compression {method} is not read.", remedy=SAVE_AS)
    tile_px = [tags[side].number or 0 for side in (322, 323) if side in tags]
    if len(tile_px) == 2 and tile_px[0] * tile_px[1] > _MAX_TILE_PX:
        raise ImageTooLargeError(f"the TIFF tiles are {tile_px[0]} x {tile_px[1]} pixels.", remedy=SAVE_AS)


def exif_orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8 (Exif 3.0, tag 0x0112); 1 where it is absent or unreadable.

    A damaged EXIF block leaves the pixels whole, and a lesion has no upright side: it is not worth a refusal.
    """
    try:
        tag = _first_directory(exif.removeprefix(b"Exif\0\0")).get(0x0112)
    except ImageError:
        return 1
    orientation = (tag.number if tag else None) or 1
    return orientation if orientation <= 8 else 1
