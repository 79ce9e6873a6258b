"""ISIC 2024 (SLICE-3D): crops of total body photographs (Kurtansky et al., Sci. Data 11:884, 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from melascope.datasets.sources.archive_taxonomy import PATHS, SEPARATOR, diagnosis_of
from melascope.datasets.sources.layout import (
    ImageIndex,
    Mapped,
    Row,
    Source,
    find_files,
    in_words,
    metadata_rows,
    read_rows,
)
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import DatasetError

#: `target` or `malignant`, where no diagnosis is given: benign is no melanoma, malignant may be one.
TARGET = {"0": (Diagnosis.UNK, False), "1": (Diagnosis.UNK, None)}


def _read(root: Path) -> Iterator[Case]:
    labels = find_files(root, "train-metadata.csv", "ISIC_2024_*Training_GroundTruth.csv")[0]
    rows = read_rows(labels, required=("isic_id",))
    more = metadata_rows(root, "ISIC_2024_*Training_Supplement.csv", key="isic_id")
    place = _places(root)
    for row in rows:
        image_id = row.required("isic_id")
        if image_id in more:
            row = Row(row.file, row.line, {**more[image_id].cells, **row.cells})
        diagnosis, melanoma = _diagnosis(row)
        yield Case(
            image_id=image_id,
            path=place(image_id),
            diagnosis=diagnosis,
            melanoma=melanoma,
            lesion_id=row.text("lesion_id"),
            patient_id=row.text("patient_id"),
            age=row.age("age_approx"),
            sex=row.sex("sex"),
            site=row.text("anatom_site_general"),
            source="isic2024",
        )


def _diagnosis(row: Row) -> Mapped:
    column = "target" if "target" in row.cells else "malignant"
    malignant = row.required(column).removesuffix(".0")
    if malignant not in TARGET:
        raise row.fault(column, "It must be 0 or 1.")
    path = row.text("iddx_full")
    if path is None:
        return TARGET[malignant]
    mapped = diagnosis_of(path.split(SEPARATOR))
    if mapped is None or path.startswith("Malignant") != (malignant == "1"):
        raise row.fault(
            "iddx_full", f"With {column} {malignant} it must begin with Benign, Indeterminate or Malignant."
        )
    return mapped


def _places(root: Path) -> Callable[[str], str]:
    """Where an image lies: in the HDF5 file if there is one, else in a folder."""
    archives = sorted(root.rglob("train-image.hdf5"))
    if not archives:
        return ImageIndex(root).find
    import h5py

    try:
        with h5py.File(archives[0], "r") as archive:
            held = set(archive.keys())
    except OSError as fault:
        raise DatasetError(
            f"{archives[0]}: is no readable HDF5 file ({fault}).", remedy="Download it again."
        ) from fault
    return lambda image_id: f"{archives[0]}#{image_id}" if image_id in held else ""


SOURCES = (
    Source(
        name="isic2024",
        title="ISIC 2024 (SLICE-3D)",
        licence="CC BY-NC 4.0",
        attribution="Kurtansky et al., Sci. Data 11:884 (2024)",
        url="https://doi.org/10.34970/2024-slice-3d",
        layout="train-metadata.csv and train-image.hdf5 (Kaggle), or ISIC_2024_Training_GroundTruth.csv, "
        "ISIC_2024_Training_Supplement.csv and images in any folder",
        mapping={**in_words(PATHS), "0 without iddx_full": "UNK, not melanoma", "1 without iddx_full": "UNK"},
        read=_read,
    ),
)
