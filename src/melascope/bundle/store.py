"""A bundle on disk: a folder or one zip. Reading verifies everything; writing is all or nothing.

The files, and no others: `manifest.json`, `model.onnx`, `reference.npz`, `MODEL_CARD.md`. None of them is
code and none is unpickled. Every byte is hashed before it is used, and the bundle's id is a digest of the
manifest, which lists the hashes: an id names one exact content.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from melascope.bundle.container import MAX_BYTES, ZIP_FAULTS, read_container
from melascope.bundle.manifest import SCHEMA_VERSION, FileEntry, Manifest
from melascope.errors import BundleError, UsageError

MANIFEST, MODEL, REFERENCE, CARD = "manifest.json", "model.onnx", "reference.npz", "MODEL_CARD.md"
#: Classifier weights in `reference.npz`, shape (classes, features): what the heatmap is computed with.
CAM_WEIGHT = "cam_weight_KF"

_COPY_AGAIN = "Get the bundle again from where it came from."
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can state: equal content gives equal bytes
_MAX_REFERENCE_BYTES = 1 << 30  # of its arrays, unpacked


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bundle:
    """A verified bundle, read into memory."""

    manifest: Manifest
    model: bytes  #: ONNX: `pixels` (N,C,S,S) to `logits` (N,K), `embedding` (N,E), `features` (N,F,h,w)
    reference: Mapping[str, NDArray[np.generic]]  #: read-only arrays; `cam_weight_KF` is among them
    card: str  #: the model card, Markdown

    @property
    def id(self) -> str:
        """name@digest: names one exact content."""
        return self.manifest.id


def bundle_id(name: str, manifest_without_id: Mapping[str, object]) -> str:
    """`name@` and the first 12 hex digits of the SHA-256 of the manifest as canonical JSON.

    Parameters
    ----------
    name
        The bundle's name.
    manifest_without_id
        The manifest's JSON object, without `id`. Canonical means: sorted keys, no spaces, UTF-8.
    """
    canonical = json.dumps(
        manifest_without_id, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return f"{name}@{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and verify it: its container, its manifest, its id, the hash of each file, its arrays.

    Raises
    ------
    BundleError
        Absent, incomplete, altered, of an unknown schema version, or holding what a bundle may not hold.
    """
    contents = read_container(path, wanted=(MANIFEST, MODEL, REFERENCE, CARD))
    manifest = _parse_manifest(contents.pop(MANIFEST), path)
    if set(manifest.files) != set(contents):
        raise BundleError(
            f"{path}: the manifest lists {', '.join(sorted(manifest.files))}.",
            remedy=f"A bundle holds {', '.join(sorted(contents))} beside its manifest.",
        )
    for name, data in contents.items():
        if _entry(data) != manifest.files[name]:
            raise BundleError(
                f"{path}: {name} was altered: it differs from its SHA-256 sum.", remedy=_COPY_AGAIN
            )
    try:
        card = contents[CARD].decode()
    except UnicodeDecodeError as fault:
        raise BundleError(f"{path}: {CARD} is not UTF-8 ({fault}).", remedy=_COPY_AGAIN) from None
    return Bundle(
        manifest=manifest,
        model=contents[MODEL],
        reference=_parse_reference(contents[REFERENCE], path, n_classes=len(manifest.classes)),
        card=card,
    )


def read_manifest(path: Path) -> Manifest:
    """Read a bundle's manifest alone, for a list of bundles: its own id is verified, the other files are not.

    Raises
    ------
    BundleError
        As `read_bundle`, short of the hashes of the other files.
    """
    return _parse_manifest(read_container(path, wanted=(MANIFEST,))[MANIFEST], path)


