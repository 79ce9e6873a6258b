"""Whether a file holds every pixel that it declares: decoders fill in what is missing and tell nobody.

The checks are for pictures that have been decoded, so that what they read of a file is known to be well-formed.
They cost next to nothing on ordinary files, and a second decoding or inflating where there is reason to ask.
"""

from __future__ import annotations

import zlib
from io import BytesIO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from melascope.imaging import headers
from melascope.imaging.headers import ImageFormat

_PADDING = b"\x55\xaa" * 512  #: bits that no decoder would fill in

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  #: by colour type (PNG, table 11.1)
_PNG_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PIECE_BYTES = 16_384  #: inflated at once, to at most a thousand times as many


def check_complete(image: Image.Image, data: bytes, image_format: ImageFormat) -> None:
    """Refuse a decoded picture of which a part was filled in.

    Parameters
    ----------
    image
        The picture as Pillow decoded it, before any change.
    data
        The whole file.

    Raises
    ------
    TruncatedImageError
        A JPEG's scan stops before the picture is full, or some of its scans are missing; a PNG's compressed data
        ends early. Of a JPEG a part that is missing from any but its last scan is not seen.
    """
    match image_format:
        case ImageFormat.JPEG:
            _check_jpeg(image, data)
        case ImageFormat.PNG:
            _check_png(image, data)
        case _:
            pass  # their decoders tell


def _check_jpeg(image: Image.Image, data: bytes) -> None:
    frame, scan = headers.jpeg_scan(data)
    n_scans, end = _full_scans(data, frame, scan)
    if n_scans > 1:
        # What stands behind a scan that is complete is skipped; what changes the picture was still wanted.
        padded = JpegImageFile(BytesIO(data[:end] + _PADDING + data[end : end + 2]))
        if padded.tobytes() != image.tobytes():
            raise headers.damaged("the last scan of the JPEG file ends early.")
        return
    # libjpeg fills the rest of an only scan with mid-gray. Where the last pixel is such a gray, the coded data
    # is decoded again without its end mark: if it is complete that succeeds, else the decoder asks for more.
    corner = image.getpixel((image.width - 1, image.height - 1))
    if set(corner if isinstance(corner, tuple) else (corner,)) <= {127, 128}:
        lookahead = bytes(8)  # that libjpeg's bit reader wants to see behind the last code
        JpegImageFile(BytesIO(data[:end] + lookahead)).load()


def _full_scans(data: bytes, frame: int, scan: int) -> tuple[int, int]:
    """Count the scans, and find the end mark behind them.

    Raises
    ------
    TruncatedImageError
        The scans leave out bits of a component's coefficients (ITU-T T.81, G.1.1.1): those are in later scans.
    """
    progressive = data[frame + 1] & 3 == 2
    missing = {
        name: bytearray(b"\xff" * 64) for name in data[frame + 10 : frame + 10 + 3 * data[frame + 9] : 3]
    }
    n_scans, end = 0, scan
    for end in headers.jpeg_markers(data, scan):
        if data[end + 1] == headers.SCAN:
            n_scans += 1
            spectrum = end + 5 + 2 * data[end + 4]
            first, last, bits = data[spectrum : spectrum + 3] if progressive else (0, 63, 0)
            for name in data[end + 5 : spectrum : 2]:
                missing[name][first : last + 1] = bytes([bits & 15]) * (last + 1 - first)
    if any(map(any, missing.values())):
        raise headers.damaged("scans of the JPEG file are missing: it holds a coarse picture only.")
    return n_scans, end


def _check_png(image: Image.Image, data: bytes) -> None:
    """Pillow leaves rows black that the compressed data does not reach: those are what is asked about."""
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    interlaced = bool(data[28])
    if (interlaced or not any(last_row.tobytes())) and not _inflates_to(data, _png_bytes(image, data)):
        raise headers.damaged("the PNG file's compressed data ends early.")


def _png_bytes(image: Image.Image, data: bytes) -> int:
    """Bytes of all rows with their filter types, before compression (PNG, 7.2 and 8)."""
    pixel_bits = data[24] * _PNG_CHANNELS[data[25]]
    total = 0
    for left, top, step_x, step_y in _PNG_PASSES if data[28] else ((0, 0, 1, 1),):
        columns, rows = -(-(image.width - left) // step_x), -(-(image.height - top) // step_y)
        total += rows * (1 + -(-columns * pixel_bits // 8)) if columns > 0 else 0
    return total


def _inflates_to(data: bytes, wanted_bytes: int) -> bool:
    inflate, have_bytes = zlib.decompressobj(), 0
    for kind, start, end in headers.png_chunks(data):
        for at in range(start, end, _PIECE_BYTES) if kind == b"IDAT" else ():
            have_bytes += len(inflate.decompress(data[at : min(at + _PIECE_BYTES, end)]))
            if have_bytes >= wanted_bytes:
                return True
            if inflate.eof:
                return False
    return False
