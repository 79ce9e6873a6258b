"""How much better the answers get when the least certain are withheld.

Lesions are answered in the order of a stated confidence, the surest first; the risk is the share of the answers so
far that are wrong. A confidence that knows something gives a curve that rises with the share answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melascope.evaluation import metrics
from melascope.evaluation.intervals import Estimate, Named, Statistic, estimate
from melascope.evaluation.judged import Judged
from melascope.evaluation.measure import figures_to_dict
from melascope.evaluation.metrics import Roc

#: Shares answered at which the risk is told.
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RiskCurve:
    """Risk against the share answered; weightings first. Equal confidences are answered together."""

    answered_BT: NDArray[np.float64]  #: share of the weight, rising to 1
    risk_BT: NDArray[np.float64]  #: share of what is answered that is wrong; NaN where nothing is

    @classmethod
    def of(
        cls,
        confidence_N: NDArray[np.float64],
        wrong_N: NDArray[np.bool_],
        weight_BN: NDArray[np.float64] | None = None,
    ) -> RiskCurve:
        """Answer from the highest confidence down."""
        curve = Roc.of(confidence_N, wrong_N, weight_BN)
        wrong_BT, all_BT = curve.true_BT[:, 1:], (curve.true_BT + curve.false_BT)[:, 1:]
        if not all_BT.size:
            all_BT = wrong_BT = np.zeros((len(all_BT), 1))
        total_BT = np.broadcast_to(all_BT[:, -1:], all_BT.shape)
        return cls(
            answered_BT=metrics.ratio(all_BT, total_BT, "the share answered"),
            risk_BT=np.where(all_BT > 0, wrong_BT / np.where(all_BT > 0, all_BT, 1.0), np.nan),
        )

    def area(self) -> NDArray[np.float64]:
        """Mean risk over all shares answered (AURC), shape (weightings,); the lower, the better.

        References
        ----------
        Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019.
        """
        step_BT = np.diff(self.answered_BT, axis=1, prepend=0.0)
        return np.asarray(np.where(step_BT == 0, 0.0, step_BT * self.risk_BT).sum(axis=1))

    def at(self, share: float) -> NDArray[np.float64]:
        """Risk when at least `share` is answered, shape (weightings,)."""
        t_B = np.argmax(self.answered_BT >= share * (1 - 1e-12), axis=1)
        risk_B = self.risk_BT[np.arange(len(t_B)), t_B]
        return np.where(np.isnan(self.answered_BT[:, -1]), np.nan, risk_B)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selective:
    """Areas and risks of both curves; NaN where undefined."""

    n_diagnosed: int  #: lesions of the curve of diagnoses
    n_outcome: int  #: lesions of the curve of melanomas
    diagnosis_area: Estimate
    diagnosis_risk: dict[float, Estimate]  #: of `SHARES`: share of wrong diagnoses
    missed_area: Estimate
    missed_risk: dict[float, Estimate]  #: of `SHARES`: share of melanomas among those reassured

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "n_diagnosed": self.n_diagnosed,
            "n_outcome": self.n_outcome,
            **figures_to_dict({"diagnosis_area": self.diagnosis_area, "missed_area": self.missed_area}),
            "diagnosis_risk": figures_to_dict({f"{share:g}": f for share, f in self.diagnosis_risk.items()}),
            "missed_risk": figures_to_dict({f"{share:g}": f for share, f in self.missed_risk.items()}),
        }


def diagnosis_curve(judged: Judged, weight_BN: NDArray[np.float64] | None = None) -> RiskCurve:
    """Wrong diagnoses, the most probable class being the answer and its probability the confidence.

    Each lesion has one vote, shared by its images.
    """
    known_N = judged.predictions.class_index_N >= 0
    probability_NC = judged.probability_NC[known_N]
    wrong_N = probability_NC.argmax(axis=1) != judged.predictions.class_index_N[known_N]
    weight_BN = metrics.weights_or_ones(weight_BN, len(known_N))[:, known_N]
    return RiskCurve.of(probability_NC.max(axis=1), wrong_N, weight_BN * judged.vote_N[known_N])


def missed_curve(judged: Judged, weight_BN: NDArray[np.float64] | None = None) -> RiskCurve:
    """Melanomas among the lesions reassured, the least suspicious first; one score a lesion, its highest."""
    votes = judged.votes()
    weight_BN = metrics.weights_or_ones(weight_BN, len(judged.score_N))[:, votes.image_L]
    return RiskCurve.of(-votes.score_L, votes.melanoma_L, weight_BN)


def measure_selective(judged: Judged, *, n_bootstrap: int = 1000, seed: int = 0) -> Selective:
    """Both curves in figures, with 95 % intervals from resampling patients or lesions.

    Warns
    -----
    UndefinedMetricWarning
        No case has a known diagnosis, or none a known outcome.
    """

    def of_weights(weight_BN: NDArray[np.float64]) -> Named:
        curves = {
            "diagnosis": diagnosis_curve(judged, weight_BN),
            "missed": missed_curve(judged, weight_BN),
        }
        areas = {f"{name} area": curve.area() for name, curve in curves.items()}
        return areas | {
            f"{name} {share}": curve.at(share) for name, curve in curves.items() for share in SHARES
        }

    estimates = estimate(Statistic(of_weights), judged.predictions.groups_N, n_draws=n_bootstrap, seed=seed)
    lesions_N = np.asarray(judged.predictions.lesions_N, dtype=str)
    return Selective(
        n_diagnosed=len(np.unique(lesions_N[judged.predictions.class_index_N >= 0])),
        n_outcome=len(judged.votes().score_L),
        diagnosis_area=estimates["diagnosis area"],
        diagnosis_risk={share: estimates[f"diagnosis {share}"] for share in SHARES},
        missed_area=estimates["missed area"],
        missed_risk={share: estimates[f"missed {share}"] for share in SHARES},
    )
