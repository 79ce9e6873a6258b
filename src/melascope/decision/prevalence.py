"""Prevalence: the same evidence under other class frequencies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax


def at_prevalence(
    log_probabilities_NC: NDArray[np.float64],
    *,
    fitted_C: NDArray[np.floating] | tuple[float, ...],
    wanted_C: NDArray[np.floating] | tuple[float, ...],
) -> NDArray[np.float64]:
    """Posterior under `wanted_C` of a model calibrated under `fitted_C`.

    Each class's probability is multiplied by wanted/fitted and the row made to sum to 1 again: exact where only
    the class frequencies differ (label shift). A uniform `wanted_C` is what balanced accuracy wants.

    References
    ----------
    Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities",
    Neural Computation 14(1), 2002.
    """
    shift_C = np.log(np.asarray(wanted_C, dtype=np.float64)) - np.log(np.asarray(fitted_C, dtype=np.float64))
    return np.asarray(softmax(log_probabilities_NC + shift_C, axis=1))
