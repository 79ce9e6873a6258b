"""The bytes of a bundle's files, out of a folder or a zip that nobody trusts yet.

Refused: a missing or surplus file, names that leave the folder, symbolic links and other special files,
encrypted or repeated members, members larger than the limits or packed beyond reason. A name found in the
container is never used as a path.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from melascope.errors import BundleError

_MIB = 1 << 20
#: The most that is read of each file, packed and unpacked.
MAX_BYTES = {
    "manifest.json": 4 * _MIB,
    "model.onnx": 1024 * _MIB,
    "reference.npz": 512 * _MIB,
    "MODEL_CARD.md": 4 * _MIB,
}
#: Weights hardly compress; what unpacks to so many times its size, and is large, is a zip bomb.
_MAX_RATIO, _RATIO_FROM_BYTES = 100, 64 * _MIB

#: What `zipfile` raises on damaged or unusual archives, by NotImplementedError and UnicodeDecodeError too.
ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)

_REMEDY = f"A bundle holds exactly {', '.join(MAX_BYTES)}; get it again from where it came from."


def read_container(path: Path, *, wanted: Iterable[str]) -> dict[str, bytes]:
    """The bytes of the `wanted` files, after the container as a whole was checked.

    Raises
    ------
    BundleError
        `path` is absent or unreadable, or the container holds what a bundle may not hold.
    """
    try:
        if path.is_dir():
            return _read_folder(path, wanted)
        _check_file(path)
        with zipfile.ZipFile(path) as archive:
            return _read_zip(path, archive, wanted)
    except FileNotFoundError:
        raise BundleError(
            f"{path}: there is no such bundle.", remedy="`melascope bundle list` shows those there are."
        ) from None
    except ZIP_FAULTS as fault:
        raise BundleError(f"{path}: not a zip file, or a damaged one ({fault}).", remedy=_REMEDY) from fault
    except OSError as fault:
        raise BundleError(
            f"{path}: the bundle cannot be read ({fault.strerror or fault}).",
            remedy="Check the path and its rights.",
        ) from fault


def _check_file(path: Path) -> None:
    """Before it is opened: a pipe would be waited for, and a device be read for ever."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{path}: neither a folder nor a plain file.", remedy=_REMEDY)
    most = sum(MAX_BYTES.values()) + _MIB  # what a zip adds is little
    if found.st_size > most:
        raise BundleError(f"{path}: it has {found.st_size} bytes; at most {most} are read.", remedy=_REMEDY)


def _check_names(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            raise BundleError(f"{path}: the file name {name!r} leads out of the bundle.", remedy=_REMEDY)
        if name not in MAX_BYTES:
            raise BundleError(f"{path}: the file {name!r} does not belong in a bundle.", remedy=_REMEDY)
        if names.count(name) > 1:
            raise BundleError(f"{path}: the file {name!r} is in it twice.", remedy=_REMEDY)
    for name in MAX_BYTES:
        if name not in names:
            raise BundleError(f"{path}: the file {name!r} is missing.", remedy=_REMEDY)


def _check_size(path: Path, name: str, size_bytes: int) -> None:
    if size_bytes > MAX_BYTES[name]:
        raise BundleError(
            f"{path}: {name} has {size_bytes} bytes; at most {MAX_BYTES[name]} are read.", remedy=_REMEDY
        )


def _read_folder(path: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    entries = list(os.scandir(path))
    for entry in entries:
        if entry.is_symlink():
            raise BundleError(f"{path}: {entry.name!r} is a symbolic link.", remedy=_REMEDY)
    _check_names(path, [entry.name for entry in entries])
    for entry in entries:
        if not entry.is_file(follow_symlinks=False):
            raise BundleError(f"{path}: {entry.name!r} is not a plain file.", remedy=_REMEDY)
        _check_size(path, entry.name, entry.stat(follow_symlinks=False).st_size)
    return {name: _read_file(path, name) for name in wanted}


def _read_file(path: Path, name: str) -> bytes:
    with (path / name).open("rb") as file:
        data = file.read(MAX_BYTES[name] + 1)
    _check_size(path, name, len(data))
    return data


def _read_zip(path: Path, archive: zipfile.ZipFile, wanted: Iterable[str]) -> dict[str, bytes]:
    members = archive.infolist()
    for member in members:
        mode = member.external_attr >> 16
        if stat.S_ISLNK(mode):
            raise BundleError(f"{path}: {member.filename!r} is a symbolic link.", remedy=_REMEDY)
    _check_names(path, [member.orig_filename for member in members])
    for member in members:
        _check_size(path, member.filename, member.file_size)
        packed_beyond_reason = member.file_size > _MAX_RATIO * max(1, member.compress_size)
        if packed_beyond_reason and member.file_size > _RATIO_FROM_BYTES:
            raise BundleError(
                f"{path}: {member.filename} unpacks from {member.compress_size} to {member.file_size} bytes.",
                remedy=_REMEDY,
            )
        if member.flag_bits & 0x1:
            raise BundleError(f"{path}: {member.filename} is encrypted.", remedy=_REMEDY)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"{path}: {member.filename} is packed in an unusual way.", remedy=_REMEDY)
    return {name: archive.read(name) for name in wanted}
