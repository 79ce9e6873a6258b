"""Your own images: in one folder a diagnosis, or listed in a CSV file whose columns you name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from melascope.datasets.sources.layout import (
    IMAGE_ENDINGS,
    ImageIndex,
    Mapped,
    MappingTable,
    Row,
    Source,
    in_words,
    read_rows,
)
from melascope.domain.case import CASE_COLUMNS, Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import DatasetError, UsageError

#: Codes and words (lower case, `_` and `-` read as blanks) -> taxonomy.
WORDS: MappingTable = {
    **{code.lower(): (code, code is Diagnosis.MEL) for code in Diagnosis if code is not Diagnosis.UNK},
    "melanoma": (Diagnosis.MEL, True),
    "nevus": (Diagnosis.NV, False),
    "naevus": (Diagnosis.NV, False),
    "melanocytic nevus": (Diagnosis.NV, False),
    "melanocytic nevi": (Diagnosis.NV, False),
    "basal cell carcinoma": (Diagnosis.BCC, False),
    "ak": (Diagnosis.AKIEC, False),
    "actinic keratosis": (Diagnosis.AKIEC, False),
    "bowen's disease": (Diagnosis.AKIEC, False),
    "benign keratosis": (Diagnosis.BKL, False),
    "pigmented benign keratosis": (Diagnosis.BKL, False),
    "seborrheic keratosis": (Diagnosis.BKL, False),
    "solar lentigo": (Diagnosis.BKL, False),
    "lichenoid keratosis": (Diagnosis.BKL, False),
    "dermatofibroma": (Diagnosis.DF, False),
    "vascular lesion": (Diagnosis.VASC, False),
    "squamous cell carcinoma": (Diagnosis.SCC, False),
    "not melanoma": (Diagnosis.UNK, False),
    "non melanoma": (Diagnosis.UNK, False),
    "benign": (Diagnosis.UNK, False),
    "malignant": (Diagnosis.UNK, None),
    "unknown": (Diagnosis.UNK, None),
    "unk": (Diagnosis.UNK, None),
    "": (Diagnosis.UNK, None),
}
#: Names of part folders -> split.
PART_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
#: Columns of the case table that a CSV file may give.
COLUMNS = tuple(column for column in CASE_COLUMNS if column != "sha256")
#: Cell of a melanoma column -> value.
YES_NO: Mapping[str, bool | None] = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no"), False),
    **dict.fromkeys(("", "unknown"), None),
}


def words_of(text: str) -> str:
    """A diagnosis as `WORDS` spells it."""
    return " ".join(text.lower().replace("_", " ").replace("-", " ").split())


def _read_folders(root: Path) -> Iterator[Case]:
    if not root.is_dir():
        raise DatasetError(
            f"{root}: is no folder.", remedy="Name a folder with one sub-folder for each diagnosis."
        )
    found = False
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() not in IMAGE_ENDINGS or file.name.startswith(".") or not file.is_file():
            continue
        found = True
        folders = file.relative_to(root).parts[:-1]
        part = PART_FOLDERS.get(folders[0].lower()) if len(folders) > 1 else None
        name = folders[1 if part else 0] if folders else ""
        if words_of(name) not in WORDS or not name:
            raise DatasetError(
                f"{file}: the folder {name!r} is no diagnosis.",
                remedy=f"Known are {', '.join(filter(None, WORDS))}, below train, val, test or not.",
            )
        diagnosis, melanoma = WORDS[words_of(name)]
        yield Case(
            image_id=file.relative_to(root).as_posix(),
            path=str(file),
            diagnosis=diagnosis,
            melanoma=melanoma,
            source=root.name,
            split=part,
        )
    if not found:
        raise DatasetError(f"{root}: holds no image.", remedy=f"Images end in {', '.join(IMAGE_ENDINGS)}.")


def read_csv(table: Path, *, columns: Mapping[str, str], values: Mapping[str, str]) -> Iterator[Case]:
    """The cases of a CSV file with named columns, to be finished by `finish_cases`.

    Parameters
    ----------
    table
        The file; image paths in it are relative to its folder. Without a path column, images are found below
        that folder by their image_id.
    columns
        Column of the case table -> column of the file, where the names differ.
    values
        Word of the diagnosis column -> one of `WORDS`, where `WORDS` lacks it or means something else.

    Raises
    ------
    UsageError
        `columns` or `values` name what does not exist.
    TableError
        The file lacks a column, or a cell is outside its domain.
    """
    if unknown := [column for column in columns if column not in COLUMNS]:
        raise UsageError(f"{unknown[0]!r} is no column to map to.", remedy=f"Known are {', '.join(COLUMNS)}.")
    words = {**WORDS, **_own_words(values)}
    rows = read_rows(table, required=tuple(columns.values()))
    names = {column: columns.get(column, column) for column in COLUMNS}
    images = ImageIndex(table.resolve().parent)
    for row in rows:
        yield _case_of_row(row, names, words, images)


def _own_words(values: Mapping[str, str]) -> dict[str, Mapped]:
    own = {}
    for word, meaning in values.items():
        if words_of(meaning) not in WORDS:
            raise UsageError(
                f"{word!r} cannot mean {meaning!r}.",
                remedy=f"Known are {', '.join(known for known in WORDS if known)}.",
            )
        own[words_of(word)] = WORDS[words_of(meaning)]
    return own


def _case_of_row(row: Row, names: Mapping[str, str], words: MappingTable, images: ImageIndex) -> Case:
    given = row.text(names["path"])
    image_id = row.text(names["image_id"]) or (Path(given).stem if given else row.required(names["image_id"]))
    said = row.cells.get(names["diagnosis"], "")
    if words_of(said) not in words:
        raise row.fault(
            names["diagnosis"], "Say what it means, e.g. --map 'word=NV' or --map 'word=not melanoma'."
        )
    diagnosis, melanoma = words[words_of(said)]
    flag = row.cells.get(names["melanoma"], "").lower()
    if flag not in YES_NO:
        raise row.fault(names["melanoma"], "It must be 1, 0 or empty.")
    if YES_NO[flag] is not None:
        if melanoma is not None and melanoma is not YES_NO[flag]:
            raise row.fault(names["melanoma"], f"It contradicts the diagnosis {said!r}.")
        melanoma = YES_NO[flag]
    return Case(
        image_id=image_id,
        path=_place(given, images) if given else images.find(image_id),
        diagnosis=diagnosis,
        melanoma=melanoma,
        age=row.age(names["age"]),
        sex=row.sex(names["sex"]),
        source=row.text(names["source"]) or row.file.stem,
        **{c: row.text(names[c]) for c in ("lesion_id", "patient_id", "site", "confirmed_by", "split")},
    )


def _place(given: str, images: ImageIndex) -> str:
    path = images.root / given
    return str(path) if path.is_file() else ""


def _read_csv_as_is(root: Path) -> Iterator[Case]:
    return read_csv(root, columns={}, values={})


SOURCES = (
    Source(
        name="folders",
        title="One folder a diagnosis",
        licence="yours",
        attribution="yours",
        url="",
        layout="FOLDER/MEL/*.jpg, FOLDER/nevus/*.png, ..., or below FOLDER/train, /val, /test",
        mapping=in_words(WORDS),
        read=_read_folders,
    ),
    Source(
        name="csv",
        title="A CSV file with named columns",
        licence="yours",
        attribution="yours",
        url="",
        layout=f"a CSV file with any of the columns {', '.join(COLUMNS)}, or others with --column and --map",
        mapping=in_words(WORDS),
        read=_read_csv_as_is,
    ),
)
