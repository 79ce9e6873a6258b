"""Which rows fit and which rows judge: never the same lesion twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from melascope.decision.calibration import Calibration, CalibrationMethod, fit_calibration
from melascope.decision.conformal import ConformalSets, fit_conformal
from melascope.decision.operating_point import OperatingPoint, fit_operating_points
from melascope.domain.case import UNNAMED
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import LeakError, MelascopeError
from melascope.evaluation.predictions import Predictions

#: In place of a split's name: every row.
ALL = "all"
_LEARNT_FROM = ("train", "val")


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedDecision:
    """What turns logits into probabilities, prediction sets and referrals."""

    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    conformal: ConformalSets | None  #: None where no prediction sets are promised


def splits_named(split: str) -> frozenset[str]:
    """The splits that an option such as "val+test" names."""
    return frozenset(split.split("+"))


def rows_of_split(predictions: Predictions, split: str) -> Predictions:
    """The rows of a split, or of several joined with "+"; every row for "all".

    Raises
    ------
    MelascopeError
        No row is of one of the splits.
    """
    wanted = splits_named(split)
    if ALL in wanted:
        return predictions
    found = Counter(case.split or "(none)" for case in predictions.cases)
    if absent := wanted - found.keys():
        listed = ", ".join(f"{name} ({n})" for name, n in found.most_common())
        raise MelascopeError(
            f"No row of the predictions is of the split {min(absent)!r}; found {listed}.",
            remedy=f"Name one of these, several joined with +, or {ALL!r} for every row.",
        )
    return predictions.where([(case.split or "(none)") in wanted for case in predictions.cases])


def folds(predictions: Predictions, n_folds: int, *, seed: int = 0) -> NDArray[np.intp]:
    """Fold of each row, shape (n,), from 0: no lesion and no patient stands in two, melanomas are spread evenly.

    Raises
    ------
    MelascopeError
        Fewer lesions or patients than folds.
    """
    _, lesion_N = np.unique(np.asarray(predictions.lesions_N, dtype=str), return_inverse=True)
    _, group_N = np.unique(np.asarray(predictions.groups_N, dtype=str), return_inverse=True)
    n_lesions = int(lesion_N.max(initial=-1)) + 1
    size = n_lesions + int(group_N.max(initial=-1)) + 1
    links = coo_array((np.ones(len(lesion_N)), (lesion_N, n_lesions + group_N)), shape=(size, size))
    n_units, unit_of_node = connected_components(links, directed=False)
    if n_units < n_folds:
        raise MelascopeError(
            f"The rows are of {n_units} lesions or patients; {n_folds} folds were asked for.",
            remedy="Take fewer folds, or more rows.",
        )
    unit_N = unit_of_node[lesion_N]
    melanoma_U = np.bincount(unit_N, weights=np.nan_to_num(predictions.melanoma_N), minlength=n_units) > 0
    shuffled_U = np.random.default_rng(seed).permutation(n_units)
    fold_U = np.empty(n_units, dtype=np.intp)
    fold_U[shuffled_U[np.argsort(melanoma_U[shuffled_U], kind="stable")]] = np.arange(n_units) % n_folds
    return np.asarray(fold_U[unit_N])


def check_no_leak(predictions: Predictions) -> None:
    """Refuse a table in which a lesion or patient stands in more than one split.

    Raises
    ------
    LeakError
        Naming how many, and the first.
    """
    splits: dict[str, set[str]] = {}
    for case, lesion in zip(predictions.cases, predictions.lesions_N, strict=True):
        for unit in (case.group, lesion):
            splits.setdefault(unit, set()).add(case.split or "(none)")
    leaking = sorted(unit for unit, found in splits.items() if len(found) > 1)
    if leaking:
        first = leaking[0]
        raise LeakError(
            f"{len(leaking)} lesions or patients stand in more than one split, the first {first!r} in "
            f"{' and '.join(sorted(splits[first]))}: figures from such a table flatter the model.",
            remedy="Split with `melascope data split` and train anew, or give a reason with --allow-leak.",
        )


def check_unseen(
    rows: Predictions, *, fitted_on: Collection[str], sources: Collection[str], what: str = "rows to judge"
) -> None:
    """Refuse rows that a bundle may have seen: of the splits train, val and numbered folds, of those its decision was
    fitted on, and rows of no split from a dataset that it was trained on.

    Of a bundle it is not known which lesions it has seen; the names of splits and datasets are what there is to go by.

    Parameters
    ----------
    fitted_on
        Splits that the bundle's decision was fitted on.
    sources
        Datasets that it was trained on.
    what
        What the rows are called in the error.

    Raises
    ------
    LeakError
        Naming those splits and datasets.
    """
    fitted = {*_LEARNT_FROM, *fitted_on}
    seen = Counter(
        case.split or f"no split, from {case.source or UNNAMED}"
        for case in rows.cases
        if (
            case.split in fitted or case.split.isdecimal()
            if case.split
            else (case.source or UNNAMED) in sources
        )
    )
    if seen:
        listed = ", ".join(f"{name}: {n}" for name, n in sorted(seen.items()))
        raise LeakError(
            f"Of the {what}, some are such as the bundle was trained or fitted on ({listed}).",
            remedy="Judge rows of another split, or say with --allow-leak why the bundle has not seen these.",
        )


def fit_decision_on(predictions: Predictions, split: str) -> FittedDecision:
    """`fit_decision` on the rows of a split, which its errors name."""
    rows = rows_of_split(predictions, split)
    try:
        return fit_decision(rows)
    except MelascopeError as fault:
        raise MelascopeError(f"Split {split}: {fault.message}", remedy=fault.remedy) from fault


def fit_decision(
    predictions: Predictions, *, method: CalibrationMethod | Literal["auto"] = "auto"
) -> FittedDecision:
    """Calibration, operating points and prediction sets from held-out rows; each lesion has one vote in all.

    Raises
    ------
    MelascopeError
        Too few lesions, with or without melanoma.
    """
    melanoma_index = predictions.classes.index(Diagnosis.MEL)
    calibration = fit_calibration(
        predictions.logits_NC,
        predictions.class_index_N,
        predictions.lesions_N,
        melanoma_N=predictions.melanoma_N,
        melanoma_index=melanoma_index,
        method=method,
    )
    log_probability_NC = calibration.log_probabilities(predictions.logits_NC)
    return FittedDecision(
        calibration=calibration,
        operating_points=fit_operating_points(
            np.exp(log_probability_NC[:, melanoma_index]), predictions.melanoma_N, predictions.lesions_N
        ),
        conformal=fit_conformal(log_probability_NC, predictions.class_index_N, predictions.lesions_N),
    )
