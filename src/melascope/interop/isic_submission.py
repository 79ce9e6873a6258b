"""Submission files of the ISIC challenges 2018 (Task 3), 2019, 2020 and 2024."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from melascope.domain.diagnosis import Diagnosis
from melascope.errors import TableError

_D = Diagnosis


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionFormat:
    """One challenge's file: a column for the image, then columns of summed probabilities."""

    name: str
    image_column: str
    #: column -> the diagnoses whose probabilities it sums; a model without one of them contributes 0 for it
    columns: Mapping[str, tuple[Diagnosis, ...]]

    @property
    def header(self) -> list[str]:
        """The first row of the file."""
        return [self.image_column, *self.columns]

    def row(self, image_id: str, probabilities: Mapping[Diagnosis, float]) -> list[str]:
        """The row of an image; `probabilities` are those of the model's classes, from 0 to 1."""
        sums = (sum(probabilities.get(d, 0.0) for d in diagnoses) for diagnoses in self.columns.values())
        return [image_id, *(repr(min(float(probability), 1.0)) for probability in sums)]


#: 2018 has no column for squamous cell carcinoma: it joins AKIEC, its precursor. 2020 asks for melanoma; 2024
#: for any malignant lesion (`Diagnosis.malignant`).
FORMATS: Mapping[str, SubmissionFormat] = {
    submission.name: submission
    for submission in (
        SubmissionFormat(
            name="isic2018",
            image_column="image",
            columns={
                "MEL": (_D.MEL,),
                "NV": (_D.NV,),
                "BCC": (_D.BCC,),
                "AKIEC": (_D.AKIEC, _D.SCC),
                "BKL": (_D.BKL,),
                "DF": (_D.DF,),
                "VASC": (_D.VASC,),
            },
        ),
        SubmissionFormat(
            name="isic2019",
            image_column="image",
            columns={
                "MEL": (_D.MEL,),
                "NV": (_D.NV,),
                "BCC": (_D.BCC,),
                "AK": (_D.AKIEC,),
                "BKL": (_D.BKL,),
                "DF": (_D.DF,),
                "VASC": (_D.VASC,),
                "SCC": (_D.SCC,),
                "UNK": (_D.UNK,),
            },
        ),
        SubmissionFormat(name="isic2020", image_column="image_name", columns={"target": (_D.MEL,)}),
        SubmissionFormat(
            name="isic2024",
            image_column="isic_id",
            columns={"target": tuple(diagnosis for diagnosis in Diagnosis if diagnosis.malignant)},
        ),
    )
}


class SubmissionWriter:
    """Appends rows to a submission file; a file that an interrupted run left is continued.

    A context manager. Each row is in the file once `append` has returned and `flush` was called, or at the
    end of the block; a row that an interruption cut off is dropped at the next opening and written anew.

    Parameters
    ----------
    submission
        One of `FORMATS`.
    path
        Of the file; begun with its header if absent or empty.

    Raises
    ------
    TableError
        The file exists with other columns than the format's.
    """

    def __init__(self, submission: SubmissionFormat, path: Path) -> None:
        self._format = submission
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = path.read_bytes() if path.exists() else b""
        kept = kept[: kept.rfind(b"\n") + 1]  # a torn last line goes
        self.done: set[str] = set()  #: images whose rows the file has
        if kept:
            rows = list(csv.reader(io.StringIO(kept.decode("utf-8", errors="replace"))))
            if rows[0] != submission.header:
                raise TableError(
                    f"{path} has the columns {', '.join(rows[0])}; {submission.name} has "
                    f"{', '.join(submission.header)}.",
                    remedy="Name another file, or remove this one.",
                )
            self.done = {row[0] for row in rows[1:] if row}
            os.truncate(path, len(kept))
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        if not kept:
            os.truncate(path, 0)
            self._writer.writerow(submission.header)

    def append(self, image_id: str, probabilities: Mapping[Diagnosis, float]) -> None:
        """Write the row of an image that is not among `done`."""
        if image_id in self.done:
            raise ValueError(f"{image_id!r} has its row already")
        self._writer.writerow(self._format.row(image_id, probabilities))
        self.done.add(image_id)

    def flush(self) -> None:
        """Hand the rows so far to the operating system, so that they outlive this process."""
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def write_submission(
    submission: SubmissionFormat,
    image_ids: Sequence[str],
    probabilities_NC: NDArray[np.floating],
    classes: Sequence[Diagnosis],
    path: Path,
) -> None:
    """Write a whole submission, replacing what was there; the file appears complete or not at all.

    Parameters
    ----------
    image_ids
        Names of n images, without suffix.
    probabilities_NC
        Shape (n, classes), rows sum to 1.
    classes
        Of the columns.
    """
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with SubmissionWriter(submission, partial) as writer:
        for image_id, probability_C in zip(image_ids, probabilities_NC, strict=True):
            writer.append(image_id, dict(zip(classes, probability_C.tolist(), strict=True)))
    os.replace(partial, path)
