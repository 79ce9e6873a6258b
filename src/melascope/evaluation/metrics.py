"""Metrics as pure functions of arrays, each for many weightings of the same cases at once.

`weight_BN` holds one row a weighting: how often each case counts. The plain metric is the row of ones (the
default); a bootstrap is a thousand rows of resampling counts (`intervals.estimate`). Every function returns
one value a row, so a metric and its interval come from the same few lines.

Undefined (an empty denominator, a class without cases) is NaN, never 0 or 1, and warns
`UndefinedMetricWarning` where no weighting defines it. Integer weights give what scikit-learn gives for
`sample_weight`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class UndefinedMetricWarning(UserWarning):
    """A metric has no value on these cases."""


def weights_or_ones(weight_BN: Floats | None, n: int) -> Floats:
    """One row of ones, shape (1, n), where no weights are given."""
    return np.ones((1, n)) if weight_BN is None else weight_BN


def ratio(part: Floats, whole: Floats, name: str) -> Floats:
    """part / whole along the first axis (weightings); NaN where the whole is empty, with a warning."""
    empty = whole == 0
    if np.any(empty.all(axis=0)):
        warnings.warn(f"{name} is undefined: no case counts towards it", UndefinedMetricWarning, stacklevel=3)
    return np.asarray(np.where(empty, np.nan, part / np.where(empty, 1.0, whole)))


# --- decisions: counts and what follows from them


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Counts:
    """Weighted counts of a yes-or-no decision; the arrays share one shape, weightings first."""

    true_positive: Floats
    false_positive: Floats
    false_negative: Floats
    true_negative: Floats

    @classmethod
    def of_decision(
        cls, referred_N: NDArray[np.bool_], positive_N: NDArray[np.bool_], weight_BN: Floats | None = None
    ) -> Self:
        """Shape (weightings,)."""
        weight_BN = weights_or_ones(weight_BN, len(referred_N))
        return cls(
            true_positive=weight_BN @ (referred_N & positive_N),
            false_positive=weight_BN @ (referred_N & ~positive_N),
            false_negative=weight_BN @ (~referred_N & positive_N),
            true_negative=weight_BN @ (~referred_N & ~positive_N),
        )

    @classmethod
    def of_classes(cls, confusion_BCC: Floats) -> Self:
        """Each class against the rest, shape (weightings, classes)."""
        hit_BC = np.diagonal(confusion_BCC, axis1=1, axis2=2)
        true_BC, predicted_BC = confusion_BCC.sum(axis=2), confusion_BCC.sum(axis=1)
        total_B1 = true_BC.sum(axis=1, keepdims=True)
        return cls(
            true_positive=hit_BC,
            false_positive=predicted_BC - hit_BC,
            false_negative=true_BC - hit_BC,
            true_negative=total_B1 - true_BC - predicted_BC + hit_BC,
        )

    def sensitivity(self) -> Floats:
        """Of the positives, the part that was called so."""
        return ratio(self.true_positive, self.true_positive + self.false_negative, "sensitivity")

    def specificity(self) -> Floats:
        """Of the negatives, the part that was called so."""
        return ratio(self.true_negative, self.true_negative + self.false_positive, "specificity")

    def ppv(self) -> Floats:
        """Of those called positive, the part that is (precision)."""
        return ratio(self.true_positive, self.true_positive + self.false_positive, "PPV")

    def npv(self) -> Floats:
        """Of those called negative, the part that is."""
        return ratio(self.true_negative, self.true_negative + self.false_negative, "NPV")

    def f1(self) -> Floats:
        """Harmonic mean of sensitivity and PPV; undefined where nothing is or was called positive."""
        return ratio(
            2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative, "F1"
        )

    def accuracy(self) -> Floats:
        """The part that was called rightly."""
        right = self.true_positive + self.true_negative
        return ratio(right, right + self.false_positive + self.false_negative, "accuracy")


def confusion(
    true_N: NDArray[np.integer],
    predicted_N: NDArray[np.integer],
    n_classes: int,
    weight_BN: Floats | None = None,
) -> Floats:
    """Weighted counts, shape (weightings, classes, classes): rows are the truth, columns the prediction."""
    cell_NK = np.eye(n_classes * n_classes)[true_N * n_classes + predicted_N]
    weight_BN = weights_or_ones(weight_BN, len(true_N))
    return np.asarray((weight_BN @ cell_NK).reshape(len(weight_BN), n_classes, n_classes))


def accuracy(confusion_BCC: Floats) -> Floats:
    """The part of the cases whose class was named."""
    return ratio(np.trace(confusion_BCC, axis1=1, axis2=2), confusion_BCC.sum(axis=(1, 2)), "accuracy")


def macro(value_BC: Floats, present_BC: NDArray[np.bool_]) -> Floats:
    """Mean over the classes that have cases; NaN where one of these is undefined.

    Classes without cases are left out, as in scikit-learn's `balanced_accuracy_score`.
    """
    total_B = np.where(present_BC, value_BC, 0.0).sum(axis=1)
    return ratio(total_B, present_BC.sum(axis=1).astype(np.float64), "the mean over classes")


def balanced_accuracy(confusion_BCC: Floats) -> Floats:
    """Mean sensitivity over the classes that have cases."""
    true_BC = confusion_BCC.sum(axis=2)
    hit_BC = np.diagonal(confusion_BCC, axis1=1, axis2=2)
    return macro(hit_BC / np.maximum(true_BC, 1e-300), true_BC > 0)


# --- scores: ranking


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Roc:
    """What lies at or above each distinct score, from the highest down; the first column is above all (0)."""

    threshold_T: Floats  #: shape (distinct scores + 1,), starting at infinity
    true_BT: Floats  #: weighted positives at or above the threshold
    false_BT: Floats  #: weighted negatives

    @classmethod
    def of(cls, score_N: Floats, positive_N: NDArray[np.bool_], weight_BN: Floats | None = None) -> Self:
        """From any scores, higher is more suspicious; ties stay together."""
        weight_BN = weights_or_ones(weight_BN, len(score_N))
        order_N = np.argsort(-score_N, kind="stable")
        sorted_N = score_N[order_N]
        last_T = np.flatnonzero(np.append(sorted_N[1:] != sorted_N[:-1], True)[: len(sorted_N)])
        weight_BN = weight_BN[:, order_N]
        true_BN = np.cumsum(weight_BN * positive_N[order_N], axis=1)
        all_BN = np.cumsum(weight_BN, axis=1)
        start_B1 = np.zeros((len(weight_BN), 1))
        true_BT = np.concatenate([start_B1, true_BN[:, last_T]], axis=1)
        return cls(
            threshold_T=np.append(np.inf, sorted_N[last_T]),
            true_BT=true_BT,
            false_BT=np.concatenate([start_B1, all_BN[:, last_T]], axis=1) - true_BT,
        )

    def sensitivity_BT(self) -> Floats:
        """At each threshold, from 0 up to 1."""
        return ratio(self.true_BT, np.broadcast_to(self.true_BT[:, -1:], self.true_BT.shape), "sensitivity")

    def false_positive_rate_BT(self) -> Floats:
        """1 - specificity at each threshold, from 0 up to 1."""
        return ratio(
            self.false_BT, np.broadcast_to(self.false_BT[:, -1:], self.false_BT.shape), "specificity"
        )


def auroc(roc: Roc) -> Floats:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half."""
    area_B = np.sum(np.diff(roc.false_BT, axis=1) * (roc.true_BT[:, 1:] + roc.true_BT[:, :-1]), axis=1) / 2
    return ratio(area_B, roc.true_BT[:, -1] * roc.false_BT[:, -1], "AUROC")


