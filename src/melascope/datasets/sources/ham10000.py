"""HAM10000: 10,015 dermatoscopic images (Tschandl, Rosendahl, Kittler, Sci. Data 5:180161, 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from melascope.datasets.sources.layout import ImageIndex, Source, in_words, only_file, read_rows
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis

#: `dx` -> taxonomy.
DX = {
    "akiec": (Diagnosis.AKIEC, False),
    "bcc": (Diagnosis.BCC, False),
    "bkl": (Diagnosis.BKL, False),
    "df": (Diagnosis.DF, False),
    "mel": (Diagnosis.MEL, True),
    "nv": (Diagnosis.NV, False),
    "vasc": (Diagnosis.VASC, False),
}


def _read(root: Path) -> Iterator[Case]:
    labels = only_file(root, "HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
    images = ImageIndex(root)
    for row in read_rows(labels, required=("lesion_id", "image_id", "dx")):
        image_id = row.required("image_id")
        diagnosis, melanoma = row.mapped("dx", DX)
        yield Case(
            image_id=image_id,
            path=images.find(image_id),
            diagnosis=diagnosis,
            melanoma=melanoma,
            lesion_id=row.required("lesion_id"),
            age=row.age("age"),
            sex=row.sex("sex"),
            site=row.text("localization"),
            confirmed_by=row.text("dx_type"),
            source="ham10000",
        )


SOURCES = (
    Source(
        name="ham10000",
        title="HAM10000",
        licence="CC BY-NC 4.0",
        attribution="ViDIR Group, Department of Dermatology, Medical University of Vienna; "
        "Tschandl, Rosendahl, Kittler, Sci. Data 5:180161 (2018)",
        url="https://doi.org/10.7910/DVN/DBW86T",
        layout="HAM10000_metadata.csv (or .tab); images in HAM10000_images_part_1, _part_2 or any folder",
        mapping=in_words(DX),
        read=_read,
    ),
)
