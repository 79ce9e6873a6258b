"""Probabilities by their logarithms, with numpy alone: what a server needs must not ask for SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def logsumexp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(sum(exp(values))) along the last axis; minus infinity counts as nothing."""
    return np.asarray(np.logaddexp.reduce(values, axis=-1))


def log_softmax(logits_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of the softmax of each row."""
    return np.asarray(logits_NC - logsumexp(logits_NC)[..., None])


def softmax(logits_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities; each row sums to 1."""
    return np.exp(log_softmax(logits_NC))


def log_expit(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the probability of these log-odds."""
    return np.asarray(-np.logaddexp(0.0, -log_odds))
