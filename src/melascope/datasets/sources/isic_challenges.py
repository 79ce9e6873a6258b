"""The ISIC challenges of 2016 to 2019, as they are downloaded from challenge.isic-archive.com."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from melascope.datasets.sources.layout import (
    ImageIndex,
    MappingTable,
    Source,
    find_files,
    in_words,
    metadata_rows,
    part_of,
    read_rows,
)
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import TableError

#: ISIC 2016 Part 3 (malignant means melanoma there): label -> taxonomy; the test part writes numbers.
ISIC_2016: MappingTable = {
    "benign": (Diagnosis.UNK, False),
    "malignant": (Diagnosis.MEL, True),
    "0.0": (Diagnosis.UNK, False),
    "1.0": (Diagnosis.MEL, True),
}
#: ISIC 2017 Part 3: marked column -> taxonomy. Neither is a "nevus" for the challenge's page, yet the label
#: file does not say so: the diagnosis stays unknown.
ISIC_2017: MappingTable = {
    "melanoma": (Diagnosis.MEL, True),
    "seborrheic_keratosis": (Diagnosis.BKL, False),
    "neither": (Diagnosis.UNK, False),
}
#: ISIC 2018 Task 3: marked column -> taxonomy.
ISIC_2018: MappingTable = {
    "MEL": (Diagnosis.MEL, True),
    "NV": (Diagnosis.NV, False),
    "BCC": (Diagnosis.BCC, False),
    "AKIEC": (Diagnosis.AKIEC, False),
    "BKL": (Diagnosis.BKL, False),
    "DF": (Diagnosis.DF, False),
    "VASC": (Diagnosis.VASC, False),
}
#: ISIC 2019: marked column -> taxonomy; UNK is "none of the others" (test part only).
ISIC_2019: MappingTable = {
    "MEL": (Diagnosis.MEL, True),
    "NV": (Diagnosis.NV, False),
    "BCC": (Diagnosis.BCC, False),
    "AK": (Diagnosis.AKIEC, False),
    "BKL": (Diagnosis.BKL, False),
    "DF": (Diagnosis.DF, False),
    "VASC": (Diagnosis.VASC, False),
    "SCC": (Diagnosis.SCC, False),
    "UNK": (Diagnosis.UNK, False),
}


def _read_2016(root: Path) -> Iterator[Case]:
    files = find_files(root, "ISBI2016_ISIC_Part3_*GroundTruth.csv", "ISBI2016_ISIC_Part3B_*GroundTruth.csv")
    images = ImageIndex(root)
    for file in files:
        for row in read_rows(file, required=(), columns=("image", "label")):
            image_id = row.required("image")
            diagnosis, melanoma = row.mapped("label", ISIC_2016)
            yield Case(
                image_id=image_id,
                path=images.find(image_id),
                diagnosis=diagnosis,
                melanoma=melanoma,
                source="isic2016",
                split=part_of(file),
            )


def _read_2017(root: Path) -> Iterator[Case]:
    files = find_files(root, "ISIC-2017_*Part3_GroundTruth*.csv")
    metadata = metadata_rows(root, "ISIC-2017_*metadata.csv", key="image_id")
    images = ImageIndex(root)
    for file in files:
        for row in read_rows(file, required=("image_id", "melanoma", "seborrheic_keratosis")):
            image_id = row.required("image_id")
            marked = row.marked(("melanoma", "seborrheic_keratosis"))
            if len(marked) > 1:
                raise row.fault("melanoma", "It cannot be 1 where seborrheic_keratosis is 1.")
            diagnosis, melanoma = ISIC_2017[marked[0] if marked else "neither"]
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


def _read_one_hot(
    root: Path, *, source: str, labels: str, about: tuple[str, ...], table: MappingTable
) -> Iterator[Case]:
    """ISIC 2018 and 2019: one column a class, and metadata beside it."""
    files = find_files(root, labels)
    metadata = metadata_rows(root, *about, key="image")
    images = ImageIndex(root)
    for file in files:
        for row in read_rows(file, required=("image", *(column for column in table if column != "UNK"))):
            image_id = row.required("image")
            marked = row.marked(tuple(column for column in table if column in row.cells))
            if len(marked) != 1:
                raise TableError(
                    f"{file}, line {row.line}: {len(marked)} classes are marked ({', '.join(marked)}).",
                    remedy="Exactly one must be 1.",
                )
            diagnosis, melanoma = table[marked[0]]
            known = metadata.get(image_id)
            yield Case(
                image_id=image_id,
                path=images.find(image_id),
                diagnosis=diagnosis,
                melanoma=melanoma,
                lesion_id=known.text("lesion_id") if known else None,
                age=known.age("age_approx") if known else None,
                sex=known.sex("sex") if known else None,
                site=known.text("anatom_site_general") if known else None,
                confirmed_by=known.text("diagnosis_confirm_type") if known else None,
                source=source,
                split=part_of(file),
            )


SOURCES = (
    Source(
        name="isic2016",
        title="ISIC 2016, Part 3",
        licence="CC0",
        attribution="Gutman et al., arXiv:1605.01397 (2016)",
        url="https://challenge.isic-archive.com/data/#2016",
        layout="ISBI2016_ISIC_Part3_*_GroundTruth.csv (no header; one part or several), images anywhere",
        mapping=in_words(ISIC_2016),
        read=_read_2016,
    ),
    Source(
        name="isic2017",
        title="ISIC 2017, Part 3",
        licence="CC0",
        attribution="Codella et al., arXiv:1710.05006 (2017)",
        url="https://challenge.isic-archive.com/data/#2017",
        layout="ISIC-2017_*_Part3_GroundTruth.csv (one part or several), images anywhere; metadata optional",
        mapping=in_words(ISIC_2017),
        read=_read_2017,
    ),
    Source(
        name="isic2018",
        title="ISIC 2018, Task 3",
        licence="CC BY-NC 4.0",
        attribution="Codella et al., arXiv:1902.03368 (2019); Tschandl et al., Sci. Data 5:180161 (2018)",
        url="https://challenge.isic-archive.com/data/#2018",
        layout="ISIC2018_Task3_*_GroundTruth.csv (one part or several), images anywhere; metadata or "
        "lesion groupings optional",
        mapping=in_words(ISIC_2018),
        read=partial(
            _read_one_hot,
            source="isic2018",
            labels="ISIC2018_Task3_*GroundTruth.csv",
            about=("ISIC2018_Task3_*Metadata*.csv", "ISIC2018_Task3_*LesionGroupings*.csv"),
            table=ISIC_2018,
        ),
    ),
    Source(
        name="isic2019",
        title="ISIC 2019",
        licence="CC BY-NC 4.0",
        attribution="Tschandl et al., Sci. Data 5:180161 (2018); Codella et al., arXiv:1710.05006 (2017); "
        "Combalia et al., arXiv:1908.02288 (2019)",
        url="https://challenge.isic-archive.com/data/#2019",
        layout="ISIC_2019_*_GroundTruth.csv (one part or several), images in any folder; metadata optional",
        mapping=in_words(ISIC_2019),
        read=partial(
            _read_one_hot,
            source="isic2019",
            labels="ISIC_2019_*GroundTruth.csv",
            about=("ISIC_2019_*Metadata*.csv",),
            table=ISIC_2019,
        ),
    ),
)
