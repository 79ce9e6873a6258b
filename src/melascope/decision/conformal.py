"""Prediction sets: the diagnoses that an image does not exclude, with a promise for each diagnosis.

Of the lesions of every single diagnosis, at least 90 % get a set that holds it: class-conditional (Mondrian)
split-conformal prediction with the score 1 - probability. It is exact for finite samples and asks nothing of the
probabilities; good ones make the sets small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-9  # of the summed weights, which are fractions of one lesion


@dataclass(frozen=True, kw_only=True, slots=True)
class ConformalSets:
    """From which probability on each diagnosis is in the set.

    Probabilities are calibrated and at the prevalence of the calibration cases, so that the clinic's own
    prevalence never changes the set. A set may be empty: then every diagnosis is unlike its own lesions.

    Raises
    ------
    ValueError
        A number outside its range, or not one a class.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    coverage: float  #: share of the lesions of each diagnosis whose set holds it, at least; above 0, below 1
    floor_C: tuple[float, ...]  #: least probability at which a class is in the set; 0: it always is
    n_lesions_C: tuple[int, ...]  #: calibration lesions of each class

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage is {self.coverage}; it must be above 0 and below 1")
        if not self.floor_C or len(self.floor_C) != len(self.n_lesions_C):
            raise ValueError("floor_C and n_lesions_C must have one number a class")
        if not all(0 <= floor <= 1 for floor in self.floor_C) or min(self.n_lesions_C) < 0:
            raise ValueError("floor_C must be from 0 to 1, n_lesions_C at least 0")

    @property
    def promised_C(self) -> tuple[bool, ...]:
        """Whether each class has lesions enough to exclude it and keep the promise; else it is in every set."""
        return tuple(_enough(n, self.coverage) for n in self.n_lesions_C)

    def members(self, probabilities_NC: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which classes are in the set of each image, shape (n, classes).

        Parameters
        ----------
        probabilities_NC
            Shape (n, classes), calibrated, at the prevalence of the calibration cases.
        """
        return np.asarray(np.asarray(probabilities_NC) >= np.asarray(self.floor_C))


def fit_conformal(
    log_probabilities_NC: NDArray[np.floating],
    class_index_N: NDArray[np.integer],
    lesions_N: list[str],
    *,
    coverage: float = 0.90,
) -> ConformalSets:
    """The highest floors that keep the promise.

    Every lesion has one vote, shared by its images; the promise is for one image, whichever, of a new lesion.
    The union of the sets of several images of it holds the diagnosis all the more.

    Parameters
    ----------
    log_probabilities_NC
        Shape (n, classes), calibrated, at the prevalence of the calibration cases.
    class_index_N
        Shape (n,), index of the true class; cases of -1, unknown or not among the classes, are left out.
    lesions_N
        Length n, the lesion of each case.
    coverage
        To be promised, above 0 and below 1.

    References
    ----------
    Vovk, "Conditional validity of inductive conformal predictors", ACML 2012 (Mondrian). Sadinle, Lei and
    Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA 114(525), 2019 (score).
    Lee, Barber and Willett, "Distribution-free inference with hierarchical data", arXiv 2306.06342, 2023
    (several images of a lesion).
    """
    lesion_N = np.asarray(lesions_N, dtype=str)
    floors: list[float] = []
    counts: list[int] = []
    for c, probability_N in enumerate(np.exp(np.asarray(log_probabilities_NC, dtype=np.float64)).T):
        of_class_N = class_index_N == c
        floor, count = _floor(probability_N[of_class_N], lesion_N[of_class_N], coverage)
        floors.append(floor)
        counts.append(count)
    return ConformalSets(coverage=coverage, floor_C=tuple(floors), n_lesions_C=tuple(counts))


def _floor(
    probability_M: NDArray[np.float64], lesion_M: NDArray[np.str_], coverage: float
) -> tuple[float, int]:
    """The floor of one class from the images of its lesions, and how many lesions these are.

    The new lesion counts among them as one whose probability may be anything: hence one more than there are.
    """
    _, lesion_index_M, images_L = np.unique(lesion_M, return_inverse=True, return_counts=True)
    if not _enough(len(images_L), coverage):
        return 0.0, len(images_L)
    falling_M = np.argsort(-probability_M, kind="stable")
    held_M = np.cumsum(1 / images_L[lesion_index_M[falling_M]])  # lesions whose set holds the class, by floor
    wanted = min(coverage * (len(images_L) + 1), len(images_L))
    last = int(np.searchsorted(held_M, wanted - _ROUNDING))
    return float(probability_M[falling_M[last]]), len(images_L)


def _enough(n_lesions: int, coverage: float) -> bool:
    return n_lesions >= coverage * (n_lesions + 1) - _ROUNDING
