"""Which cases a run learns from, is validated on, and is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from melascope.domain.case import Case
from melascope.errors import TableError


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """A case table, divided for one run."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    evaluate: tuple[Case, ...]  #: all cases that are not trained on, `val` first


def trained_on(cases: Sequence[Case], fold: str | None) -> tuple[Case, ...]:
    """The cases that a run learns from."""
    if fold is None:
        return tuple(case for case in cases if case.split == "train")
    return tuple(case for case in cases if (case.split or "").isdecimal() and case.split != fold)


def validated_on(cases: Sequence[Case], fold: str | None) -> tuple[Case, ...]:
    """The cases by which a run's epoch is chosen."""
    return tuple(case for case in cases if case.split == (fold or "val"))


def divide(cases: Sequence[Case], fold: str | None) -> Parts:
    """Train, validation and everything to be judged.

    Without `fold` the splits "train" and "val" are those; with it, the cases of that fold are validated on and those
    of the other numbered folds trained on. Cases of any other split are judged and never learnt from.

    Raises
    ------
    TableError
        No split at all, nothing to train or validate on, or no such fold.
    """
    if all(case.split is None for case in cases):
        raise TableError("The case table has no split.", remedy="Make one with `melascope data split`.")
    folds = sorted({case.split for case in cases if case.split and case.split.isdecimal()}, key=int)
    if fold is not None and fold not in folds:
        raise TableError(
            f"There is no fold {fold!r}; "
            + (f"the folds are {', '.join(folds)}." if folds else "the case table has none."),
            remedy="Name one of them."
            if folds
            else "Leave --fold out, or make folds with `melascope data split --folds 5`.",
        )
    train, val = trained_on(cases, fold), validated_on(cases, fold)
    if not train or not val:
        found = ", ".join(
            f"{split or 'none'}: {n}" for split, n in Counter(case.split for case in cases).items()
        )
        raise TableError(
            f"There are {len(train)} cases to train on and {len(val)} to validate on (splits: {found}).",
            remedy="Give both splits `train` and `val`."
            if fold is None and not folds
            else "Name one of the folds with --fold; a cross-validation needs two or more.",
        )
    trained = {case.image_id for case in (*train, *val)}
    rest = tuple(case for case in cases if case.split and case.image_id not in trained)
    return Parts(train=train, val=val, evaluate=(*val, *rest))
