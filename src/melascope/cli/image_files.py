"""The image files that a path on the command line means, and names fit for a terminal and a spreadsheet."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from melascope.errors import UsageError

if TYPE_CHECKING:
    from melascope.domain.case import Case
    from melascope.domain.image import RgbImage
    from melascope.imaging.decode import ImageLimits

_FORMULA = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@＝＋－＠])")

#: What is taken from a folder; a file that is named itself is always taken.
IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".tif",
        ".tiff",
        ".bmp",
        ".webp",
        ".heic",
        ".heif",
        ".gif",
        ".avif",
    )
)
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundImages:
    """What `find_images` found, each sorted within its folder."""

    images: tuple[Path, ...]
    left_out: tuple[Path, ...]  #: files of folders that are hidden or not named as images


def find_images(paths: Iterable[Path]) -> FoundImages:
    """Files as they are named, and below each folder every file with the suffix of an image.

    Folders are walked in depth and in sorted order, hidden ones included in what is left out; links to
    folders are not followed. A folder that cannot be listed, or a path that does not exist, is returned
    as an image: reading it says what is wrong.

    Raises
    ------
    UsageError
        There is no image at all.
    """
    images: dict[Path, None] = {}
    left_out: list[Path] = []
    for path in paths:
        if not path.is_dir():
            images[path] = None
            continue
        for folder, subfolders, files in os.walk(
            path, onerror=lambda fault: images.update({Path(fault.filename): None})
        ):
            left_out += [Path(folder, name) for name in sorted(subfolders) if name.startswith(".")]
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in sorted(files):
                file = Path(folder, name)
                if not name.startswith(".") and file.suffix.lower() in IMAGE_SUFFIXES:
                    images[file] = None
                else:
                    left_out.append(file)
    if not images:
        raise UsageError(
            f"There is no image in {', '.join(printable(path) for path in paths)}.",
            remedy=f"In a folder, files ending in {', '.join(sorted(IMAGE_SUFFIXES))} are taken; "
            "name a file itself to have it read whatever it is called.",
        )
    return FoundImages(images=tuple(images), left_out=tuple(left_out))


def tell_left_out(found: FoundImages) -> None:
    """Say on stderr which files of the folders were left out."""
    if found.left_out:
        shown = ", ".join(printable(path) for path in found.left_out[:_SHOWN])
        more = ", ..." if len(found.left_out) > _SHOWN else ""
        click.echo(
            f"melascope: left out {len(found.left_out)} hidden or not named as images: {shown}{more}",
            err=True,
        )


def load_case(case: Case, limits: ImageLimits) -> RgbImage:
    """The photograph of a case, from a file or an HDF5 container.

    Raises
    ------
    MelascopeError
        It cannot be read.
    """
    from melascope.datasets.files import open_case_bytes, split_reference
    from melascope.imaging.decode import decode_image, read_image

    file, item = split_reference(case.path)
    if item is None:
        return read_image(file, limits=limits)
    return decode_image(open_case_bytes(case.path), name=printable(case.path), limits=limits)


def printable(text: object) -> str:
    """Text with what would move a cursor, break a line or not encode written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def spreadsheet_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula, by an apostrophe (OWASP, "CSV injection").

    At its start, or behind what some take for the next cell's; as `web/static/export.js` does.
    """
    return _FORMULA.sub(r"\1'", text)
