"""What ties images to each other, and whether a split tears such ties apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from melascope.domain.case import Case
from melascope.errors import LeakError


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Images that belong together and stand in more than one split."""

    kind: str  #: patient, lesion, bytes or duplicate
    key: str  #: the id that they have in common
    splits: tuple[str, ...]
    image_ids: tuple[str, ...]

    def __str__(self) -> str:
        few = ", ".join(self.image_ids[:4]) + (", ..." if len(self.image_ids) > 4 else "")
        return f"{self.kind} {self.key} is in {' and '.join(self.splits)} ({few})"


def check_split(cases: Sequence[Case], clusters: Mapping[str, Hashable] | None = None) -> list[Leak]:
    """Every patient, lesion, file content or duplicate cluster that stands in more than one split.

    The same images tied in several ways are told once.

    Parameters
    ----------
    cases
        Those without a split are ignored.
    clusters
        `image_id` -> duplicate cluster, as an audit finds them (`Audit.clusters`).
    """
    members: dict[tuple[str, Hashable], list[Case]] = defaultdict(list)
    for case in cases:
        if case.split is not None:
            for kind, key in bonds(case, clusters).items():
                members[kind, key].append(case)
    leaks: dict[tuple[str, ...], Leak] = {}
    for (kind, key), inside in members.items():
        splits = {case.split for case in inside if case.split is not None}
        image_ids = tuple(case.image_id for case in inside)
        if len(splits) > 1 and image_ids not in leaks:
            leaks[image_ids] = Leak(
                kind=kind, key=str(key), splits=tuple(sorted(splits)), image_ids=image_ids
            )
    return list(leaks.values())


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Raise if there is a leak.

    Raises
    ------
    LeakError
        Names how many and the first few.
    """
    if leaks:
        few = "; ".join(str(leak) for leak in leaks[:3])
        raise LeakError(
            f"The split leaks in {len(leaks)} place{'s' if len(leaks) > 1 else ''}: {few}.",
            remedy="Split again with `melascope data split`, which keeps together what belongs together.",
        )


def bonds(case: Case, clusters: Mapping[str, Hashable] | None = None) -> dict[str, Hashable]:
    """What ties a case to others: kind of bond -> key that cases tied so have in common."""
    values: dict[str, Hashable] = {
        "patient": case.patient,
        "lesion": case.lesion,
        "bytes": case.sha256,
        "duplicate": (clusters or {}).get(case.image_id),
    }
    return {kind: key for kind, key in values.items() if key is not None}


def group_cases(cases: Sequence[Case], clusters: Mapping[str, Hashable] | None = None) -> list[str]:
    """For each case the smallest `image_id` of all that must stay on its side of a split."""
    groups = Groups(case.image_id for case in cases)
    first: dict[tuple[str, Hashable], str] = {}
    for case in cases:
        for bond in bonds(case, clusters).items():
            groups.join(case.image_id, first.setdefault(bond, case.image_id))
    return [groups.of(case.image_id) for case in cases]


class Groups:
    """A union-find: items that are joined, directly or through others, are of one group."""

    def __init__(self, items: Iterable[str]) -> None:
        self._parent = {item: item for item in items}

    def of(self, item: str) -> str:
        """The smallest item of the group."""
        parent = self._parent
        while parent[item] != item:
            parent[item] = item = parent[parent[item]]
        return item

    def join(self, one: str, other: str) -> None:
        """Make one group of two."""
        low, high = sorted((self.of(one), self.of(other)))
        self._parent[high] = low
