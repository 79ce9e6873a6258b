"""A case: one labelled image of a lesion, one row of the case table."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from melascope.domain.diagnosis import Diagnosis

#: Ids that the ISIC archive or the makers of HAM10000 and BCN20000 gave: the same in every dataset.
_SHARED_ID = re.compile(r"(HAM|BCN|IL|IP)_\d+")
_ARCHIVE_ID = re.compile(r"(ISIC_\d{7})(_downsampled)?")


#: In place of a dataset's name where the case table has none.
UNNAMED = "unnamed"


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
    def patient(self) -> str | None:
        """The patient, told apart from other datasets' patients of that id; None where unknown."""
        return self._scoped("patient", self.patient_id)

    @property
    def lesion(self) -> str | None:
        """The lesion, told apart from other datasets' lesions of that id; None where unknown."""
        return self._scoped("lesion", self.lesion_id)

    @property
    def vote(self) -> str:
        """The unit of a vote: the lesion, else the image itself."""
        return self.lesion or f"{self.source or ''}/image/{self.image_id}"

    @property
    def group(self) -> str:
        """The most that may share a side of a split: the patient, else the lesion, else the image itself."""
        return self.patient or self.vote

    @property
    def archive_id(self) -> str | None:
        """The image's id in the ISIC archive, the same in every dataset that took it from there; None for others."""
        found = _ARCHIVE_ID.fullmatch(self.image_id)
        return found[1] if found else None

    def _scoped(self, kind: str, identifier: str | None) -> str | None:
        """An id of a dataset's own is of that dataset; one that datasets share is the same in all of them."""
        if not identifier:
            return None
        source = "isic" if _SHARED_ID.fullmatch(identifier) else self.source or ""
        return f"{source}/{kind}/{identifier}"


CASE_COLUMNS = tuple(field.name for field in fields(Case))
