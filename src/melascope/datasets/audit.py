"""What is wrong with a case table: copies, leaks, contradictions, damage, imbalance."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from melascope.datasets.duplicates import NearDuplicate, find_near_duplicates
from melascope.datasets.fingerprint import Fingerprints, fingerprint_cases
from melascope.datasets.leaks import Groups, Leak, bonds, check_split
from melascope.datasets.sources.layout import label_of
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import DatasetError

FORMAT_VERSION = 1
_AGE_BAND_YEARS = 20

#: Title of a stage -> what is called with (done, in all).
StageProgress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conflict:
    """Images that belong together and are labelled differently."""

    kind: str  #: lesion, bytes or duplicate
    key: str
    labels: Mapping[str, str]  #: image_id -> label


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """How often each class occurs together with each value of one column."""

    column: str
    counts: Mapping[str, Mapping[str, int]]  #: label -> value -> number of images


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """All findings about a case table."""

    cases: tuple[Case, ...]
    exact: tuple[tuple[str, ...], ...]  #: image_ids of equal bytes, two or more each
    near: tuple[NearDuplicate, ...]
    leaks: tuple[Leak, ...]
    conflicts: tuple[Conflict, ...]
    unreadable: Mapping[str, str]  #: image_id -> what is wrong
    altered: tuple[str, ...]  #: image_ids whose file no longer has the table's SHA-256
    balance: tuple[Balance, ...]

    @property
    def clusters(self) -> dict[str, str]:
        """`image_id` -> name of its duplicate cluster, for the images that have duplicates."""
        return cluster_duplicates(self.exact, self.near)

    @property
    def unexplained(self) -> tuple[NearDuplicate, ...]:
        """The near duplicates that the table does not know as one lesion or one patient."""
        ties = {case.image_id: bonds(case) for case in self.cases}
        return tuple(
            pair
            for pair in self.near
            if not any(
                kind in ties[pair.first] and ties[pair.first][kind] == ties[pair.second].get(kind)
                for kind in ("lesion", "patient")
            )
        )


def audit_cases(cases: Sequence[Case], *, progress: StageProgress) -> Audit:
    """Read every image and look for every fault.

    Parameters
    ----------
    progress
        Given the title of a stage, returns what is called with (done, in all).
    """
    exact, near, prints = _duplicates(cases, progress)
    digest = dict(zip(prints.image_ids, prints.sha256, strict=True))
    clusters = cluster_duplicates(exact, near)
    return Audit(
        cases=tuple(cases),
        exact=exact,
        near=near,
        leaks=tuple(check_split(cases, clusters)),
        conflicts=tuple(_conflicts(cases, clusters)),
        unreadable=prints.unreadable,
        altered=tuple(
            case.image_id
            for case in cases
            if case.sha256 is not None and digest.get(case.image_id, case.sha256) != case.sha256
        ),
        balance=tuple(_balance(cases)),
    )


def cluster_duplicates(exact: Sequence[Sequence[str]], near: Sequence[NearDuplicate]) -> dict[str, str]:
    """`image_id` -> smallest id of all its copies and their copies; images without a copy are left out."""
    pairs = [(ids[0], other) for ids in exact for other in ids[1:]] + [(p.first, p.second) for p in near]
    groups = Groups(image_id for pair in pairs for image_id in pair)
    for one, other in pairs:
        groups.join(one, other)
    return {image_id: groups.of(image_id) for pair in pairs for image_id in pair}


def find_clusters(
    cases: Sequence[Case], *, progress: StageProgress
) -> tuple[dict[str, str], Mapping[str, str]]:
    """The duplicate clusters alone, see `Audit.clusters`; and the unreadable images, which are in none."""
    exact, near, prints = _duplicates(cases, progress)
    return cluster_duplicates(exact, near), prints.unreadable


def images_digest(cases: Sequence[Case]) -> str:
    """SHA-256 of the table's image ids and file digests, in hex: the same in any order, with any labels."""
    pairs = sorted((case.image_id, case.sha256 or "") for case in cases)
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def read_clusters(file: Path, cases: Sequence[Case]) -> dict[str, str]:
    """The duplicate clusters of the `audit.json` of a case table.

    Raises
    ------
    DatasetError
        The file is absent, was not written by an audit, or is of other images.
    """
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        digest = report["images_digest"]
        clusters = {image_id: name for name, ids in report["clusters"].items() for image_id in ids}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as fault:
        raise DatasetError(
            f"{file}: is no report of an audit ({fault}).",
            remedy="Name the audit.json that `melascope data audit` wrote.",
        ) from fault
    if digest != images_digest(cases):
        raise DatasetError(
            f"{file}: the audit is of other images than the {len(cases)} of this table.",
            remedy="Audit this table anew with `melascope data audit`, or leave out --audit.",
        )
    return clusters


