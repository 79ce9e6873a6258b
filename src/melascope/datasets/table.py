"""The case table: one CSV row an image. Every fault is found at reading, with its line and its remedy."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from melascope.domain.case import CASE_COLUMNS, Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import TableError
from melascope.writing import whole_file

_REQUIRED = ("image_id", "path")
#: Columns that other tables, messages and file names repeat.
_NAMES = ("image_id", "path", "lesion_id", "patient_id", "source", "split")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  #: and what stands for bytes that are no UTF-8


def read_cases(table_path: Path) -> list[Case]:
    """Read a case table; columns of the contract in any order, columns it does not know are refused.

    Relative paths are of the table's folder; the returned cases carry them joined to it.

    Raises
    ------
    TableError
        Absent or empty file, missing, repeated or unknown column, duplicate `image_id`, a control character in a
        name, a value outside its domain.
    """
    try:
        with table_path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            _check_columns(table_path, columns)
            cases = [
                _case_of_row(row, table_path=table_path, line=reader.line_num)
                for row in reader
                if any(row.values())
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise TableError(
            f"{table_path}: the case table cannot be read ({fault}).", remedy="Name a CSV file in UTF-8."
        ) from fault
    if not cases:
        raise TableError(
            f"{table_path}: the case table has no rows.", remedy="Make one with `melascope data import`."
        )
    seen: set[str] = set()
    for case in cases:
        if case.image_id in seen:
            raise TableError(
                f"{table_path}: image_id {case.image_id!r} stands in more than one row.",
                remedy="Each image has one row; `melascope data audit` finds copies under other names.",
            )
        seen.add(case.image_id)
    return cases


def write_cases(cases: Iterable[Case], table_path: Path) -> None:
    """Write a case table, whole or not at all; paths below the table's folder become relative to it.

    Raises
    ------
    TableError
        A control character in a name: the table could not be read back.
    """
    folder = table_path.resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(table_path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CASE_COLUMNS)
        for case in cases:
            row = {column: _cell(case, column, folder) for column in CASE_COLUMNS}
            if column := _unprintable(row):
                raise TableError(
                    f"{table_path}: {column} is {row[column]!r}.",
                    remedy="A name has no control characters: rename the file, or mend the table that it is from.",
                )
            writer.writerow(row.values())


def _unprintable(row: Mapping[str, str]) -> str | None:
    """The first column of names that could steer a terminal, break a line or not be encoded."""
    return next((column for column in _NAMES if _CONTROL.search(row.get(column, ""))), None)


def _check_columns(table_path: Path, columns: Iterable[str]) -> None:
    columns = list(columns)
    missing = [column for column in _REQUIRED if column not in columns]
    if missing:
        raise TableError(
            f"{table_path}: column {missing[0]!r} is missing; found {', '.join(columns) or 'none'}.",
            remedy="It needs at least image_id and path; `melascope data import csv` maps other names.",
        )
    repeated = [column for column in CASE_COLUMNS if columns.count(column) > 1]
    if repeated:
        raise TableError(
            f"{table_path}: column {repeated[0]!r} stands there more than once.",
            remedy="Keep the one that holds the right values.",
        )
    unknown = [column for column in columns if column not in CASE_COLUMNS]
    if unknown:
        raise TableError(
            f"{table_path}: column {unknown[0]!r} is not of the case table.",
            remedy=f"Known are {', '.join(CASE_COLUMNS)}; `melascope data import csv` maps other names.",
        )


def _case_of_row(row: dict[str, str], *, table_path: Path, line: int) -> Case:
    def fault(column: str, expected: str) -> TableError:
        return TableError(
            f"{table_path}, line {line}: {column} is {row.get(column)!r}.", remedy=f"It must be {expected}."
        )

    if None in row or None in row.values():
        raise TableError(
            f"{table_path}, line {line}: the row has more or fewer cells than the header.",
            remedy="Quote values that hold commas.",
        )
    text = {column: (value or "").strip() for column, value in row.items()}
    for column in _REQUIRED:
        if not text[column]:
            raise fault(column, "given")
    if unprintable := _unprintable(text):
        raise fault(unprintable, "without control characters")
    try:
        diagnosis = Diagnosis(text.get("diagnosis") or "UNK")
    except ValueError:
        raise fault("diagnosis", f"one of {', '.join(Diagnosis)}, or empty") from None
    melanoma = {"1": True, "0": False, "": None}.get(text.get("melanoma", ""), "bad")
    if melanoma == "bad":
        raise fault("melanoma", "1, 0 or empty")
    if diagnosis is not Diagnosis.UNK:
        if melanoma is not None and melanoma != (diagnosis is Diagnosis.MEL):
            raise fault("melanoma", f"{int(diagnosis is Diagnosis.MEL)} where the diagnosis is {diagnosis}")
        melanoma = diagnosis is Diagnosis.MEL
    age: float | None = None
    if text.get("age"):
        try:
            age = float(text["age"])
        except ValueError:
            raise fault("age", "a number of years, or empty") from None
        if not (math.isfinite(age) and 0 <= age <= 130):
            raise fault("age", "between 0 and 130, or empty")
    sex = text.get("sex") or None
    if sex not in (None, "female", "male"):
        raise fault("sex", "female, male or empty")
    path = text["path"]
    if not os.path.isabs(path):
        path = str(table_path.resolve().parent / path)
    return Case(
        image_id=text["image_id"],
        path=path,
        diagnosis=diagnosis,
        melanoma=bool(melanoma) if melanoma is not None else None,
        lesion_id=text.get("lesion_id") or None,
        patient_id=text.get("patient_id") or None,
        age=age,
        sex=sex,
        site=text.get("site") or None,
        confirmed_by=text.get("confirmed_by") or None,
        source=text.get("source") or None,
        split=text.get("split") or None,
        sha256=text.get("sha256") or None,
    )


def _cell(case: Case, column: str, folder: Path) -> str:
    value = getattr(case, column)
    if value is None or (column == "diagnosis" and value is Diagnosis.UNK):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:g}"
    if column == "path":
        path = Path(value)
        absolute = path if path.is_absolute() else Path.cwd() / path
        return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)
    return str(value)
