"""The diagnoses of the ISIC archive: a path of up to five terms, from "Benign" down to a named entity.

The terms are those of the archive's own package `isic-metadata` (4.12, `diagnosis_hierarchical.py`); ISIC
2024 writes the same path into `iddx_full`.
"""

from __future__ import annotations

from collections.abc import Sequence

from melascope.datasets.sources.layout import Mapped, MappingTable
from melascope.domain.diagnosis import Diagnosis

SEPARATOR = "::"
_FLAT = "Benign::Flat melanotic pigmentations - not melanocytic nevus"
_EPIDERMAL = "Benign::Benign epidermal proliferations"
_MALIGNANT_EPIDERMAL = "Malignant::Malignant epidermal proliferations"
_FOLLICULAR = "Malignant::Malignant adnexal epithelial proliferations - Follicular"

#: Path of terms -> taxonomy; the longest path that a diagnosis begins with holds. `*` is any one term.
#: Carcinoma in situ is Bowen's disease, which HAM10000 counts to AKIEC; its VASC includes haemorrhages.
#: Solar lentigo is accepted beside other flat pigmentations too.
PATHS: MappingTable = {
    "Benign": (Diagnosis.UNK, False),
    "Benign::Benign melanocytic proliferations::Nevus": (Diagnosis.NV, False),
    f"{_EPIDERMAL}::Seborrheic keratosis": (Diagnosis.BKL, False),
    f"{_EPIDERMAL}::Pigmented benign keratosis": (Diagnosis.BKL, False),
    f"{_EPIDERMAL}::Lichen planus like keratosis": (Diagnosis.BKL, False),
    f"{_EPIDERMAL}::Solar lentigo": (Diagnosis.BKL, False),
    f"{_FLAT}::Solar lentigo": (Diagnosis.BKL, False),
    "Benign::Benign soft tissue proliferations - Fibro-histiocytic::Dermatofibroma": (Diagnosis.DF, False),
    "Benign::Benign soft tissue proliferations - Vascular": (Diagnosis.VASC, False),
    "Benign::Hemorrhagic lesions": (Diagnosis.VASC, False),
    "Indeterminate": (Diagnosis.UNK, None),
    "Indeterminate::Indeterminate epidermal proliferations": (Diagnosis.UNK, False),
    "Indeterminate::Indeterminate epidermal proliferations::Solar or actinic keratosis": (
        Diagnosis.AKIEC,
        False,
    ),
    "Malignant": (Diagnosis.UNK, None),
    "Malignant::*": (Diagnosis.UNK, False),
    "Malignant::Collision - At least one malignant proliferation": (Diagnosis.UNK, None),
    "Malignant::Malignant melanocytic proliferations (Melanoma)": (Diagnosis.MEL, True),
    f"{_FOLLICULAR}::Basal cell carcinoma": (Diagnosis.BCC, False),
    f"{_MALIGNANT_EPIDERMAL}::Squamous cell carcinoma in situ": (Diagnosis.AKIEC, False),
    f"{_MALIGNANT_EPIDERMAL}::Squamous cell carcinoma, Invasive": (Diagnosis.SCC, False),
    f"{_MALIGNANT_EPIDERMAL}::Squamous cell carcinoma, NOS": (Diagnosis.SCC, False),
}


def diagnosis_of(terms: Sequence[str]) -> Mapped | None:
    """What a path of terms means, None if its first term is not of the archive.

    Examples
    --------
    >>> diagnosis_of(["Malignant", "Malignant melanocytic proliferations (Melanoma)", "Melanoma in situ"])
    (<Diagnosis.MEL: 'MEL'>, True)
    >>> diagnosis_of(["Benign", "Cysts"])
    (<Diagnosis.UNK: 'UNK'>, False)
    """
    for length in range(len(terms), 0, -1):
        for last in (terms[length - 1], "*"):
            path = SEPARATOR.join((*terms[: length - 1], last))
            if path in PATHS:
                return PATHS[path]
    return None
