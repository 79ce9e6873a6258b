"""Which rows fit and which rows judge: never the same lesion twice."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np

from melascope.decision.calibration import Calibration, CalibrationMethod, fit_calibration
from melascope.decision.operating_point import OperatingPoint, fit_operating_points
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import LeakError, MelascopeError
from melascope.evaluation.predictions import Predictions

#: In place of a split's name: every row.
ALL = "all"
_LEARNT_FROM = ("train", "val")


def rows_of_split(predictions: Predictions, split: str) -> Predictions:
    """The rows of a split; every row for "all".

    Raises
    ------
    MelascopeError
        No row is of that split.
    """
    if split == ALL:
        return predictions
    found = Counter(case.split or "(none)" for case in predictions.cases)
    if split not in found:
        listed = ", ".join(f"{name} ({n})" for name, n in found.most_common())
        raise MelascopeError(
            f"No row of the predictions is of the split {split!r}; found {listed}.",
            remedy=f"Name one of these, or {ALL!r} for every row.",
        )
    return predictions.where([case.split == split for case in predictions.cases])


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


def check_unseen(rows: Predictions) -> None:
    """Refuse rows of splits that models learn from or are fitted on: train, val, and numbered folds.

    Of a bundle it is not known which lesions it has seen; the names of the splits are what there is to go by.

    Raises
    ------
    LeakError
        Naming those splits.
    """
    seen = Counter(
        case.split
        for case in rows.cases
        if case.split and (case.split in _LEARNT_FROM or case.split.isdecimal())
    )
    if seen:
        listed = ", ".join(f"{name}: {n}" for name, n in sorted(seen.items()))
        raise LeakError(
            f"Of the rows to judge, some are of splits that models are trained or fitted on ({listed}).",
            remedy="Judge --split test, or say with --allow-leak why the bundle has not seen these.",
        )


def fit_decision(
    predictions: Predictions, *, method: CalibrationMethod | Literal["auto"] = "auto"
) -> tuple[Calibration, tuple[OperatingPoint, ...]]:
    """Calibration and operating points from held-out rows; each lesion has one vote in both.

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
    score_N = np.exp(calibration.log_probabilities(predictions.logits_NC)[:, melanoma_index])
    return calibration, fit_operating_points(score_N, predictions.melanoma_N, predictions.lesions_N)
