"""The one taxonomy of diagnoses that every dataset, model and page uses.

The seven classes of HAM10000 / ISIC 2018 (Tschandl et al., Sci. Data 5:180161, 2018), squamous cell carcinoma
as ISIC 2019 tells it apart, and UNK for what a dataset does not say.
"""

from __future__ import annotations

from enum import StrEnum


class Diagnosis(StrEnum):
    """A diagnosis code; the value is what tables, manifests and JSON carry."""

    MEL = "MEL"
    NV = "NV"
    BCC = "BCC"
    AKIEC = "AKIEC"
    BKL = "BKL"
    DF = "DF"
    VASC = "VASC"
    SCC = "SCC"
    UNK = "UNK"

    @property
    def label(self) -> str:
        """The diagnosis in words."""
        return _LABELS[self]

    @property
    def malignant(self) -> bool | None:
        """Whether it calls for treatment as (pre)cancer; None where that is unknown."""
        if self is Diagnosis.UNK:
            return None
        return self in {Diagnosis.MEL, Diagnosis.BCC, Diagnosis.AKIEC, Diagnosis.SCC}


_LABELS = {
    Diagnosis.MEL: "melanoma",
    Diagnosis.NV: "melanocytic nevus",
    Diagnosis.BCC: "basal cell carcinoma",
    Diagnosis.AKIEC: "actinic keratosis or Bowen's disease",
    Diagnosis.BKL: "benign keratosis",
    Diagnosis.DF: "dermatofibroma",
    Diagnosis.VASC: "vascular lesion",
    Diagnosis.SCC: "squamous cell carcinoma",
    Diagnosis.UNK: "unknown",
}

#: The seven classes of HAM10000 and ISIC 2018 Task 3, in the order of the official submission file.
ISIC2018_CLASSES = (
    Diagnosis.MEL,
    Diagnosis.NV,
    Diagnosis.BCC,
    Diagnosis.AKIEC,
    Diagnosis.BKL,
    Diagnosis.DF,
    Diagnosis.VASC,
)
