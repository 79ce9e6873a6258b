"""Submission files of the ISIC challenges 2018 (Task 3), 2019, 2020 and 2024."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
