"""One model judged on one set of cases, whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from melascope import __version__
from melascope.decision.calibration import Calibration
from melascope.decision.operating_point import OperatingPoint
from melascope.decision.prevalence import Prior
from melascope.errors import MelascopeError
from melascope.evaluation.compare import Comparison, compare
from melascope.evaluation.measure import Judged, Metrics, judge, measure
from melascope.evaluation.predictions import Predictions
from melascope.evaluation.subgroups import Subgroup, by_subgroup

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What turns logits into decisions, and where it is from."""

    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    main_point: str  #: name of the operating point that summaries speak of
    origin: str  #: in words
    other_lesions: bool  #: known to be fitted on lesions that are not among those judged


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Which predictions were judged."""

    name: str  #: of the file
    sha256: str  #: of the file
    split: str
    leak_override: str | None  #: the reason given where lesions judged may have been learnt from


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """All that the report shows and metrics.json keeps."""

    subject: Subject
    fitted: Fitted
    judged: Judged
    measured: Metrics
    uncalibrated: Metrics  #: of the raw softmax, without intervals
    subgroups: tuple[Subgroup, ...]
    compared_with: str | None  #: name of the other predictions file
    comparison: Comparison | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "schema_version": SCHEMA_VERSION,
            "melascope": __version__,
            "subject": asdict(self.subject),
            "fitted": asdict(self.fitted),
            "metrics": self.measured.to_dict(),
            "uncalibrated": self.uncalibrated.to_dict()["figures"],
            "subgroups": [subgroup.to_dict() for subgroup in self.subgroups],
            "compared_with": self.compared_with,
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
        }


def evaluate(
    rows: Predictions,
    fitted: Fitted,
    subject: Subject,
    *,
    prior: Prior = "training",
    n_bootstrap: int = 1000,
    seed: int = 0,
    other: tuple[str, Judged] | None = None,
) -> Evaluation:
    """Everything that can be said of these rows.

    Parameters
    ----------
    rows
        The rows to judge; none of them was fitted on.
    other
        Name and judged rows of a second model on the same images, to compare with.

    Raises
    ------
    MelascopeError
        No row has a truth to judge by, or `other` is not of the same images with the same truth.

    Warns
    -----
    UndefinedMetricWarning
        A figure has no value on these rows; it is NaN.
    """
    if np.isnan(rows.melanoma_N).all():
        raise MelascopeError(
            f"Of none of the {len(rows.cases)} rows to judge is it known whether it is a melanoma.",
            remedy="Predict from a case table with diagnoses: melascope predict CASES.csv.",
        )
    judged = judge(rows, fitted.calibration, prior=prior)
    main_point = next(point for point in fitted.operating_points if point.name == fitted.main_point)
    return Evaluation(
        subject=subject,
        fitted=fitted,
        judged=judged,
        measured=measure(
            rows,
            fitted.calibration,
            fitted.operating_points,
            prior=prior,
            n_bootstrap=n_bootstrap,
            seed=seed,
        ),
        uncalibrated=measure(rows, _as_trained(fitted.calibration), (), n_bootstrap=0),
        subgroups=by_subgroup(judged, main_point, n_bootstrap=n_bootstrap, seed=seed),
        compared_with=other[0] if other else None,
        comparison=compare(judged, other[1], n_bootstrap=n_bootstrap, seed=seed) if other else None,
    )


def _as_trained(calibration: Calibration) -> Calibration:
    return Calibration(
        method="none",
        temperature=1.0,
        bias_C=(0.0,) * len(calibration.bias_C),
        prevalence_C=calibration.prevalence_C,
        n_cases=calibration.n_cases,
        n_groups=calibration.n_groups,
    )
