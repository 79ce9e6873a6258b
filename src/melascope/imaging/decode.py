"""From bytes to upright sRGB pixels, or one error that says what is wrong with the file and what to do.

This is the edge where files of strangers meet decoders written in C. In order: byte limit, format by content,
the file's own structure (`headers`), declared size against the limits, and only then pixels (`srgb`); so
memory is bounded by `ImageLimits`, not by the file. What is decided here:

- *Format*: by content, never by name. Pillow's readers are called by class, so that no other of its formats
  is ever tried and its registry stays as it was; HEIF goes through `pi_heif` without registering it with
  Pillow.
- *Several pictures in one file*: animations and multi-page files are refused, since nobody can tell which
  picture was meant. Phones' multi-picture JPEG (MPO, gain maps) and HEIC files name a primary picture: it is
  read.
- *Orientation*: EXIF's is applied (in HEIF the file's own transforms, which overrule it).
- *Damage* that a decoder notices is refused, and so is a picture of which a part is missing (`completeness`);
  damage inside the coded data that still decodes cannot be seen.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import pi_heif
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from melascope.domain.image import RgbImage
from melascope.errors import (
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    UnreadablePathError,
    UnsupportedImageError,
)
from melascope.imaging import headers, heif
from melascope.imaging.completeness import check_complete
from melascope.imaging.headers import COPY_AGAIN, SAVE_AS, ImageFormat
from melascope.imaging.srgb import to_srgb


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLimits:
    """What is refused before a pixel is allocated. Decoding takes up to about 20 bytes of memory a pixel."""

    max_bytes: int = 64 * 1024 * 1024  #: of the file
    max_pixels: int = 50_000_000  #: width times height
    min_side_px: int = 28  #: the shorter side; the smallest input of any network
    max_aspect: float = 10.0  #: longer side over shorter side


DEFAULT_LIMITS = ImageLimits()

_READERS: dict[ImageFormat, Callable[[BytesIO], ImageFile.ImageFile]] = {
    ImageFormat.JPEG: JpegImageFile,
    ImageFormat.PNG: PngImageFile,
    ImageFormat.TIFF: TiffImageFile,
    ImageFormat.BMP: BmpImageFile,
    ImageFormat.WEBP: WebPImageFile,
}

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  #: ITU-T H.273, table 3
_SRGB_LIKE_PRIMARIES = {1, 2, 5, 6}  #: ITU-T H.273, table 2: BT.709, unspecified, BT.601

_SAVE_ONE = "Save the one picture that is meant."

_FILTERS_LOCK = threading.Lock()


def read_image(path: str | os.PathLike[str], *, limits: ImageLimits = DEFAULT_LIMITS) -> RgbImage:
    """Decode the image file at `path`.

    Reads at most one byte more than the limit, and regular files only: folders, pipes, sockets and devices
    are neither waited for nor read.

    Raises
    ------
    UnreadablePathError
        The path is absent, no regular file, or may not be read.
    ImageError
        As `decode_image`.
    """
    name = os.fspath(path)
    try:
        data = _read_regular(name, limits.max_bytes + 1)
    except ImageError as finding:
        raise _named(finding, name) from finding.__cause__
    return decode_image(data, name=name, limits=limits)


def decode_image(data: bytes, *, name: str, limits: ImageLimits = DEFAULT_LIMITS) -> RgbImage:
    """Decode the content of an image file. Thread-safe.

    Parameters
    ----------
    data
        The whole file.
    name
        For messages and the result; control characters are replaced.

    Returns
    -------
    RgbImage
        Upright sRGB, read-only pixels of shape (height, width, 3).

    Raises
    ------
    EmptyImageError
    NotAnImageError
        Not JPEG, PNG, TIFF, BMP, WebP or HEIF.
    TruncatedImageError
        The file ends early or its data is damaged.
    ImageTooLargeError, ImageTooSmallError
        Beyond `limits`.
    UnsupportedImageError
        Animated, multi-page, too narrow, wholly transparent, or of a pixel kind with no agreed meaning.
    """
    try:
        image_format, pixels_HWC = _decode(data, limits)
    except ImageError as finding:
        raise _named(finding, name) from finding.__cause__
    return RgbImage(
        pixels_HWC=pixels_HWC,
        name=_printable(name),
        format=image_format,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _named(finding: ImageError, name: str) -> ImageError:
    return type(finding)(f"{_printable(name)}: {finding.message}", remedy=finding.remedy)


def _printable(name: str) -> str:
    """Without what could steer a terminal or cannot be encoded (undecodable bytes of a file name)."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name
    )


