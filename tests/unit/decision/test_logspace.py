"""Logarithms of probabilities, with SciPy as the oracle."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import special

from melascope.decision.logspace import log_expit, log_softmax, logsumexp, softmax

FINITE = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=3, max_side=5),
    elements=st.floats(-1e4, 1e4, allow_subnormal=False),
)
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@given(FINITE)
def test_as_scipy(values: np.ndarray) -> None:
    np.testing.assert_allclose(logsumexp(values), special.logsumexp(values, axis=-1), **CLOSE)
    np.testing.assert_allclose(log_softmax(values), special.log_softmax(values, axis=-1), **CLOSE)
    np.testing.assert_allclose(softmax(values), special.softmax(values, axis=-1), **CLOSE)
    np.testing.assert_allclose(log_expit(values), special.log_expit(values), **CLOSE)


def test_minus_infinity_counts_as_nothing() -> None:
    values = np.array([[0.0, -np.inf, 0.0], [-np.inf, 3.0, -np.inf]])
    np.testing.assert_allclose(logsumexp(values), [np.log(2), 3.0])
    np.testing.assert_allclose(softmax(values), [[0.5, 0, 0.5], [0, 1, 0]])
