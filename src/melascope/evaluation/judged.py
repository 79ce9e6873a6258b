"""Predictions with what the decision room makes of them: every figure is a function of these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from melascope.decision.operating_point import LesionVotes, lesion_votes
from melascope.decision.prevalence import Prior, at_prevalence, wanted_prevalence
from melascope.domain.diagnosis import Diagnosis
from melascope.evaluation.holdout import FittedDecision, fit_decision, folds
from melascope.evaluation.predictions import Predictions

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """n images and what is said of each."""

    predictions: Predictions
    prior: Prior  #: class frequencies that `probability_NC` assumes
    score_N: NDArray[np.float64]  #: calibrated melanoma probability at the calibration cases' prevalence
    log_probability_NC: NDArray[np.float64]  #: calibrated, at the calibration cases' prevalence
    probability_NC: NDArray[np.float64]  #: calibrated, at the prior
    referred: dict[str, NDArray[np.bool_]]  #: operating point -> whether it refers each image, shape (n,)
    plausible_NC: NDArray[np.bool_] | None  #: the prediction sets; None where none are promised

    @property
    def vote_N(self) -> NDArray[np.float64]:
        """Shape (n,): 1 / images of the same lesion."""
        lesions_N = np.asarray(self.predictions.lesions_N, dtype=str)
        _, lesion_N, count_L = np.unique(lesions_N, return_inverse=True, return_counts=True)
        return np.asarray(1.0 / count_L[lesion_N])

    def take(self, rows_M: Sequence[int] | NDArray[np.integer]) -> Judged:
        """These rows, in this order."""
        rows_M = np.asarray(rows_M, dtype=np.intp)
        return Judged(
            predictions=self.predictions.take(rows_M),
            prior=self.prior,
            score_N=self.score_N[rows_M],
            log_probability_NC=self.log_probability_NC[rows_M],
            probability_NC=self.probability_NC[rows_M],
            referred={name: referred_N[rows_M] for name, referred_N in self.referred.items()},
            plausible_NC=None if self.plausible_NC is None else self.plausible_NC[rows_M],
        )

    def votes(self) -> LesionVotes:
        """One row a lesion of known outcome; a referral of its `image_L` is the lesion's."""
        return lesion_votes(self.score_N, self.predictions.melanoma_N, self.predictions.lesions_N)


def judge(predictions: Predictions, decision: FittedDecision, *, prior: Prior = "training") -> Judged:
    """Calibrate and decide; the class probabilities move to the prior: "uniform" suits balanced accuracy.

    The melanoma score stays at the prevalence of the calibration cases, as every threshold does.
    """
    calibration = decision.calibration
    log_probability_NC = calibration.log_probabilities(predictions.logits_NC)
    score_N = np.exp(log_probability_NC[:, predictions.classes.index(Diagnosis.MEL)])
    return Judged(
        predictions=predictions,
        prior=prior,
        score_N=score_N,
        log_probability_NC=log_probability_NC,
        probability_NC=at_prevalence(
            log_probability_NC,
            fitted_C=calibration.prevalence_C,
            wanted_C=wanted_prevalence(prior, calibration.prevalence_C),
        ),
        referred={point.name: point.refers(score_N) for point in decision.operating_points},
        plausible_NC=decision.conformal.members(np.exp(log_probability_NC)) if decision.conformal else None,
    )


def cross_judge(predictions: Predictions, n_folds: int, *, prior: Prior = "training") -> Judged:
    """Each fold of lesions judged by what is fitted on the others: every row fits, none judges itself.

    The figures are those of the procedure, its method chosen anew in each fold; a decision that is fitted on
    all rows is a little better than them, having more to learn from.

    Raises
    ------
    MelascopeError
        A fold leaves too few lesions, with or without melanoma, to fit on.
    """
    fold_N = folds(predictions, n_folds)
    parts = [
        judge(predictions.where(fold_N == fold), fit_decision(predictions.where(fold_N != fold)), prior=prior)
        for fold in range(n_folds)
    ]
    order_N = np.argsort(fold_N, kind="stable")

    def whole(part_arrays: Iterable[NDArray[_Scalar]]) -> NDArray[_Scalar]:
        joined_N = np.concatenate(list(part_arrays))
        rows_N = np.empty_like(joined_N)
        rows_N[order_N] = joined_N
        return rows_N

    sets = [part.plausible_NC for part in parts if part.plausible_NC is not None]
    return Judged(
        predictions=predictions,
        prior=prior,
        score_N=whole(part.score_N for part in parts),
        log_probability_NC=whole(part.log_probability_NC for part in parts),
        probability_NC=whole(part.probability_NC for part in parts),
        referred={name: whole(part.referred[name] for part in parts) for name in parts[0].referred},
        plausible_NC=whole(sets) if len(sets) == n_folds else None,
    )


def as_trained(predictions: Predictions) -> Judged:
    """The network's own probabilities: softmax of the logits, without calibration, thresholds and sets."""
    log_probability_NC = np.asarray(log_softmax(predictions.logits_NC, axis=1))
    probability_NC = np.exp(log_probability_NC)
    return Judged(
        predictions=predictions,
        prior="training",
        score_N=probability_NC[:, predictions.classes.index(Diagnosis.MEL)],
        log_probability_NC=log_probability_NC,
        probability_NC=probability_NC,
        referred={},
        plausible_NC=None,
    )