# --- the file -----------------------------------------------------------------------------------------------


def _read_regular(path: str, max_bytes: int) -> bytes:
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise _no_file(mode)
            return file.read(max_bytes)
    except FileNotFoundError as fault:
        raise UnreadablePathError("there is no such file.", remedy="Check the path.") from fault
    except IsADirectoryError as fault:
        raise _no_file(stat.S_IFDIR) from fault
    except PermissionError as fault:
        raise UnreadablePathError("the file may not be read.", remedy="Change its permissions.") from fault
    except (OSError, ValueError) as fault:  # ValueError: a zero byte in the path
        reason = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
        raise UnreadablePathError(f"the file cannot be read ({reason}).", remedy="Check the path.") from fault


def _no_file(mode: int) -> UnreadablePathError:
    kind = "folder" if stat.S_ISDIR(mode) else "pipe, socket or device"
    return UnreadablePathError(f"this is a {kind}, not a file.", remedy="Give an image file.")


# --- the stages ---------------------------------------------------------------------------------------------


def _decode(data: bytes, limits: ImageLimits) -> tuple[ImageFormat, NDArray[np.uint8]]:
    if not data:
        raise EmptyImageError("the file is empty.", remedy=COPY_AGAIN)
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(
            f"the file has more than {limits.max_bytes} bytes.",
            remedy="Save it smaller, or raise max_bytes (--max-bytes).",
        )
    image_format = headers.sniff(data)
    headers.check(data, image_format)
    with _foreign(image_format):
        # No name here for the picture as it was read: `to_srgb` can then let go of it early.
        return image_format, np.asarray(to_srgb(_upright(data, image_format, limits)))


def _upright(data: bytes, image_format: ImageFormat, limits: ImageLimits) -> Image.Image:
    is_heif = image_format is ImageFormat.HEIF
    image = _read_heif(data, limits) if is_heif else _read(data, image_format, limits)
    _check_size(image.size, limits)  # HEIF and TIFF may turn out other than declared
    return image


def _check_size(size_px: tuple[int, int], limits: ImageLimits) -> None:
    width_px, height_px = size_px
    shown = f"{width_px} x {height_px} pixels"
    if width_px * height_px > limits.max_pixels:
        raise ImageTooLargeError(
            f"it has {shown}, more than {limits.max_pixels} in all.",
            remedy="Save it smaller, or raise max_pixels (--max-pixels).",
        )
    if min(size_px) < limits.min_side_px:
        raise ImageTooSmallError(
            f"it has {shown}.", remedy=f"Give a photograph of at least {limits.min_side_px} pixels a side."
        )
    if max(size_px) > limits.max_aspect * min(size_px):
        raise UnsupportedImageError(
            f"it has {shown}: one side is over {limits.max_aspect:g} times the other.",
            remedy="Crop it to the lesion.",
        )


