"""Which bundles there are, and which one answers.

Bundles come embedded in the package, or lie in the user's own folder: `MELASCOPE_BUNDLES`, else the
platform's data folder. The one that answers is named by, in this order: the caller (`--bundle`), the
environment variable `MELASCOPE_BUNDLE`, the choice made with `melascope bundle use`, the embedded
default.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from melascope.bundle.manifest import Manifest
from melascope.bundle.store import Bundle, pack, read_bundle, read_manifest
from melascope.errors import BundleError

DEFAULT_NAME = "melascope-small"
FOLDER_VARIABLE, BUNDLE_VARIABLE = "MELASCOPE_BUNDLES", "MELASCOPE_BUNDLE"

_CHOICE = "active"  # in the user's folder: one line, an id or an absolute path


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One bundle of the catalogue."""

    path: Path
    origin: str  #: "embedded" or "user"
    manifest: Manifest | None  #: None where it cannot be read
    fault: str | None = None  #: why it cannot be read


@dataclass(frozen=True, kw_only=True, slots=True)
class Active:
    """The bundle that answers, and who said so."""

    reference: str  #: a name, an id or a path
    chosen_by: str


def embedded_folder() -> Path:
    """The package's own bundles."""
    return Path(str(resources.files("melascope.bundle") / "bundles"))


def user_folder() -> Path:
    """The user's bundles: `MELASCOPE_BUNDLES`, else the data folder of the platform; it may not exist yet."""
    if stated := os.environ.get(FOLDER_VARIABLE):
        return Path(stated)
    home = Path.home()
    match sys.platform:
        case "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
        case "darwin":
            base = home / "Library" / "Application Support"
        case _:
            base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "melascope" / "bundles"


def list_bundles() -> list[Listed]:
    """Embedded bundles, then the user's, each in the order of their file names; damaged ones included."""
    return [*_listed(embedded_folder(), "embedded"), *_listed(user_folder(), "user")]


def find(reference: str) -> Path:
    """The path of the bundle that a name, an id (name@digest) or a path means.

    Raises
    ------
    BundleError
        Nothing of that name, or several bundles of it.
    """
    listed = list_bundles()
    matches = {
        entry.manifest.id: entry.path
        for entry in listed
        if entry.manifest is not None and reference in (entry.manifest.id, entry.manifest.name)
    }
    if len(matches) > 1:
        raise BundleError(
            f"{len(matches)} bundles are called {reference!r}.",
            remedy=f"Name one of {', '.join(sorted(matches))}.",
        )
    if matches:
        return next(iter(matches.values()))
    if os.path.lexists(reference):
        return Path(reference)
    if reference == DEFAULT_NAME:
        raise BundleError(
            f"This installation has no bundle {DEFAULT_NAME!r}.",
            remedy="Make one with `melascope train` and `melascope export`, or get one; "
            "then name it with --bundle PATH, or with `melascope bundle install` and `melascope bundle use`.",
        )
    damaged = [f"{entry.path} ({entry.fault})" for entry in listed if entry.fault]
    raise BundleError(
        f"There is no bundle {reference!r}."
        + (f" These could not be read: {'; '.join(damaged)}" if damaged else ""),
        remedy="`melascope bundle list` shows those there are; a path to a bundle does as well.",
    )


def active(option: str | None = None) -> Active:
    """The reference of the bundle that answers, and who said so.

    Parameters
    ----------
    option
        What the caller asks for; it wins over everything.
    """
    if option:
        return Active(reference=option, chosen_by="the caller")
    if stated := os.environ.get(BUNDLE_VARIABLE):
        return Active(reference=stated, chosen_by=f"the environment variable {BUNDLE_VARIABLE}")
    try:
        choice = (user_folder() / _CHOICE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        choice = ""
    except (OSError, UnicodeDecodeError) as fault:
        raise BundleError(
            f"{user_folder() / _CHOICE}: the chosen bundle cannot be read ({fault}).",
            remedy="Choose again with `melascope bundle use NAME`.",
        ) from fault
    if choice:
        return Active(reference=choice, chosen_by="`melascope bundle use`")
    return Active(reference=DEFAULT_NAME, chosen_by="nobody: it is the default")


def load_bundle(reference: str | os.PathLike[str] | None = None) -> Bundle:
    """Read and verify a bundle.

    Parameters
    ----------
    reference
        A name, an id (name@digest) or a path; None: the one that `active` names.

    Raises
    ------
    BundleError
        Nothing of that name, or a bundle that does not verify.
    """
    chosen = active(os.fspath(reference) if reference is not None else None)
    try:
        return read_bundle(find(chosen.reference))
    except BundleError as fault:
        if reference is not None or chosen.reference == DEFAULT_NAME:
            raise
        raise BundleError(
            f"{fault.message} It was chosen by {chosen.chosen_by}.",
            remedy=f"{fault.remedy} Or choose another with `melascope bundle use NAME`.",
        ) from fault


def use(reference: str) -> Bundle:
    """Remember the bundle that answers from now on: its exact id, or the path where it lies.

    Raises
    ------
    BundleError
        Nothing of that name, a bundle that does not verify, or a folder that cannot be written.
    """
    path = find(reference)
    bundle = read_bundle(path)
    catalogued = path in {entry.path for entry in list_bundles()}
    _write_choice(bundle.id if catalogued else str(path.resolve()))
    return bundle


def install(path: Path) -> Path:
    """Copy a verified bundle into the user's folder, under its id; returns where it lies now.

    Raises
    ------
    BundleError
        It does not verify, or the folder cannot be written.
    """
    destination = user_folder() / f"{read_bundle(path).id}.zip"
    pack(path, destination)
    return destination


def _listed(folder: Path, origin: str) -> Iterator[Listed]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.suffix == ".zip" or path.is_dir()):
            continue
        try:
            yield Listed(path=path, origin=origin, manifest=read_manifest(path))
        except BundleError as fault:
            yield Listed(path=path, origin=origin, manifest=None, fault=fault.message)


def _write_choice(choice: str) -> None:
    folder = user_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=folder, prefix=f".{_CHOICE}")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(choice + "\n")
        os.replace(partial, folder / _CHOICE)
    except OSError as fault:
        raise BundleError(
            f"{folder}: the choice cannot be saved ({fault.strerror or fault}).",
            remedy=f"Set {FOLDER_VARIABLE} to a folder of yours, or {BUNDLE_VARIABLE} to the bundle.",
        ) from fault