def reference_bytes(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """`reference.npz` of these arrays; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    # Not `np.savez(**arrays)`: an array named "file" would clash with its argument.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(arrays[name]), allow_pickle=False)
    return buffer.getvalue()


def write_bundle(
    destination: Path, manifest_fields: Mapping[str, object], files: Mapping[str, bytes]
) -> Bundle:
    """Write a bundle, whole or not at all, and read it back verified.

    Parameters
    ----------
    destination
        A name that ends in `.zip` gives one file, which replaces an older one and depends on nothing but the
        content; any other gives a folder, which must not exist yet.
    manifest_fields
        The manifest without `schema_version`, `id` and `files`, which are filled in here.
    files
        The bytes of `model.onnx`, `reference.npz` (see `reference_bytes`) and `MODEL_CARD.md`.

    Raises
    ------
    BundleError
        Fields that the manifest refuses, a missing or surplus file, a destination that cannot be written.
    """
    if set(files) != {MODEL, REFERENCE, CARD}:
        raise BundleError(
            f"{destination}: given the files {', '.join(sorted(files)) or 'none'}.",
            remedy=f"Give {MODEL}, {REFERENCE} and {CARD}.",
        )
    for name, data in files.items():
        if len(data) > MAX_BYTES[name]:
            raise BundleError(
                f"{destination}: {name} has {len(data)} bytes.",
                remedy=f"At most {MAX_BYTES[name]} are read back.",
            )
    contents = {MANIFEST: _manifest_bytes(destination, manifest_fields, files), **files}
    folder = destination.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if destination.suffix.lower() == ".zip":
            _write_zip(destination, contents)
        else:
            _write_folder(destination, contents)
    except OSError as fault:
        raise BundleError(
            f"{destination}: the bundle cannot be written ({fault.strerror or fault}).",
            remedy="Choose a folder of yours with enough space, and a name that is not taken.",
        ) from fault
    return read_bundle(destination)


def pack(bundle_path: Path, destination: Path) -> Bundle:
    """Copy a bundle, verified, byte for byte of its files, into the zip `destination`.

    Raises
    ------
    BundleError
        As `read_bundle`; or the destination cannot be written.
    """
    read_bundle(bundle_path)
    contents = read_container(bundle_path, wanted=(MANIFEST, MODEL, REFERENCE, CARD))
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _write_zip(destination, contents)
    except OSError as fault:
        raise BundleError(
            f"{destination}: the bundle cannot be written ({fault.strerror or fault}).",
            remedy="Choose a folder of yours with enough space.",
        ) from fault
    return read_bundle(destination)


def _entry(data: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _manifest_bytes(destination: Path, fields: Mapping[str, object], files: Mapping[str, bytes]) -> bytes:
    name = str(fields.get("name"))
    try:
        manifest = Manifest.model_validate(
            {
                **fields,
                "schema_version": SCHEMA_VERSION,
                "id": f"{name}@{'0' * 12}",
                "files": {file: _entry(data) for file, data in sorted(files.items())},
            }
        )
    except (ValidationError, UsageError) as fault:
        raise BundleError(
            f"{destination}: the manifest is not valid: {_first_fault(fault)}.", remedy="Mend that field."
        ) from fault
    raw = manifest.model_dump(mode="json", exclude={"id"})
    raw["id"] = bundle_id(name, raw)
    return (json.dumps(raw, indent=2, ensure_ascii=False) + "\n").encode()


def _parse_manifest(data: bytes, path: Path) -> Manifest:
    try:
        raw = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as fault:
        raise BundleError(f"{path}: {MANIFEST} is not JSON ({fault}).", remedy=_COPY_AGAIN) from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path}: the bundle has the schema version {version!r}; this melascope reads {SCHEMA_VERSION}.",
            remedy="Update melascope, or get a bundle made for this version.",
        )
    try:
        manifest = Manifest.model_validate(raw)
    except (ValidationError, UsageError) as fault:
        raise BundleError(
            f"{path}: {MANIFEST} is not valid: {_first_fault(fault)}.", remedy=_COPY_AGAIN
        ) from fault
    expected = bundle_id(manifest.name, {key: value for key, value in raw.items() if key != "id"})
    if manifest.id != expected:
        raise BundleError(
            f"{path}: {MANIFEST} was altered: it says it is {manifest.id}, its content is {expected}.",
            remedy=_COPY_AGAIN,
        )
    return manifest


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _first_fault(fault: ValidationError | UsageError) -> str:
    if isinstance(fault, UsageError):
        return fault.message.rstrip(".")
    first = fault.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"


def _parse_reference(data: bytes, path: Path, *, n_classes: int) -> Mapping[str, NDArray[np.generic]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked_bytes = sum(member.file_size for member in archive.infolist())
        if unpacked_bytes > _MAX_REFERENCE_BYTES:
            raise BundleError(
                f"{path}: the arrays of {REFERENCE} take {unpacked_bytes} bytes.",
                remedy=f"At most {_MAX_REFERENCE_BYTES} are read.",
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            arrays = {name: np.asarray(loaded[name]) for name in loaded.files}
    except (*ZIP_FAULTS, OSError, MemoryError) as fault:
        raise BundleError(
            f"{path}: {REFERENCE} cannot be read ({fault}).",
            remedy="It must be a NumPy archive of plain arrays; pickled objects are never loaded.",
        ) from fault
    cam_weight = arrays.get(CAM_WEIGHT)
    if (
        cam_weight is None
        or cam_weight.ndim != 2
        or len(cam_weight) != n_classes
        or cam_weight.dtype.kind != "f"
    ):
        found = "none" if cam_weight is None else f"{cam_weight.dtype} of shape {cam_weight.shape}"
        raise BundleError(
            f"{path}: {REFERENCE} holds {found} as {CAM_WEIGHT}.",
            remedy=f"It must be floating-point of shape ({n_classes} classes, features).",
        )
    for array in arrays.values():
        array.flags.writeable = False
    return MappingProxyType(arrays)


def _write_zip(destination: Path, contents: Mapping[str, bytes]) -> None:
    handle, partial = tempfile.mkstemp(dir=destination.resolve().parent, prefix=".", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in contents.items():
                info = zipfile.ZipInfo(name, _ZIP_TIME)
                info.create_system = 3  # Unix, wherever it is written
                info.external_attr = 0o644 << 16
                archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        os.chmod(partial, 0o644)
        os.replace(partial, destination)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _write_folder(destination: Path, contents: Mapping[str, bytes]) -> None:
    if destination.exists():
        raise FileExistsError(17, "the folder exists")
    partial = Path(tempfile.mkdtemp(dir=destination.resolve().parent, prefix=".", suffix=".partial"))
    try:
        for name, data in contents.items():
            (partial / name).write_bytes(data)
        partial.chmod(0o755)
        partial.rename(destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
