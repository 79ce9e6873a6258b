"""Operating points: the melanoma probability from which on a lesion is referred, with a stated guarantee.

"At least 95 % of melanomas are referred, with 90 % confidence." Let the calibration cases hold n melanomas, and
let the threshold be the (k+1)-th lowest of their scores. Whatever the distribution of the scores, it lies so high
that it misses more than 5 % of all melanomas only if at most k of the n scores fell among the lowest 5 %: with a
probability of at most P(Bin(n, 0.05) <= k). The rank k, the largest for which that is no more than 10 %, follows
from n alone, before any score is looked at: choosing the *threshold* on the same lesions that n was counted on
therefore costs nothing (Wilks, 1941; equivalently, 95 % is no more than the one-sided Clopper-Pearson bound of
n - k successes in n). A specificity is promised likewise, from the highest scores of the other lesions. Ties and
the way to the next score only add to what is promised.

The promise is for lesions like those of the calibration, one vote each, and for a score that does not depend on
them. The few parameters of a calibration fitted on the same lesions do; simulated, that costs nothing measurable.
"""

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

#: How sure a promise is.
CONFIDENCE = 0.90

#: Fewer lesions of a kind than this cannot tell 90 % from 100 %.
MIN_LESIONS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """A threshold, what it was chosen for, and what it achieved where it was chosen.

    `threshold` is on the calibrated melanoma probability at the prevalence of the calibration cases, so that
    the clinic's own prevalence changes the probability shown, never the referral.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str  #: e.g. "sensitivity-95"
    threshold: float  #: refer from here on, 0 to 1
    target: Target
    target_value: float
    confidence: float  #: with which `lower_bound` holds
    lower_bound: float  #: one-sided, of the targeted quantity at this threshold
    sensitivity: float  #: achieved on the calibration lesions (one vote each: their highest probability)
    sensitivity_interval: tuple[float, float]  #: 95 %, Clopper-Pearson
    specificity: float
    specificity_interval: tuple[float, float]
    n_melanoma: int  #: calibration lesions with melanoma
    n_other: int

    def __post_init__(self) -> None:
        for field in ("sensitivity", "specificity"):
            value, (low, high) = getattr(self, field), getattr(self, f"{field}_interval")
            certain = (low == 0 and value > 0) or (high == 1 and value < 1)
            if certain or not 0 <= low <= value <= high <= 1:
                raise ValueError(
                    f"operating point {self.name!r} has the {field} {value} with an interval from {low} to {high}"
                )

    @property
    def guaranteed(self) -> bool:
        """Whether the target is promised; else there were too few lesions to promise it, and the threshold is
        the one that is right on all of them."""
        return self.lower_bound >= self.target_value

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
    score_N: NDArray[np.floating],
    melanoma_N: NDArray[np.floating],
    groups_N: list[str],
    *,
    confidence: float = CONFIDENCE,
) -> tuple[OperatingPoint, ...]:
    """Choose the thresholds of `TARGETS` on calibration lesions.

    For a sensitivity the highest threshold that promises it, for a specificity the lowest; where there are too
    few lesions to promise it, the one that refers every melanoma, or spares every other lesion. Each is halfway
    to the next lesion's score, so that the last digit of a score decides nothing.

    Parameters
    ----------
    score_N
        Shape (n,), calibrated melanoma probability of each image at the prevalence of the calibration cases.
    melanoma_N
        Shape (n,), 1 melanoma, 0 not, NaN unknown.
    groups_N
        Length n, the lesion of each image.
    confidence
        Of the promises, above 0 and below 1.

    Raises
    ------
    MelascopeError
        Fewer than `MIN_LESIONS` lesions with or without melanoma, or so many scores of 1 that no threshold
        spares enough lesions.

    References
    ----------
    Wilks, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical Statistics
    12(1), 1941. Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26(4), 1934.
    """
    votes = lesion_votes(score_N, melanoma_N, groups_N)
    melanoma_M, other_O = np.sort(votes.score_L[votes.melanoma_L]), np.sort(votes.score_L[~votes.melanoma_L])
    for count, kind in ((len(melanoma_M), "with melanoma"), (len(other_O), "without melanoma")):
        if count < MIN_LESIONS:
            raise MelascopeError(
                f"The calibration cases have {count} lesions {kind}; an operating point takes {MIN_LESIONS}.",
                remedy="Calibrate on more cases.",
            )
    marks_T = np.unique(np.concatenate([[0.0], votes.score_L, [1.0]]))

    def point(target: Target, wanted: float) -> OperatingPoint:
        concerned = melanoma_M if target == "sensitivity" else other_O
        n_wrong, lower_bound = _allowed_errors(len(concerned), wanted, confidence)
        if target == "sensitivity":
            threshold = _halfway_below(float(melanoma_M[n_wrong]), marks_T)
        else:
            spared = float(other_O[-1 - n_wrong])
            if spared >= 1:
                raise MelascopeError(
                    f"No threshold promises a specificity of {wanted:.0%}: too many lesions have the score 1.",
                    remedy="Look at the scores: a network that is this sure of many lesions is not ready.",
                )
            threshold = _halfway_below(
                float(marks_T[np.searchsorted(marks_T, spared, side="right")]), marks_T
            )
        n_found = len(melanoma_M) - int(np.searchsorted(melanoma_M, threshold))
        n_spared = int(np.searchsorted(other_O, threshold))
        return OperatingPoint(
            name=f"{target}-{wanted * 100:.0f}",
            threshold=threshold,
            target=target,
            target_value=wanted,
            confidence=confidence,
            lower_bound=lower_bound,
            sensitivity=n_found / len(melanoma_M),
            sensitivity_interval=clopper_pearson(n_found, len(melanoma_M)),
            specificity=n_spared / len(other_O),
            specificity_interval=clopper_pearson(n_spared, len(other_O)),
            n_melanoma=len(melanoma_M),
            n_other=len(other_O),
        )

    return tuple(point(target, wanted) for target, wanted in TARGETS)


def _allowed_errors(n: int, wanted: float, confidence: float) -> tuple[int, float]:
    """How many of n lesions the threshold may get wrong for a promise of `wanted`, and the share promised then;
    0, and a share below `wanted`, where n is too small to promise it."""
    from scipy.special import betaincinv  # not needed to apply a point, so no part of what serves

    errors_K = np.arange(n)
    bound_K = betaincinv(n - errors_K, errors_K + 1, 1 - confidence)  # falls with the errors
    n_wrong = max(int((bound_K >= wanted).sum()) - 1, 0)
    return n_wrong, float(bound_K[n_wrong])


def _halfway_below(score: float, marks_T: NDArray[np.float64]) -> float:
    """Between `score`, one of `marks_T`, and the mark below it; `score` itself where no number lies between."""
    below = float(marks_T[max(int(np.searchsorted(marks_T, score)) - 1, 0)])
    middle = (below + score) / 2
    return middle if middle > below else score


def clopper_pearson(successes: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a share, from `successes` among n."""
    from scipy.special import betaincinv

    low = betaincinv(successes, n - successes + 1, 0.025) if successes else 0.0
    high = betaincinv(successes + 1, n - successes, 0.975) if successes < n else 1.0
    return float(low), float(high)
