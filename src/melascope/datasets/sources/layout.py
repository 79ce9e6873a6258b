"""What the readers of published datasets share: finding label files and images, reading rows."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import DatasetError, TableError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_NO_PHOTOGRAPHS = ("segmentation", "superpixel", "mask")
_UNKNOWN_WORDS = {"", "na", "n/a", "nan", "none", "unknown"}

#: Cell of a label column -> diagnosis, and melanoma where the diagnosis is UNK (None: not known either).
Mapped = tuple[Diagnosis, bool | None]
MappingTable = Mapping[str, Mapped]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A published dataset: its licence, its paper, its layout, and the function that reads it."""

    name: str
    title: str
    licence: str
    attribution: str
    url: str
    layout: str  #: the folder that `read` expects, in one line
    mapping: Mapping[str, str]  #: the dataset's words -> the taxonomy, for people
    read: Callable[[Path], Iterable[Case]]  #: every labelled case; `path` is empty where no image is on disk


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a label file; every fault it raises names the file, the line and the value."""

    file: Path
    line: int
    cells: Mapping[str, str]

    def fault(self, column: str, remedy: str) -> TableError:
        """The error for a value outside its domain."""
        return TableError(
            f"{self.file}, line {self.line}: {column} is {self.cells.get(column, '')!r}.", remedy=remedy
        )

    def text(self, column: str) -> str | None:
        """The cell, or None where it is absent, empty or says that it is unknown."""
        value = self.cells.get(column, "")
        return None if value.lower() in _UNKNOWN_WORDS else value

    def required(self, column: str) -> str:
        """The cell, which may not be empty."""
        value = self.cells.get(column, "")
        if not value:
            raise self.fault(column, "It must be given.")
        return value

    def age(self, column: str) -> float | None:
        """Years, or None."""
        value = self.text(column)
        if value is None:
            return None
        try:
            years = float(value)
        except ValueError:
            years = math.nan
        if not 0 <= years <= 130:
            raise self.fault(column, "It must be a number of years from 0 to 130, or empty.")
        return years

    def sex(self, column: str) -> str | None:
        """`female`, `male` or None."""
        value = (self.text(column) or "").lower()
        sex = {"": None, "f": "female", "female": "female", "m": "male", "male": "male"}.get(value, "bad")
        if sex == "bad":
            raise self.fault(column, "It must be female, male, or empty.")
        return sex

    def mapped(self, column: str, table: MappingTable) -> Mapped:
        """What the cell means by `table` (keys in lower case)."""
        value = self.cells.get(column, "").lower()
        if value not in table:
            raise self.fault(column, f"Known are {', '.join(repr(key) for key in table)}.")
        return table[value]

    def marked(self, columns: Sequence[str]) -> list[str]:
        """Those of the columns that hold 1; the others must hold 0."""
        return [column for column in columns if self._flag(column)]

    def _flag(self, column: str) -> bool:
        value = self.cells.get(column, "")
        if value not in {"0", "0.0", "1", "1.0"}:
            raise self.fault(column, "It must be 0 or 1.")
        return value.startswith("1")


def read_rows(file: Path, *, required: Sequence[str], columns: Sequence[str] | None = None) -> list[Row]:
    """The rows of a comma- or tab-separated file, whose header is its first line unless `columns` are given.

    Raises
    ------
    TableError
        The file cannot be read, lacks a required column, or a row has too many or too few cells.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            delimiter = "\t" if "\t" in stream.readline() else ","
            stream.seek(0)
            reader = csv.DictReader(stream, fieldnames=columns, delimiter=delimiter)
            rows = [(reader.line_num, cells) for cells in reader]
            found = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise TableError(
            f"{file}: cannot be read ({fault}).", remedy="It must be a CSV file in UTF-8."
        ) from fault
    for column in required:
        if column not in found:
            raise TableError(
                f"{file}: column {column!r} is missing; found {', '.join(found) or 'none'}.",
                remedy="Use the label file as published.",
            )
    for line, cells in rows:
        if None in cells or None in cells.values():
            raise TableError(
                f"{file}, line {line}: more or fewer cells than the header.", remedy="Download it again."
            )
    return [
        Row(file, line, {name: (text or "").strip() for name, text in cells.items()}) for line, cells in rows
    ]