@contextmanager
def _foreign(image_format: ImageFormat) -> Iterator[None]:
    """Turn whatever a foreign decoder raises into an ImageError.

    Pillow and pi_heif document no closed set: on damaged files they raise OSError, SyntaxError, ValueError,
    KeyError, IndexError, TypeError, struct.error, zlib.error, EOFError, OverflowError, RuntimeError, their
    own exceptions and more. This is the one place that catches `Exception`, around the stages that call them.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as fault:
        raise ImageTooLargeError("it does not fit into memory.", remedy="Save it smaller.") from fault
    except Exception as fault:
        reason = _reason(fault)
        if "MAX_TEXT" in reason:  # Pillow's limit, on compressed texts and colour profiles of a PNG
            raise UnsupportedImageError(
                "its metadata unpacks to more than is read.", remedy="Save it again without metadata."
            ) from fault
        if any(word in reason.lower() for word in ("limit", "too large")):
            raise ImageTooLargeError(f"it is too large{reason}.", remedy="Save it smaller.") from fault
        if any(word in reason.lower() for word in ("unsupported", "unknown pixel mode")):
            raise UnsupportedImageError(
                f"this kind of {image_format} is not read{reason}.", remedy=SAVE_AS
            ) from fault
        raise headers.damaged(f"the {image_format} data is damaged or ends early{reason}.") from fault


def _reason(fault: Exception) -> str:
    """A decoder's own words in brackets; nothing where it merely stumbled over the data."""
    stumbles = (struct.error, LookupError, TypeError, AttributeError, ArithmeticError)
    lines = str(fault).strip().splitlines()
    if not lines or any(isinstance(part, stumbles) for part in (fault, *fault.args)):  # Pillow wraps some
        return ""
    return f" ({_printable(lines[0][:160])})"


@contextmanager
def _pillow_warnings(action: Literal["error", "ignore"]) -> Iterator[None]:
    """Treat what Pillow warns of in a TIFF or EXIF directory or an APNG header as `action` says.

    Python keeps warning filters per process, hence the lock; it is held for headers and TIFF only.
    """
    with _FILTERS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings(action, category=UserWarning, module=r"PIL\.")
        # More values than expected are no damage: the first one is used.
        warnings.filterwarnings("ignore", message="Metadata Warning", category=UserWarning)
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our own limit holds
        yield


def _read(data: bytes, image_format: ImageFormat, limits: ImageLimits) -> Image.Image:
    """Open by the format's own reader, check, load the pixels, turn upright."""
    if image_format is ImageFormat.WEBP:
        _check_size(headers.webp_size_px(data), limits)
    is_tiff = image_format is ImageFormat.TIFF
    with _pillow_warnings("error" if is_tiff else "ignore"):
        image = _READERS[image_format](BytesIO(data))
    _check_size(image.size, limits)
    if getattr(image, "is_animated", False):
        kind = "several pages" if is_tiff else "an animation"
        raise UnsupportedImageError(f"it holds {kind}.", remedy=_SAVE_ONE)
    if is_tiff:
        with _pillow_warnings("ignore"):  # of sub-directories, which are not used
            image.load()  # Pillow applies a TIFF file's orientation itself
        return image
    image.load()
    if image_format is ImageFormat.WEBP:  # what the decoder still holds is three times the picture
        image.fp = None
        vars(image).pop("_decoder", None)
    check_complete(image, data, image_format)
    transposition = _TRANSPOSITIONS.get(headers.exif_orientation(image.info.get("exif", b"")))
    return image.transpose(transposition) if transposition is not None else image


def _read_heif(data: bytes, limits: ImageLimits) -> Image.Image:
    if data[8:12] in (b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"):
        raise UnsupportedImageError("it holds an image sequence.", remedy=_SAVE_ONE)
    _check_size(heif.coded_size_px(data), limits)
    primary = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
    _check_size(primary.size, limits)
    coding = primary.info.get("nclx_profile") or {}
    if (transfer := _HDR_TRANSFERS.get(coding.get("transfer_characteristics", 2))) is not None:
        raise UnsupportedImageError(f"it is a high-dynamic-range picture ({transfer}).", remedy=SAVE_AS)
    if coding.get("color_primaries", 1) not in _SRGB_LIKE_PRIMARIES:
        raise UnsupportedImageError(
            f"its colours are of a wide gamut without a profile (primaries {coding['color_primaries']}).",
            remedy=SAVE_AS,
        )
    image: Image.Image = primary.to_pillow()
    return image
