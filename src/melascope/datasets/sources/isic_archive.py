"""Images of the ISIC archive and their metadata.csv, as `melascope data fetch` (or `isic-cli`) saves them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from melascope.datasets.sources.archive_taxonomy import PATHS, diagnosis_of
from melascope.datasets.sources.layout import ImageIndex, Mapped, Row, Source, in_words, only_file, read_rows
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis

LEVELS = tuple(f"diagnosis_{level}" for level in range(1, 6))


def _read(root: Path) -> Iterator[Case]:
    labels = only_file(root, "metadata.csv")
    images = ImageIndex(root)
    for row in read_rows(labels, required=("isic_id", "diagnosis_1")):
        image_id = row.required("isic_id")
        diagnosis, melanoma = _diagnosis(row)
        yield Case(
            image_id=image_id,
            path=images.find(image_id),
            diagnosis=diagnosis,
            melanoma=melanoma,
            lesion_id=row.text("lesion_id"),
            patient_id=row.text("patient_id"),
            age=row.age("age_approx"),
            sex=row.sex("sex"),
            site=row.text("anatom_site_general"),
            confirmed_by=row.text("diagnosis_confirm_type"),
            source="isic-archive",
        )


def _diagnosis(row: Row) -> Mapped:
    terms = [term for term in (row.cells.get(level, "") for level in LEVELS) if term]
    if not terms:
        return Diagnosis.UNK, None
    mapped = diagnosis_of(terms)
    if mapped is None:
        raise row.fault("diagnosis_1", "It must be Benign, Indeterminate, Malignant or empty.")
    return mapped


SOURCES = (
    Source(
        name="isic-archive",
        title="ISIC archive",
        licence="CC0, CC BY or CC BY-NC, image by image: see attributions.csv",
        attribution="image by image: see attributions.csv",
        url="https://api.isic-archive.com",
        layout="metadata.csv and the images it names, as `melascope data fetch` saves them",
        mapping=in_words(PATHS),
        read=_read,
    ),
)