def find_files(root: Path, *patterns: str) -> list[Path]:
    """The files at or below `root` that match one of the patterns (the first that matches anything), sorted.

    Raises
    ------
    DatasetError
        `root` is no folder, or nothing matches.
    """
    if not root.is_dir():
        raise DatasetError(
            f"{root}: is no folder.", remedy="Name the folder that holds the unpacked dataset."
        )
    for pattern in patterns:
        found = sorted(
            path for path in root.rglob(pattern) if path.is_file() and not path.name.startswith(".")
        )
        if found:
            return found
    raise DatasetError(
        f"{root}: holds no file {' or '.join(patterns)}.",
        remedy="`melascope data sources` describes the layout of each dataset.",
    )


def only_file(root: Path, *patterns: str) -> Path:
    """The one file of `find_files`; several are an error that names them."""
    found = find_files(root, *patterns)
    if len(found) > 1:
        raise DatasetError(
            f"{root}: holds {len(found)} label files ({', '.join(path.name for path in found[:4])}).",
            remedy="Name a folder that holds one of them.",
        )
    return found[0]


@dataclass(slots=True)
class ImageIndex:
    """Where the images of a folder lie, by name without ending, whatever the sub-folders are called."""

    root: Path
    _places: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._places = {}
        for folder, subfolders, names in os.walk(self.root):
            subfolders[:] = sorted(
                s for s in subfolders if not any(word in s.lower() for word in _NO_PHOTOGRAPHS)
            )
            for name in sorted(names):
                stem, ending = os.path.splitext(name)
                if ending.lower() in IMAGE_ENDINGS and not name.startswith("."):
                    self._add(stem, os.path.join(folder, name))

    def _add(self, stem: str, path: str) -> None:
        first = self._places.setdefault(stem, path)
        if first != path and os.path.getsize(first) != os.path.getsize(path):
            raise DatasetError(
                f"{self.root}: {stem} is there twice with different content ({first}, {path}).",
                remedy="Name a folder that holds each image once.",
            )

    def find(self, *names: str) -> str:
        """Path of the image called by one of the names (an ending is ignored), or empty if there is none."""
        for name in names:
            stem, ending = os.path.splitext(name)
            place = self._places.get(stem if ending.lower() in IMAGE_ENDINGS else name)
            if place is not None:
                return place
        return ""


def part_of(file: Path) -> str | None:
    """The official part (train, val, test) that the name of a challenge's label file says."""
    name = file.name.lower()
    parts = {"train": "train", "validation": "val", "test": "test"}
    return next((part for word, part in parts.items() if word in name), None)


def metadata_rows(root: Path, *patterns: str, key: str) -> dict[str, Row]:
    """The rows of optional metadata files by image; what several files say of one image is put together."""
    rows: dict[str, Row] = {}
    for file in (file for pattern in patterns for file in sorted(root.rglob(pattern))):
        for row in read_rows(file, required=(key,)):
            image_id = row.required(key)
            known = rows[image_id].cells if image_id in rows else {}
            rows[image_id] = Row(row.file, row.line, {**known, **row.cells})
    return rows


def in_words(table: MappingTable) -> dict[str, str]:
    """A mapping table for people: the dataset's word -> the class, or what is known where there is none."""
    return {word: label_of(*mapped) for word, mapped in table.items()}


def label_of(diagnosis: Diagnosis, melanoma: bool | None) -> str:
    """The class, or whether it is a melanoma where only that is known."""
    if diagnosis is not Diagnosis.UNK:
        return str(diagnosis)
    return {True: "UNK, melanoma", False: "UNK, not melanoma", None: "UNK"}[melanoma]
