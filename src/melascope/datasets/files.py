"""The bytes behind the path of a case: a file, or an item inside an HDF5 or NumPy archive (`archive#item`)."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from melascope.errors import DatasetError, UnreadablePathError

_HDF5 = (".hdf5", ".h5")
_NPZ = (".npz",)


def split_reference(path: str) -> tuple[str, str | None]:
    """File and item of `archive.hdf5#item` or `archive.npz#part/row`; the item is None for an ordinary file."""
    file, mark, item = path.rpartition("#")
    if mark and file.lower().endswith(_HDF5 + _NPZ):
        return file, item
    return path, None


def open_case_bytes(path: str) -> bytes:
    """The encoded image that a case's path names.

    An ordinary file is read as it is. `x.hdf5#KEY` is the data set KEY, which holds an encoded image (ISIC 2024).
    `x.npz#PART/ROW` is row ROW of the array `PART_images` (MedMNIST), encoded as PNG, which loses nothing.

    Raises
    ------
    UnreadablePathError
        The file is absent, a folder or not readable.
    DatasetError
        The archive is damaged or lacks the item.
    """
    file, item = split_reference(path)
    if not os.path.isfile(file):
        raise UnreadablePathError(
            f"{file}: there is no such file.", remedy="Check the path column of the case table."
        )
    if item is None:
        try:
            return Path(file).read_bytes()
        except OSError as fault:
            raise UnreadablePathError(f"{file}: cannot be read ({fault.strerror}).") from fault
    if file.lower().endswith(_HDF5):
        return _hdf5_item(file, item)
    return _npz_item(file, item)


def sha256_of(paths: Sequence[str], *, threads: int = 2) -> list[str]:
    """Hex SHA-256 of each path's bytes (see `open_case_bytes`), in order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(
            pool.map(lambda path: hashlib.sha256(open_case_bytes(path)).hexdigest(), paths, chunksize=64)
        )


def _hdf5_item(file: str, item: str) -> bytes:
    import h5py

    try:
        with h5py.File(file, "r") as archive:
            if item not in archive:
                raise DatasetError(f"{file}: holds no image {item!r}.", remedy="Import the dataset again.")
            return bytes(np.asarray(archive[item][()]).tobytes())
    except OSError as fault:
        raise DatasetError(
            f"{file}: is no readable HDF5 file ({fault}).", remedy="Download it again."
        ) from fault


def _npz_item(file: str, item: str) -> bytes:
    part, _, row = item.partition("/")
    images = _npz_images(file, part, os.stat(file).st_mtime_ns)
    if not (row.isdecimal() and int(row) < len(images)):
        raise DatasetError(
            f"{file}: part {part!r} has {len(images)} images, no row {row!r}.",
            remedy="Import the dataset again.",
        )
    encoded = io.BytesIO()
    Image.fromarray(images[int(row)]).save(encoded, format="PNG", compress_level=1)
    return encoded.getvalue()


@lru_cache(maxsize=3)
def _npz_images(file: str, part: str, _mtime_ns: int) -> NDArray[np.uint8]:
    """The array of one part, kept: a compressed array can only be unpacked whole."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return np.asarray(archive[f"{part}_images"], dtype=np.uint8)
    except KeyError:
        raise DatasetError(f"{file}: holds no array {part}_images.", remedy="Name a MedMNIST file.") from None
    except (OSError, ValueError, zipfile.BadZipFile) as fault:
        raise DatasetError(
            f"{file}: is no readable npz file ({fault}).", remedy="Download it again."
        ) from fault
