"""DermaMNIST of MedMNIST (Yang et al., Sci. Data 10:41, 2023): HAM10000 at 28 to 224 px in one npz file.

Its official parts share lesions, and the file does not say which (Abhishek et al., Sci. Data 12:196, 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from melascope.datasets.files import read_npz_array
from melascope.datasets.sources.layout import MappingTable, Source, in_words
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import DatasetError

PARTS = ("train", "val", "test")
#: Label -> taxonomy.
LABELS: MappingTable = {
    "0": (Diagnosis.AKIEC, False),
    "1": (Diagnosis.BCC, False),
    "2": (Diagnosis.BKL, False),
    "3": (Diagnosis.DF, False),
    "4": (Diagnosis.MEL, True),
    "5": (Diagnosis.NV, False),
    "6": (Diagnosis.VASC, False),
}


def _read(root: Path) -> Iterator[Case]:
    file = root if root.is_file() else _only_npz(root)
    for part in PARTS:
        labels = read_npz_array(str(file), f"{part}_labels").reshape(-1)
        for row, label in enumerate(labels):
            if str(label) not in LABELS:
                raise DatasetError(
                    f"{file}: {part}_labels, row {row} is {label}.",
                    remedy=f"Name a DermaMNIST file; its labels are {', '.join(LABELS)}.",
                )
            diagnosis, melanoma = LABELS[str(label)]
            yield Case(
                image_id=f"{file.stem}_{part}_{row}",
                path=f"{file}#{part}/{row}",
                diagnosis=diagnosis,
                melanoma=melanoma,
                source="dermamnist",
                split=part,
            )


def _only_npz(root: Path) -> Path:
    files = sorted(root.glob("dermamnist*.npz")) if root.is_dir() else []
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise DatasetError(
            f"{root}: one dermamnist*.npz is expected, found {names}.", remedy="Name the file itself."
        )
    return files[0]


SOURCES = (
    Source(
        name="dermamnist",
        title="DermaMNIST (MedMNIST v2)",
        licence="CC BY-NC 4.0",
        attribution="Yang et al., Sci. Data 10:41 (2023); Tschandl et al., Sci. Data 5:180161 (2018)",
        url="https://doi.org/10.5281/zenodo.10519652",
        layout="dermamnist.npz, dermamnist_64.npz, _128 or _224 (name the file, or a folder that holds one)",
        mapping=in_words(LABELS),
        read=_read,
    ),
)
