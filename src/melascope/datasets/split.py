"""Dealing cases into parts or folds: stratified, and never one lesion, patient or picture on two sides."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace

from melascope.datasets.leaks import group_cases
from melascope.domain.case import Case
from melascope.errors import LeakError, UsageError


def split_cases(
    cases: Sequence[Case],
    *,
    fractions: Mapping[str, float] | None = None,
    folds: int | None = None,
    seed: int,
    clusters: Mapping[str, Hashable] | None = None,
    fixed: Collection[str] = (),
) -> list[Case]:
    """The cases, in their order, each with its split.

    Cases of one patient, one lesion, one duplicate cluster or with equal bytes stay together. Whole groups
    are dealt one by one, the largest and rarest first, each to the part that lacks most of the classes in it
    (also within its source). The result depends on the seed and the image ids, not on the order
    of rows.

    Parameters
    ----------
    fractions
        Name of each part -> its share; they sum to 1. Either this or `folds`.
    folds
        Number of equal parts, called "0", "1", ...
    clusters
        `image_id` -> duplicate cluster (see `audit.Audit.clusters`).
    fixed
        Names of splits that stay as they are; cases grouped with one of them join it, the rest are dealt.

    Raises
    ------
    UsageError
        Neither or both of `fractions` and `folds`, shares that do not sum to 1, more parts than groups, a fixed split
        that no case is of.
    LeakError
        A group holds cases of two fixed splits.
    """
    shares = _shares(fractions, folds)
    found = Counter(case.split or "(none)" for case in cases)
    if absent := set(fixed) - found.keys():
        listed = ", ".join(f"{name} ({n})" for name, n in found.most_common())
        raise UsageError(
            f"No case is of the split {min(absent)!r}, which is to stay as it is; found {listed}.",
            remedy="Fix splits that the case table has: cases that are not fixed are dealt, and trained on.",
        )
    members: dict[str, list[Case]] = defaultdict(list)
    ordered = sorted(cases, key=lambda case: case.image_id)  # sums of floats depend on their order
    for case, group in zip(ordered, group_cases(ordered, clusters), strict=True):
        members[group].append(case)
    part_of_group: dict[str, str] = {}
    for group, inside in members.items():
        kept = {case.split for case in inside if case.split in fixed and case.split is not None}
        if len(kept) > 1:
            raise LeakError(
                f"{inside[0].image_id} and {len(inside) - 1} more images belong together and are fixed in "
                f"{' and '.join(sorted(kept))}.",
                remedy="Drop one side, or fix fewer splits.",
            )
        if kept:
            part_of_group[group] = kept.pop()
    free = {group: inside for group, inside in members.items() if group not in part_of_group}
    if len(free) < len(shares):
        raise UsageError(
            f"{len(free)} groups cannot fill {len(shares)} parts.", remedy="Ask for fewer parts."
        )
    part_of_group |= _deal(free, shares, seed)
    part = {case.image_id: part_of_group[group] for group, inside in members.items() for case in inside}
    return [replace(case, split=part[case.image_id]) for case in cases]


def _shares(fractions: Mapping[str, float] | None, folds: int | None) -> dict[str, float]:
    if (fractions is None) == (folds is None):
        raise UsageError("A split needs either fractions or folds.", remedy="Give one of the two.")
    if folds is not None:
        if folds < 2:
            raise UsageError(f"{folds} folds are no split.", remedy="Ask for two or more.")
        return {str(fold): 1 / folds for fold in range(folds)}
    shares = dict(fractions or {})
    if (
        not shares
        or not all(0 < share <= 1 for share in shares.values())
        or not math.isclose(sum(shares.values()), 1)
    ):
        raise UsageError(
            f"The fractions are {shares}.", remedy="Each must be above 0, and together they must be 1."
        )
    return shares


def _strata(case: Case) -> tuple[Hashable, ...]:
    """What is to be spread evenly: the whole, the class, the class within its source."""
    label = (case.diagnosis, case.melanoma)
    return ("all", ("class", label), ("class and source", label, case.source))


def _deal(groups: Mapping[str, Sequence[Case]], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    counts = {group: Counter(s for case in inside for s in _strata(case)) for group, inside in groups.items()}
    totals: Counter[Hashable] = Counter()
    for count in counts.values():
        totals.update(count)

    def order(group: str) -> tuple[int, int, str]:
        shuffled = hashlib.sha256(f"{seed}\0{group}".encode()).hexdigest()
        return -len(groups[group]), min(totals[stratum] for stratum in counts[group]), shuffled

    dealt: dict[str, Counter[Hashable]] = {part: Counter() for part in shares}

    def cost(part: str, group: str) -> float:
        """Growth of the squared distance from the wanted counts, each relative to the count wanted."""
        have, share = dealt[part], shares[part]
        return sum(
            n * (2 * (have[s] - share * totals[s]) + n) / (share * totals[s])
            for s, n in counts[group].items()
        )

    part_of_group: dict[str, str] = {}
    for group in sorted(groups, key=order):
        part = min(shares, key=lambda part: (cost(part, group), part))
        dealt[part].update(counts[group])
        part_of_group[group] = part
    return part_of_group
