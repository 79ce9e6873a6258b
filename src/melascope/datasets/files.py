"""The bytes behind the path of a case: a file, or an item of an HDF5 or NumPy archive (`archive#item`)."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from melascope.errors import DatasetError, UnreadablePathError

_HDF5 = (".hdf5", ".h5")
_NPZ = (".npz",)
_NPZ_LOCK = threading.Lock()


def split_reference(path: str) -> tuple[str, str | None]:
    """File and item of `archive.hdf5#item` or `archive.npz#part/row`; no item for an ordinary file."""
    file, mark, item = path.rpartition("#")
    if mark and file.lower().endswith(_HDF5 + _NPZ):
        return file, item
    return path, None


def open_case_bytes(path: str) -> bytes:
    """The encoded image that a case's path names.

    An ordinary file is read as it is. `x.hdf5#KEY` is the data set KEY, which holds an encoded image (as in
    ISIC 2024).
    `x.npz#PART/ROW` is row ROW of the array `PART_images` (MedMNIST) as BMP, which loses nothing and,
    unlike PNG, is the same bytes with every version of the encoder.

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
    try:
        archive = _open_hdf5(file, os.stat(file).st_mtime_ns, os.getpid())
        if item not in archive:
            raise DatasetError(f"{file}: holds no image {item!r}.", remedy="Import the dataset again.")
        return bytes(np.asarray(archive[item][()]).tobytes())
    except OSError as fault:
        raise DatasetError(
            f"{file}: is no readable HDF5 file ({fault}).", remedy="Download it again."
        ) from fault


@lru_cache(maxsize=4)
def _open_hdf5(file: str, _mtime_ns: int, _pid: int) -> Any:
    """An open archive, kept for the many items read from it; a forked process opens its own."""
    import h5py

    return h5py.File(file, "r")


def _npz_item(file: str, item: str) -> bytes:
    part, _, row = item.partition("/")
    with _NPZ_LOCK:
        images = _npz_images(file, part, os.stat(file).st_mtime_ns)
    if not (row.isdecimal() and int(row) < len(images)):
        raise DatasetError(
            f"{file}: part {part!r} has {len(images)} images, no row {row!r}.",
            remedy="Import the dataset again.",
        )
    encoded = io.BytesIO()
    Image.fromarray(images[int(row)]).save(encoded, format="BMP")
    return encoded.getvalue()


@lru_cache(maxsize=3)
def _npz_images(file: str, part: str, _mtime_ns: int) -> NDArray[np.uint8]:
    return read_npz_array(file, f"{part}_images")


def read_npz_array(file: str, name: str) -> NDArray[np.uint8]:
    """One array of an npz file, unpacked whole (a compressed array cannot be read in part).

    Raises
    ------
    DatasetError
        The file is damaged or has no such array.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return np.asarray(archive[name], dtype=np.uint8)
    except KeyError:
        raise DatasetError(f"{file}: holds no array {name}.", remedy="Name a MedMNIST file.") from None
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as fault:
        raise DatasetError(
            f"{file}: is no readable npz file ({fault}).", remedy="Download it again."
        ) from fault
