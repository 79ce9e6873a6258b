"""The ISIC challenges of 2016 to 2019, as they are downloaded from challenge.isic-archive.com."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from melascope.datasets.sources.layout import ImageIndex, Row, Source, find_files, part_of, read_rows
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis

#: ISIC 2017 Part 3: (melanoma, seborrheic_keratosis) -> taxonomy. Neither is "nevus" for the challenge's page,
#: yet the label file does not say so: the diagnosis stays unknown.
ISIC_2017 = {
    ("1", "0"): (Diagnosis.MEL, True),
    ("0", "1"): (Diagnosis.BKL, False),
    ("0", "0"): (Diagnosis.UNK, False),
}
#: ISIC 2018 Task 3: marked column -> taxonomy.
ISIC_2018 = {
    "MEL": (Diagnosis.MEL, True),
    "NV": (Diagnosis.NV, False),
    "BCC": (Diagnosis.BCC, False),
    "AKIEC": (Diagnosis.AKIEC, False),
    "BKL": (Diagnosis.BKL, False),
    "DF": (Diagnosis.DF, False),
    "VASC": (Diagnosis.VASC, False),
}


def _read_2017(root: Path) -> Iterator[Case]:
    files = find_files(root, "ISIC-2017_*Part3_GroundTruth*.csv")
    metadata = _metadata(root, "ISIC-2017_*etadata*.csv", key="image_id")
    images = ImageIndex(root)
    for file in files:
        for row in read_rows(file, required=("image_id", "melanoma", "seborrheic_keratosis")):
            image_id = row.required("image_id")
            flags = (
                row.cells["melanoma"].removesuffix(".0"),
                row.cells["seborrheic_keratosis"].removesuffix(".0"),
            )
            if flags not in ISIC_2017:
                raise row.fault(
                    "melanoma", f"With seborrheic_keratosis {flags[1]!r} it must be 0 or 1, not both 1."
                )
            diagnosis, melanoma = ISIC_2017[flags]
            about = metadata.get(image_id)
            yield Case(
                image_id=image_id,
                path=images.find(image_id),
                diagnosis=diagnosis,
                melanoma=melanoma,
                age=about.age("age_approximate") if about else None,
                sex=about.sex("sex") if about else None,
                source="isic2017",
                split=part_of(file),
            )


def _read_2018(root: Path) -> Iterator[Case]:
    files = find_files(root, "ISIC2018_Task3_*GroundTruth.csv")
    metadata = _metadata(
        root, "ISIC2018_Task3_*Metadata*.csv", "ISIC2018_Task3_*LesionGroupings*.csv", key="image"
    )
    images = ImageIndex(root)
    for file in files:
        for row in read_rows(file, required=("image", *ISIC_2018)):
            image_id = row.required("image")
            diagnosis, melanoma = row.one_hot(ISIC_2018)
            about = metadata.get(image_id)
            yield Case(
                image_id=image_id,
                path=images.find(image_id),
                diagnosis=diagnosis,
                melanoma=melanoma,
                lesion_id=about.text("lesion_id") if about else None,
                age=about.age("age_approx") if about else None,
                sex=about.sex("sex") if about else None,
                site=about.text("anatom_site_general") if about else None,
                confirmed_by=about.text("diagnosis_confirm_type") if about else None,
                source="isic2018",
                split=part_of(file),
            )


def _metadata(root: Path, *patterns: str, key: str) -> Mapping[str, Row]:
    """The rows of the optional metadata files by image."""
    files = [file for pattern in patterns for file in sorted(root.rglob(pattern))]
    return {row.required(key): row for file in files for row in read_rows(file, required=(key,))}


SOURCES = (
    Source(
        name="isic2017",
        title="ISIC 2017, Part 3",
        licence="CC0",
        attribution="Codella et al., arXiv:1710.05006 (2017)",
        url="https://challenge.isic-archive.com/data/#2017",
        layout="ISIC-2017_*_Part3_GroundTruth.csv (one part or several), metadata csv optional, images in any folder",
        mapping={
            "melanoma": Diagnosis.MEL,
            "seborrheic_keratosis": Diagnosis.BKL,
            "neither": "UNK, not melanoma",
        },
        read=_read_2017,
    ),
    Source(
        name="isic2018",
        title="ISIC 2018, Task 3",
        licence="CC BY-NC 4.0",
        attribution="Codella et al., arXiv:1902.03368 (2019); Tschandl et al., Sci. Data 5:180161 (2018)",
        url="https://challenge.isic-archive.com/data/#2018",
        layout="ISIC2018_Task3_*_GroundTruth.csv (one part or several), metadata or lesion groupings csv optional, "
        "images in any folder",
        mapping={word: diagnosis for word, (diagnosis, _) in ISIC_2018.items()},
        read=_read_2018,
    ),
)
