"""Do the prediction sets hold the truth as often as promised, and how much do they leave open?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melascope.decision.conformal import ConformalSets
from melascope.domain.diagnosis import Diagnosis
from melascope.evaluation import metrics
from melascope.evaluation.intervals import Estimate, Named, Statistic, estimate
from melascope.evaluation.judged import Judged
from melascope.evaluation.measure import figures_to_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCoverage:
    """How often the sets hold one diagnosis where it is the truth."""

    n_lesions: int  #: judged
    n_calibration: int  #: lesions that the promise is from
    promised: bool  #: False: too few of them; the diagnosis is then in every set
    coverage: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class SetFigures:
    """Prediction sets on one set of cases; each lesion has one vote, shared by its images."""

    promise: float  #: coverage of each diagnosis, 0 to 1
    per_class: dict[Diagnosis, ClassCoverage]
    figures: dict[str, Estimate]  #: coverage over all diagnoses, mean_size, shares single and empty
    size_shares: tuple[float, ...]  #: share of the sets that hold 0, 1, ... diagnoses

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "promise": self.promise,
            "per_class": {
                str(diagnosis): {
                    "n_lesions": of.n_lesions,
                    "n_calibration": of.n_calibration,
                    "promised": of.promised,
                    **figures_to_dict({"coverage": of.coverage}),
                }
                for diagnosis, of in self.per_class.items()
            },
            "figures": figures_to_dict(self.figures),
            "size_shares": list(self.size_shares),
        }


def measure_sets(
    judged: Judged, conformal: ConformalSets, *, n_bootstrap: int = 1000, seed: int = 0
) -> SetFigures | None:
    """Coverage and size with 95 % intervals from resampling patients or lesions; None without sets.

    Warns
    -----
    UndefinedMetricWarning
        A diagnosis has no case.
    """
    if judged.plausible_NC is None:
        return None
    predictions, plausible_NC, vote_N = judged.predictions, judged.plausible_NC, judged.vote_N
    class_index_N = predictions.class_index_N
    known_N = class_index_N >= 0
    covered_N = known_N & plausible_NC[np.arange(len(known_N)), class_index_N]
    size_N = plausible_NC.sum(axis=1)

    def of_weights(weight_BN: NDArray[np.float64]) -> Named:
        vote_BN = weight_BN * vote_N

        def share(part_N: NDArray[np.bool_], of_N: NDArray[np.bool_], name: str) -> NDArray[np.float64]:
            return metrics.ratio(vote_BN @ (part_N & of_N), vote_BN @ of_N, name)

        everything_N = np.ones_like(known_N)
        return {
            "coverage": share(covered_N, known_N, "coverage"),
            "mean_size": metrics.mean(size_N.astype(np.float64), vote_BN, "set size"),
            "single": share(size_N == 1, everything_N, "single"),
            "empty": share(size_N == 0, everything_N, "empty"),
        } | {
            f"coverage/{diagnosis}": share(covered_N, class_index_N == c, f"coverage of {diagnosis}")
            for c, diagnosis in enumerate(predictions.classes)
        }

    shares = {"coverage": known_N, "single": np.ones_like(known_N), "empty": np.ones_like(known_N)}
    shares |= {f"coverage/{d}": class_index_N == c for c, d in enumerate(predictions.classes)}
    estimates = estimate(Statistic(of_weights, shares), predictions.groups_N, n_draws=n_bootstrap, seed=seed)
    lesions_N = np.asarray(predictions.lesions_N, dtype=str)
    size_votes = np.bincount(size_N, weights=vote_N, minlength=len(predictions.classes) + 1)
    return SetFigures(
        promise=conformal.coverage,
        per_class={
            diagnosis: ClassCoverage(
                n_lesions=len(np.unique(lesions_N[class_index_N == c])),
                n_calibration=conformal.n_lesions_C[c],
                promised=conformal.promised_C[c],
                coverage=estimates[f"coverage/{diagnosis}"],
            )
            for c, diagnosis in enumerate(predictions.classes)
        },
        figures={name: estimates[name] for name in ("coverage", "mean_size", "single", "empty")},
        size_shares=tuple((size_votes / size_votes.sum()).tolist()),
    )
