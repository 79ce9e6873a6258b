"""A case: one labelled image of a lesion, one row of the case table."""

from __future__ import annotations

from dataclasses import dataclass, fields

from melascope.domain.diagnosis import Diagnosis


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One image and what its dataset says of it. Unknown is None, never guessed."""

    image_id: str  #: unique in a table
    path: str  #: of the image; absolute, or relative to the table's folder; `file.h5#key` inside HDF5
    diagnosis: Diagnosis = Diagnosis.UNK
    melanoma: bool | None = None  #: known for some cases whose diagnosis is not (ISIC 2017, 2020, 2024)
    lesion_id: str | None = None
    patient_id: str | None = None
    age: float | None = None  #: years
    sex: str | None = None  #: "female" or "male"
    site: str | None = None  #: where on the body, in the dataset's words
    confirmed_by: str | None = None  #: how the diagnosis was made (histo, follow_up, consensus, ...)
    source: str | None = None  #: the dataset
    split: str | None = None  #: train, val, test, or fold number; None before `data split`
    sha256: str | None = None  #: of the file's bytes

    @property
    def group(self) -> str:
        """The most that may share a side of a split: the patient, else the lesion, else the image itself."""
        source = self.source or ""
        if self.patient_id:
            return f"{source}/patient/{self.patient_id}"
        if self.lesion_id:
            return f"{source}/lesion/{self.lesion_id}"
        return f"{source}/image/{self.image_id}"


CASE_COLUMNS = tuple(field.name for field in fields(Case))
