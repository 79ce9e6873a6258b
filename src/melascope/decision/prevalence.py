"""Prevalence: the same evidence under other class frequencies."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from melascope.decision.logspace import softmax
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import UsageError

#: The smallest share of melanomas that can be stated, and of other lesions: beyond it no number means anything.
LEAST_PREVALENCE = 0.00001

#: Class frequencies that shown probabilities assume: those of the calibration cases, or all the same.
Prior = Literal["training", "uniform"]


def at_prevalence(
    log_probabilities_NC: NDArray[np.float64],
    *,
    fitted_C: NDArray[np.floating] | tuple[float, ...],
    wanted_C: NDArray[np.floating] | tuple[float, ...],
) -> NDArray[np.float64]:
    """Posterior under `wanted_C` of a model calibrated under `fitted_C`.

    Each class's probability is multiplied by wanted/fitted and the row made to sum to 1 again: exact where
    only the class frequencies differ (label shift). A uniform `wanted_C` is what balanced accuracy wants.

    References
    ----------
    Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities",
    Neural Computation 14(1), 2002.
    """
    shift_C = np.log(np.asarray(wanted_C, dtype=np.float64)) - np.log(np.asarray(fitted_C, dtype=np.float64))
    return softmax(log_probabilities_NC + shift_C)


def wanted_prevalence(
    prior: Prior, fitted_C: NDArray[np.floating] | tuple[float, ...]
) -> NDArray[np.float64]:
    """Class frequencies of a prior, shape (classes,), summing to 1, for a model calibrated under `fitted_C`."""
    if prior == "uniform":
        return np.full(len(fitted_C), 1 / len(fitted_C))
    return np.asarray(fitted_C, dtype=np.float64)


def melanoma_prevalence(
    prevalence_C: NDArray[np.floating] | tuple[float, ...], classes: tuple[Diagnosis, ...], wanted: float
) -> NDArray[np.float64]:
    """Class frequencies in which a fraction `wanted` is melanoma and the others keep their proportions.

    Parameters
    ----------
    prevalence_C
        Frequencies of the classes, each above 0; sum to 1.
    classes
        Their names; MEL is among them.
    wanted
        Fraction of melanoma, at least `LEAST_PREVALENCE`, and at most 1 less that.

    Raises
    ------
    UsageError
        `wanted` lies outside.
    """
    if not LEAST_PREVALENCE <= wanted <= 1 - LEAST_PREVALENCE:
        raise UsageError(
            f"The prevalence of melanoma is {wanted:g}.",
            remedy="Give a fraction from 0.00001 to 0.99999, such as 0.02 for 2 of 100 lesions.",
        )
    scaled_C = np.array(prevalence_C, dtype=np.float64)
    is_melanoma_C = np.array([diagnosis is Diagnosis.MEL for diagnosis in classes])
    scaled_C[~is_melanoma_C] *= (1 - wanted) / scaled_C[~is_melanoma_C].sum()
    scaled_C[is_melanoma_C] = wanted
    return scaled_C
