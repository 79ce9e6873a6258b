"""One model judged on one set of cases, whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np

from melascope import __version__
from melascope.decision.novelty import NoveltyLimits
from melascope.decision.operating_point import OperatingPoint
from melascope.domain.assessment import PredictiveValues
from melascope.errors import MelascopeError
from melascope.evaluation.compare import Comparison, compare
from melascope.evaluation.holdout import FittedDecision
from melascope.evaluation.judged import Judged, as_trained
from melascope.evaluation.measure import Metrics, measure
from melascope.evaluation.photographs import PhotographFigures, measure_photographs
from melascope.evaluation.projected import PREVALENCES, melanoma_share, project
from melascope.evaluation.selective import Selective, measure_selective
from melascope.evaluation.sets import SetFigures, measure_sets
from melascope.evaluation.subgroups import Subgroup, by_subgroup
from melascope.evaluation.triaged import TriageFigures, measure_triage

SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted(FittedDecision):
    """A decision and where it is from."""

    novelty: NoveltyLimits | None  #: None: no telling whether an image is like those learnt from
    n_folds: (
        int | None
    )  #: the rows judged were judged in so many parts, each by what was fitted on the others
    main_point: str  #: name of the operating point that summaries speak of
    origin: str  #: in words
    other_lesions: bool  #: it is known that no lesion is judged by what was fitted on it

    @property
    def main(self) -> OperatingPoint:
        """The operating point that summaries speak of."""
        return next(point for point in self.operating_points if point.name == self.main_point)


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
    uncalibrated: Metrics  #: of the raw softmax
    triage: TriageFigures  #: at the main operating point
    predictive_values: dict[
        str, tuple[PredictiveValues, ...]
    ]  #: operating point -> as judged, and at `PREVALENCES`
    sets: SetFigures | None  #: None where no prediction sets are promised
    selective: Selective
    photographs: PhotographFigures
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
            "triage": self.triage.to_dict(),
            "predictive_values": {
                point: [asdict(projected) for projected in values]
                for point, values in self.predictive_values.items()
            },
            "prediction_sets": None if self.sets is None else self.sets.to_dict(),
            "selective": self.selective.to_dict(),
            "photographs": self.photographs.to_dict(),
            "subgroups": [subgroup.to_dict() for subgroup in self.subgroups],
            "compared_with": self.compared_with,
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
        }


def evaluate(
    judged: Judged,
    fitted: Fitted,
    subject: Subject,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    other: tuple[str, Judged] | None = None,
) -> Evaluation:
    """Everything that can be said of these rows.

    Parameters
    ----------
    judged
        The rows, none of them judged by what was fitted on it.
    fitted
        What judged them; where they were judged in folds, what is fitted on all of them.
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
    rows = judged.predictions
    if np.isnan(rows.melanoma_N).all():
        raise MelascopeError(
            f"Of none of the {len(rows.cases)} rows to judge is it known whether it is a melanoma.",
            remedy="Predict from a case table with diagnoses: melascope predict CASES.csv.",
        )
    draws: _Draws = {"n_bootstrap": n_bootstrap, "seed": seed}
    return Evaluation(
        subject=subject,
        fitted=fitted,
        judged=judged,
        measured=measure(judged, **draws),
        uncalibrated=measure(as_trained(rows), **draws),
        triage=measure_triage(judged, fitted.main_point, fitted.novelty, **draws),
        predictive_values={
            point.name: project(judged, point, (melanoma_share(judged), *PREVALENCES))
            for point in fitted.operating_points
        },
        sets=measure_sets(judged, fitted.conformal, **draws) if fitted.conformal else None,
        selective=measure_selective(judged, **draws),
        photographs=measure_photographs(judged, fitted.novelty, **draws),
        subgroups=by_subgroup(judged, fitted.main_point, **draws),
        compared_with=other[0] if other else None,
        comparison=compare(judged, other[1], **draws) if other else None,
    )


class _Draws(TypedDict):
    n_bootstrap: int
    seed: int
