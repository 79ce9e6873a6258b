"""ISIC 2020 (SIIM-ISIC): 33,126 images of 2,056 patients (Rotemberg et al., Sci. Data 8:34, 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from melascope.datasets.sources.layout import (
    ImageIndex,
    MappingTable,
    Source,
    find_files,
    in_words,
    read_rows,
)
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis

#: `diagnosis` -> taxonomy. An "unknown" lesion of this dataset is labelled benign, hence no melanoma. What
#: kind of lentigo "lentigo NOS" is remains open.
DIAGNOSIS: MappingTable = {
    "melanoma": (Diagnosis.MEL, True),
    "nevus": (Diagnosis.NV, False),
    "seborrheic keratosis": (Diagnosis.BKL, False),
    "lichenoid keratosis": (Diagnosis.BKL, False),
    "solar lentigo": (Diagnosis.BKL, False),
    "lentigo nos": (Diagnosis.UNK, False),
    "cafe-au-lait macule": (Diagnosis.UNK, False),
    "atypical melanocytic proliferation": (Diagnosis.UNK, False),
    "unknown": (Diagnosis.UNK, False),
}
#: `benign_malignant` -> whether it is a melanoma: the only malignant diagnosis here.
MALIGNANT = {"benign": False, "malignant": True}


def _read(root: Path) -> Iterator[Case]:
    labels = find_files(
        root, "ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv", "train.csv"
    )[0]
    images = ImageIndex(root)
    for row in read_rows(labels, required=("image_name", "patient_id", "diagnosis", "benign_malignant")):
        image_id = row.required("image_name")
        diagnosis, melanoma = row.mapped("diagnosis", DIAGNOSIS)
        if MALIGNANT.get(row.cells["benign_malignant"].lower()) is not melanoma:
            expected = "malignant" if melanoma else "benign"
            raise row.fault("benign_malignant", f"It must be {expected} with {row.cells['diagnosis']!r}.")
        yield Case(
            image_id=image_id,
            path=images.find(image_id),
            diagnosis=diagnosis,
            melanoma=melanoma,
            lesion_id=row.text("lesion_id"),
            patient_id=row.text("patient_id"),
            age=row.age("age_approx"),
            sex=row.sex("sex"),
            site=row.text("anatom_site_general_challenge"),
            source="isic2020",
        )


SOURCES = (
    Source(
        name="isic2020",
        title="ISIC 2020 (SIIM-ISIC)",
        licence="CC BY-NC 4.0",
        attribution="Rotemberg et al., Sci. Data 8:34 (2021)",
        url="https://doi.org/10.34970/2020-ds01",
        layout="ISIC_2020_Training_GroundTruth_v2.csv (or without _v2, or train.csv), JPEG in any folder",
        mapping=in_words(DIAGNOSIS),
        read=_read,
    ),
)
