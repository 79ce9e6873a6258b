"""Submission files of the ISIC challenges 2018 (Task 3), 2019, 2020 and 2024."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melascope.domain.diagnosis import Diagnosis

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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(submission.header)
        for image_id, probability_C in zip(image_ids, probabilities_NC, strict=True):
            of_class = dict(zip(classes, probability_C.tolist(), strict=True))
            writer.writerow(submission.row(image_id, of_class))
    os.replace(partial, path)
