"""Calibration: from a network's raw logits to probabilities that mean what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

CalibrationMethod = Literal["none", "temperature", "bias-corrected-temperature"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """probabilities = softmax(logits / temperature + bias), on the class frequencies it was fitted on."""

    method: CalibrationMethod
    temperature: float  #: above 0
    bias_C: tuple[float, ...]  #: one a class; undoes the shift that class weights or sampling put on the logits
    prevalence_C: tuple[float, ...]  #: class frequencies of the calibration cases; sums to 1
    n_cases: int  #: calibration cases
    n_groups: int  #: lesions or patients among them

    def log_probabilities(self, logits_NC: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated log-probabilities, shape (n, classes), at the prevalence of the calibration cases."""
        scaled_NC = np.asarray(logits_NC, dtype=np.float64) / self.temperature + np.asarray(self.bias_C)
        return np.asarray(log_softmax(scaled_NC, axis=1))

    def probabilities(self, logits_NC: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities, shape (n, classes); each row sums to 1."""
        return np.exp(self.log_probabilities(logits_NC))
