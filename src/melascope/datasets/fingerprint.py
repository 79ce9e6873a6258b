"""A small grey picture and a perceptual hash of each image, by which copies of a photograph are found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from melascope.datasets.files import open_case_bytes
from melascope.domain.case import Case
from melascope.errors import DatasetError, ImageError
from melascope.imaging.decode import decode_image

THUMB_PX = 64
HASH_SIDE = 16
HASH_BITS = HASH_SIDE**2
#: The eight ways to lay a picture: quarter turns, and each mirrored.
ORIENTATIONS = range(8)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fingerprints:
    """What is kept of n readable images; the unreadable ones by name."""

    image_ids: tuple[str, ...]
    thumbs_NHW: NDArray[np.uint8]  #: grey, shape (n, 64, 64), whatever the image's aspect
    hashes_NOW: NDArray[np.uint64]  #: 256 bits of each orientation, shape (n, 8, 4)
    sha256: tuple[str, ...]  #: of the files, as read now
    unreadable: dict[str, str]  #: image_id -> what is wrong with the file


def fingerprint_cases(cases: Sequence[Case], *, progress: Callable[[int, int], None]) -> Fingerprints:
    """Read every image once.

    Parameters
    ----------
    progress
        Called with (images done, images in all).
    """
    image_ids: list[str] = []
    digests: list[str] = []
    unreadable: dict[str, str] = {}
    thumbs_NHW = np.empty((len(cases), THUMB_PX, THUMB_PX), np.uint8)
    hashes_NOW = np.empty((len(cases), len(ORIENTATIONS), HASH_BITS // 64), np.uint64)
    for done, case in enumerate(cases, start=1):
        try:
            data = open_case_bytes(case.path)
            thumb = thumbnail(data, name=case.path)
        except (ImageError, DatasetError) as error:
            unreadable[case.image_id] = error.message
        else:
            row = len(image_ids)
            thumbs_NHW[row] = thumb
            hashes_NOW[row] = [perceptual_hash(oriented(thumb, k)) for k in ORIENTATIONS]
            image_ids.append(case.image_id)
            digests.append(hashlib.sha256(data).hexdigest())
        progress(done, len(cases))
    return Fingerprints(
        image_ids=tuple(image_ids),
        thumbs_NHW=thumbs_NHW[: len(image_ids)],
        hashes_NOW=hashes_NOW[: len(image_ids)],
        sha256=tuple(digests),
        unreadable=unreadable,
    )


def thumbnail(data: bytes, *, name: str) -> NDArray[np.uint8]:
    """The picture in grey, averaged down to shape (64, 64).

    Raises
    ------
    ImageError
        The bytes are no readable image.
    """
    image = Image.fromarray(decode_image(data, name=name).pixels_HWC).convert("L")
    return np.asarray(image.resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX))


def perceptual_hash(thumb_HW: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Signs of the lowest 16 x 16 DCT coefficients about their median (`imagehash.phash`), in four words."""
    bits = imagehash.phash(Image.fromarray(thumb_HW), hash_size=HASH_SIDE).hash
    return np.packbits(bits).view(np.uint64)


def oriented(picture_HW: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The picture after `orientation % 4` quarter turns, mirrored for 4 to 7."""
    turned = np.rot90(picture_HW, orientation % 4)
    return np.ascontiguousarray(turned[:, ::-1] if orientation >= 4 else turned)
