"""Operating points: the melanoma probability from which on a lesion is referred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, overload

import numpy as np
from numpy.typing import NDArray

from melascope.errors import MelascopeError

Target = Literal["sensitivity", "specificity"]

#: What `fit_operating_points` aims at.
TARGETS: tuple[tuple[Target, float], ...] = (
    ("sensitivity", 0.98),
    ("sensitivity", 0.95),
    ("sensitivity", 0.90),
    ("specificity", 0.90),
)

#: Fewer lesions of a kind than this cannot tell 90 % from 100 %.
MIN_LESIONS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """A threshold, what it was chosen for, and what it achieved where it was chosen.

    `threshold` is on the calibrated melanoma probability at the prevalence of the calibration cases, so that
    the clinic's own prevalence changes the probability shown, never the decision.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str  #: e.g. "sensitivity-95"
    threshold: float  #: refer from here on, 0 to 1
    target: Target
    target_value: float
    sensitivity: float  #: achieved on the calibration lesions (one vote each: their highest probability)
    sensitivity_interval: tuple[float, float]  #: 95 %, Clopper-Pearson
    specificity: float
    specificity_interval: tuple[float, float]
    n_melanoma: int  #: calibration lesions with melanoma
    n_other: int

    @overload
    def refers(self, score: float) -> bool: ...
    @overload
    def refers(self, score: NDArray[np.floating]) -> NDArray[np.bool_]: ...
    def refers(self, score: float | NDArray[np.floating]) -> bool | NDArray[np.bool_]:
        """Whether a lesion of this score, or each of several, is referred: the one rule, threshold included."""
        return score >= self.threshold


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LesionVotes:
    """One row a lesion of known outcome."""

    score_L: NDArray[np.float64]  #: the highest score among the lesion's images
    melanoma_L: NDArray[np.bool_]
    image_L: NDArray[np.intp]  #: the image that gave the score


def lesion_votes(
    score_N: NDArray[np.floating], melanoma_N: NDArray[np.floating], groups_N: list[str]
) -> LesionVotes:
    """One vote a lesion: its highest score, as a doctor who takes several photographs heeds the worst.

    Images of unknown outcome (NaN in `melanoma_N`) are left out; a lesion is a melanoma if any of its images
    is labelled so.
    """
    known_N = np.flatnonzero(~np.isnan(melanoma_N))
    by_score_N = known_N[np.argsort(-np.asarray(score_N)[known_N], kind="stable")]
    groups, first_L, lesion_N = np.unique(
        np.asarray(groups_N, dtype=str)[by_score_N], return_index=True, return_inverse=True
    )
    melanoma_L = np.bincount(lesion_N, weights=melanoma_N[by_score_N], minlength=len(groups)) > 0
    image_L = by_score_N[first_L]
    return LesionVotes(
        score_L=np.asarray(score_N, dtype=np.float64)[image_L], melanoma_L=melanoma_L, image_L=image_L
    )


def fit_operating_points(
    score_N: NDArray[np.floating], melanoma_N: NDArray[np.floating], groups_N: list[str]
) -> tuple[OperatingPoint, ...]:
    """Choose the thresholds of `TARGETS` on calibration lesions.

    For a sensitivity the highest threshold that reaches it, for a specificity the lowest, each halfway to the
    next lesion's score, so that the last digit of a score decides nothing.

    Parameters
    ----------
    score_N
        Shape (n,), calibrated melanoma probability of each image at the prevalence of the calibration cases.
    melanoma_N
        Shape (n,), 1 melanoma, 0 not, NaN unknown.
    groups_N
        Length n, the lesion of each image.

    Raises
    ------
    MelascopeError
        Fewer than `MIN_LESIONS` lesions with or without melanoma, or scores that do not allow a target.
    """
    votes = lesion_votes(score_N, melanoma_N, groups_N)
    n_melanoma, n_other = int(votes.melanoma_L.sum()), int((~votes.melanoma_L).sum())
    for count, kind in ((n_melanoma, "with melanoma"), (n_other, "without melanoma")):
        if count < MIN_LESIONS:
            raise MelascopeError(
                f"The calibration cases have {count} lesions {kind}; an operating point takes {MIN_LESIONS}.",
                remedy="Calibrate on more cases.",
            )
    distinct_T = np.unique(votes.score_L)
    below_T = np.concatenate([[0.0], distinct_T[:-1]])
    middle_T = (below_T + distinct_T) / 2
    threshold_T = np.where(middle_T > below_T, middle_T, distinct_T)
    referred_melanoma_T = n_melanoma - np.searchsorted(np.sort(votes.score_L[votes.melanoma_L]), threshold_T)
    spared_other_T = np.searchsorted(np.sort(votes.score_L[~votes.melanoma_L]), threshold_T)
    sensitivity_T, specificity_T = referred_melanoma_T / n_melanoma, spared_other_T / n_other

    def point(target: Target, wanted: float) -> OperatingPoint:
        reached_T = np.flatnonzero((sensitivity_T if target == "sensitivity" else specificity_T) >= wanted)
        if not len(reached_T):
            raise MelascopeError(
                f"No threshold reaches a {target} of {wanted:.0%}: too many lesions share the highest score.",
                remedy="Look at the scores: a network that answers the same for many lesions is not ready.",
            )
        t = reached_T[-1] if target == "sensitivity" else reached_T[0]
        return OperatingPoint(
            name=f"{target}-{wanted * 100:.0f}",
            threshold=float(threshold_T[t]),
            target=target,
            target_value=wanted,
            sensitivity=float(sensitivity_T[t]),
            sensitivity_interval=_clopper_pearson(int(referred_melanoma_T[t]), n_melanoma),
            specificity=float(specificity_T[t]),
            specificity_interval=_clopper_pearson(int(spared_other_T[t]), n_other),
            n_melanoma=n_melanoma,
            n_other=n_other,
        )

    return tuple(point(target, wanted) for target, wanted in TARGETS)


def _clopper_pearson(successes: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest  # slow to import, and not needed to apply a threshold

    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="exact")
    return float(interval.low), float(interval.high)