def _duplicates(
    cases: Sequence[Case], progress: StageProgress
) -> tuple[tuple[tuple[str, ...], ...], tuple[NearDuplicate, ...], Fingerprints]:
    prints = fingerprint_cases(cases, progress=progress("Reading images"))
    digest = dict(zip(prints.image_ids, prints.sha256, strict=True))
    near = find_near_duplicates(prints, progress=progress("Comparing images"))
    near = tuple(pair for pair in near if digest[pair.first] != digest[pair.second])
    return _equal_bytes(prints), near, prints


def _equal_bytes(prints: Fingerprints) -> tuple[tuple[str, ...], ...]:
    same: dict[str, list[str]] = defaultdict(list)
    for image_id, digest in zip(prints.image_ids, prints.sha256, strict=True):
        same[digest].append(image_id)
    return tuple(tuple(ids) for ids in same.values() if len(ids) > 1)


def _conflicts(cases: Sequence[Case], clusters: Mapping[str, str]) -> list[Conflict]:
    members: dict[tuple[str, Hashable], list[Case]] = defaultdict(list)
    for case in cases:
        for kind, key in bonds(case, clusters).items():
            if kind in ("lesion", "duplicate"):
                members[kind, key].append(case)
    return [
        Conflict(
            kind=kind,
            key=str(key),
            labels={case.image_id: label_of(case.diagnosis, case.melanoma) for case in inside},
        )
        for (kind, key), inside in members.items()
        if _contradict(inside)
    ]


def _contradict(cases: Sequence[Case]) -> bool:
    """Two known diagnoses that differ, or melanoma and not; what is unknown contradicts nothing."""
    known = {case.diagnosis for case in cases} - {Diagnosis.UNK}
    melanoma = {case.melanoma for case in cases} - {None}
    return len(known) > 1 or len(melanoma) > 1


def _balance(cases: Sequence[Case]) -> list[Balance]:
    columns: dict[str, Callable[[Case], str | None]] = {
        "split": lambda case: case.split,
        "source": lambda case: case.source,
        "sex": lambda case: case.sex,
        "age": lambda case: _age_band(case.age),
        "site": lambda case: case.site,
        "confirmed_by": lambda case: case.confirmed_by,
    }
    return [Balance(column=column, counts=_cross(cases, value)) for column, value in columns.items()]


def _cross(cases: Sequence[Case], value: Callable[[Case], str | None]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        counts[label_of(case.diagnosis, case.melanoma)][value(case) or "unknown"] += 1
    values = sorted({value for row in counts.values() for value in row}, key=lambda v: (v == "unknown", v))
    labels = sorted(counts, key=lambda label: (label.startswith("UNK"), label))
    return {label: {value: counts[label][value] for value in values} for label in labels}


def _age_band(age: float | None) -> str | None:
    if age is None:
        return None
    low = int(age) // _AGE_BAND_YEARS * _AGE_BAND_YEARS
    return f"{low:02d} to {low + _AGE_BAND_YEARS - 1}"
