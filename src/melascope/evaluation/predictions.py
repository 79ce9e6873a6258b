"""The predictions table: raw logits of a model beside what is known of each case.

Everything after training (calibration, operating points, metrics, report) reads this, so it needs no torch.
Columns: `image_id`, one `logit_<CLASS>` a class, then the case columns that judging needs. Where the images
themselves were examined, also `novelty`, the bundle's novelty score or empty, and `quality`, the findings about
the photograph as `code:severity` with spaces between them, or empty where there are none.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from melascope.domain.assessment import Severity
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import TableError
from melascope.writing import whole_file

LOGIT_PREFIX = "logit_"
#: Case columns that travel with the logits.
CARRIED_COLUMNS = (
    "diagnosis",
    "melanoma",
    "lesion_id",
    "patient_id",
    "age",
    "sex",
    "site",
    "source",
    "split",
)
NOVELTY, QUALITY = "novelty", "quality"


class Finding(NamedTuple):
    """Something about a photograph that limits the answer."""

    code: str  #: see `imaging.quality`
    severity: Severity


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """Logits of n images over the model's classes, and their cases (same order)."""

    classes: tuple[Diagnosis, ...]
    logits_NC: NDArray[np.float64]  #: shape (n, classes), raw: before calibration
    cases: tuple[Case, ...]  #: `path` is empty for predictions read from a file
    novelty_N: NDArray[np.float64] | None = (
        None  #: higher is more novel, NaN unknown; None: none was examined
    )
    quality_N: tuple[tuple[Finding, ...], ...] | None = None  #: of each image; None: none was examined

    @property
    def melanoma_N(self) -> NDArray[np.float64]:
        """1.0 melanoma, 0.0 not, NaN unknown."""
        return np.array([np.nan if case.melanoma is None else float(case.melanoma) for case in self.cases])

    @property
    def class_index_N(self) -> NDArray[np.int64]:
        """Index of the true class, -1 where the diagnosis is unknown or not among the model's classes."""
        index = {diagnosis: i for i, diagnosis in enumerate(self.classes)}
        return np.array([index.get(case.diagnosis, -1) for case in self.cases], dtype=np.int64)

    @property
    def groups_N(self) -> list[str]:
        """Patient, lesion or image: the unit of the bootstrap."""
        return [case.group for case in self.cases]

    @property
    def lesions_N(self) -> list[str]:
        """Lesion, or the image itself where that is unknown: the unit of a vote."""
        return [case.vote for case in self.cases]

    def where(self, keep_N: Sequence[bool] | NDArray[np.bool_]) -> Predictions:
        """The rows for which `keep_N` holds."""
        return self.take(np.flatnonzero(np.asarray(keep_N)))

    def take(self, rows_M: Sequence[int] | NDArray[np.integer]) -> Predictions:
        """These rows, in this order."""
        rows_M = np.asarray(rows_M, dtype=np.intp)
        return Predictions(
            classes=self.classes,
            logits_NC=self.logits_NC[rows_M],
            cases=tuple(self.cases[i] for i in rows_M),
            novelty_N=None if self.novelty_N is None else self.novelty_N[rows_M],
            quality_N=None if self.quality_N is None else tuple(self.quality_N[i] for i in rows_M),
        )


def write_predictions(predictions: Predictions, table_path: Path) -> None:
    """Write the table, whole or not at all; logits with all the digits of a float64."""
    table_path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(table_path) as file:
        writer = csv.writer(file, lineterminator="\n")
        novelty_N, quality_N = predictions.novelty_N, predictions.quality_N
        columns = table_header(
            predictions.classes, novelty=novelty_N is not None, quality=quality_N is not None
        )
        writer.writerow(columns)
        for n, (case, logits_C) in enumerate(zip(predictions.cases, predictions.logits_NC, strict=True)):
            novelty = None if novelty_N is None else novelty_N[n]
            quality = None if quality_N is None else quality_N[n]
            writer.writerow(table_row(case, logits_C, novelty=novelty, quality=quality))


def table_header(classes: Sequence[Diagnosis], *, novelty: bool = False, quality: bool = False) -> list[str]:
    """The table's columns for a model of these classes; with the optional ones that are asked for."""
    optional = [name for name, wanted in ((NOVELTY, novelty), (QUALITY, quality)) if wanted]
    return ["image_id", *(LOGIT_PREFIX + diagnosis for diagnosis in classes), *CARRIED_COLUMNS, *optional]


def table_row(
    case: Case,
    logits_C: NDArray[np.floating],
    *,
    novelty: float | None = None,
    quality: Sequence[Finding] | None = None,
) -> list[str]:
    """One row of the table, in the order of `table_header`; numbers with all the digits of a float64.

    Parameters
    ----------
    novelty
        NaN where it is unknown; None in a table without that column.
    quality
        Empty where there is no finding; None in a table without that column.
    """
    row = [case.image_id, *(repr(float(logit)) for logit in logits_C)]
    row += [_text(getattr(case, column)) for column in CARRIED_COLUMNS]
    if novelty is not None:
        row.append("" if np.isnan(novelty) else repr(float(novelty)))
    if quality is not None:
        row.append(" ".join(f"{finding.code}:{finding.severity}" for finding in quality))
    return row