def partial_auroc(roc: Roc, min_sensitivity: float = 0.8) -> Floats:
    """Area of the ROC curve that lies above `min_sensitivity`: from 0 to 1 - `min_sensitivity`.

    The primary score of the ISIC 2024 challenge (Kurtansky et al., Sci. Data 11:641, 2024), there with 0.8.
    """
    base_B1 = min_sensitivity * roc.true_BT[:, -1:]
    low_BT, high_BT = roc.true_BT[:, :-1] - base_B1, roc.true_BT[:, 1:] - base_B1
    climb_BT = np.where(high_BT > low_BT, high_BT - low_BT, 1.0)
    crossing_BT = np.maximum(high_BT, 0.0) ** 2 / (2 * climb_BT)  # the triangle above the base
    height_BT = np.where(low_BT >= 0, (low_BT + high_BT) / 2, crossing_BT)
    area_B = np.sum(np.diff(roc.false_BT, axis=1) * height_BT, axis=1)
    return ratio(area_B, roc.true_BT[:, -1] * roc.false_BT[:, -1], "partial AUROC")


def average_precision(roc: Roc) -> Floats:
    """Area under the precision-recall curve as scikit-learn has it: precision x gain in recall, summed."""
    called_BT = roc.true_BT[:, 1:] + roc.false_BT[:, 1:]
    precision_BT = roc.true_BT[:, 1:] / np.where(called_BT == 0, 1.0, called_BT)
    total_B = np.sum(np.diff(roc.true_BT, axis=1) * precision_BT, axis=1)
    return ratio(total_B, roc.true_BT[:, -1], "average precision")