def _text(value: object) -> str:
    if value is None or value is Diagnosis.UNK:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def read_predictions(table_path: Path) -> Predictions:
    """Read and check a predictions table.

    Raises
    ------
    TableError
        Absent or empty file, a missing or repeated column, a class that the taxonomy lacks, no class MEL, a
        torn row, a logit or novelty that is no finite number, an unknown severity, a value outside the case
        table's domain, an image without name or listed twice.
    """
    try:
        with table_path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise TableError(
            f"{table_path}: the predictions cannot be read ({fault}).",
            remedy="Name the predictions.csv of a run or of `melascope predict --format predictions`.",
        ) from fault
    classes = _classes(table_path, columns)
    if not rows:
        raise TableError(f"{table_path}: the predictions have no rows.", remedy="Predict at least one image.")
    logits_NC = np.empty((len(rows), len(classes)))
    novelty_N, quality = np.empty(len(rows)), []
    cases: list[Case] = []
    seen: set[str] = set()
    for n, (line, row) in enumerate(rows):
        where = f"{table_path}, line {line}"
        if None in row or None in row.values():
            raise TableError(
                f"{where}: the row has more or fewer cells than the header.",
                remedy="Write the table anew; an interrupted copy ends like this.",
            )
        for c, diagnosis in enumerate(classes):
            logits_NC[n, c] = _finite(row, LOGIT_PREFIX + diagnosis, where=where)
        novelty_N[n] = _finite(row, NOVELTY, where=where) if row.get(NOVELTY) else np.nan
        quality.append(_findings(row.get(QUALITY, ""), where=where))
        cases.append(_case_of_row(row, where=where))
        if cases[-1].image_id in seen:
            raise TableError(
                f"{where}: image_id {cases[-1].image_id!r} stands in more than one row.",
                remedy="Each image is predicted once.",
            )
        seen.add(cases[-1].image_id)
    return Predictions(
        classes=classes,
        logits_NC=logits_NC,
        cases=tuple(cases),
        novelty_N=novelty_N if NOVELTY in columns else None,
        quality_N=tuple(quality) if QUALITY in columns else None,
    )


def _finite(row: dict[str, str], column: str, *, where: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise TableError(f"{where}: {column} is {row[column]!r}.", remedy="It must be a finite number.")
    return value


def _findings(text: str, *, where: str) -> tuple[Finding, ...]:
    findings = []
    for written in text.split():
        code, _, severity = written.partition(":")
        if not code or severity not in get_args(Severity):
            raise TableError(
                f"{where}: {QUALITY} holds {written!r}.",
                remedy=f"A finding is code:severity; the severities are {', '.join(get_args(Severity))}.",
            )
        findings.append(Finding(code, cast(Severity, severity)))
    return tuple(findings)


def _classes(table_path: Path, columns: Sequence[str]) -> tuple[Diagnosis, ...]:
    """The model's classes, from the names of the logit columns."""
    names = [column.removeprefix(LOGIT_PREFIX) for column in columns if column.startswith(LOGIT_PREFIX)]
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if "image_id" not in columns or len(names) < 2 or Diagnosis.MEL not in names or repeated:
        found = (
            f"the column {repeated[0]} more than once"
            if repeated
            else f"the columns {', '.join(columns) or 'none'}"
        )
        raise TableError(
            f"{table_path}: found {found}.",
            remedy=f"Predictions have image_id, {LOGIT_PREFIX}MEL and one such column for each other class.",
        )
    unknown = [name for name in names if name not in set(Diagnosis)]
    if unknown:
        raise TableError(
            f"{table_path}: {LOGIT_PREFIX}{unknown[0]} is of no known class.",
            remedy=f"The classes are {', '.join(Diagnosis)}.",
        )
    return tuple(Diagnosis(name) for name in names)


def _case_of_row(row: dict[str, str], *, where: str) -> Case:
    text = {column: (row.get(column) or "").strip() for column in ("image_id", *CARRIED_COLUMNS)}
    try:
        diagnosis = Diagnosis(text["diagnosis"] or "UNK")
        melanoma = {"1": True, "0": False, "": None}[text["melanoma"]]
        age = float(text["age"]) if text["age"] else None
    except (ValueError, KeyError) as fault:
        raise TableError(
            f"{where}: {fault} is not a value of the case table.",
            remedy="diagnosis is a class or empty, melanoma 1, 0 or empty, age a number or empty.",
        ) from None
    if not text["image_id"] or (age is not None and not 0 <= age < np.inf):
        raise TableError(
            f"{where}: image_id is {text['image_id']!r}, age {text['age']!r}.",
            remedy="image_id must be given; age is in years, or empty.",
        )
    if diagnosis is not Diagnosis.UNK:
        if melanoma is (diagnosis is not Diagnosis.MEL):
            raise TableError(
                f"{where}: melanoma is {text['melanoma']}, the diagnosis {diagnosis}.",
                remedy="Mend the label that is wrong.",
            )
        melanoma = diagnosis is Diagnosis.MEL
    return Case(
        image_id=text["image_id"],
        path="",
        diagnosis=diagnosis,
        melanoma=melanoma,
        age=age,
        **{c: text[c] or None for c in ("lesion_id", "patient_id", "sex", "site", "source", "split")},
    )