def sensitivity_at_specificity(roc: Roc, specificity: float) -> Floats:
    """The highest sensitivity of any threshold with at least this specificity."""
    allowed_BT = roc.false_BT <= (1 - specificity) * roc.false_BT[:, -1:] * (1 + 1e-12)
    best_B = np.where(allowed_BT, roc.true_BT, 0.0).max(axis=1)
    sensitivity_B = ratio(best_B, roc.true_BT[:, -1], "sensitivity at a specificity")
    return np.where(roc.false_BT[:, -1] == 0, np.nan, sensitivity_B)


def specificity_at_sensitivity(roc: Roc, sensitivity: float) -> Floats:
    """The highest specificity of any threshold with at least this sensitivity."""
    allowed_BT = roc.true_BT >= sensitivity * roc.true_BT[:, -1:] * (1 - 1e-12)
    least_B = np.where(allowed_BT, roc.false_BT, np.inf).min(axis=1)
    specificity_B = 1 - ratio(least_B, roc.false_BT[:, -1], "specificity at a sensitivity")
    return np.where(roc.true_BT[:, -1] == 0, np.nan, specificity_B)


# --- probabilities: calibration


def mean(value_N: Floats, weight_BN: Floats | None, name: str) -> Floats:
    """Weighted mean."""
    weight_BN = weights_or_ones(weight_BN, len(value_N))
    return ratio(weight_BN @ value_N, weight_BN.sum(axis=1), name)


def brier(probability_N: Floats, outcome_N: NDArray[np.bool_], weight_BN: Floats | None = None) -> Floats:
    """Mean squared distance of a probability from the outcome (0 or 1); 0 is best."""
    return mean((probability_N - outcome_N) ** 2, weight_BN, "the Brier score")


def log_loss(
    log_probability_NC: Floats, true_N: NDArray[np.integer], weight_BN: Floats | None = None
) -> Floats:
    """Mean of -ln(probability of the true class); 0 is best."""
    return mean(-log_probability_NC[np.arange(len(true_N)), true_N], weight_BN, "log loss")


def calibration_error(
    probability_N: Floats, outcome_N: NDArray[np.bool_], weight_BN: Floats | None = None, *, n_bins: int = 10
) -> Floats:
    """Expected calibration error over bins of equal mass: mean gap between probability and frequency.

    Cases are sorted by probability and cut into `n_bins` parts of equal weight; equal probabilities stay
    together, in the bin where the middle of their mass falls.

    References
    ----------
    Nixon et al., "Measuring calibration in deep learning", CVPR workshops 2019 (adaptive bins).
    """
    weight_BN = weights_or_ones(weight_BN, len(probability_N))
    bin_BN = equal_mass_bins(probability_N, weight_BN, n_bins)
    cell_BN = bin_BN + n_bins * np.arange(len(weight_BN))[:, None]
    gap_BN = weight_BN * (probability_N - outcome_N)
    gap_BK = np.bincount(cell_BN.ravel(), weights=gap_BN.ravel(), minlength=n_bins * len(weight_BN))
    gap_B = np.abs(gap_BK.reshape(len(weight_BN), n_bins)).sum(axis=1)
    return ratio(gap_B, weight_BN.sum(axis=1), "calibration error")


def equal_mass_bins(probability_N: Floats, weight_BN: Floats, n_bins: int) -> NDArray[np.intp]:
    """Bin of each case, shape (weightings, n), from 0; see `calibration_error`."""
    distinct_T, count_T = np.unique(probability_N, return_counts=True)
    cumulative_BN = np.cumsum(weight_BN[:, np.argsort(probability_N, kind="stable")], axis=1)
    start_B1 = np.zeros((len(weight_BN), 1))
    edge_BT = np.concatenate([start_B1, cumulative_BN[:, np.cumsum(count_T) - 1]], axis=1)
    total_B1 = np.maximum(edge_BT[:, -1:], 1e-300)
    bin_BT = np.floor(n_bins * (edge_BT[:, 1:] + edge_BT[:, :-1]) / (2 * total_B1)).astype(np.intp)
    place_N = np.searchsorted(distinct_T, probability_N)
    return np.asarray(np.minimum(bin_BT, n_bins - 1)[:, place_N])
