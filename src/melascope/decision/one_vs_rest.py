"""Calibration curves of single classes against the rest: Platt, beta and isotonic.

Each maps the log-odds log(p / (1 - p)) of a class to better ones. All are kept as one kind of curve, so that
applying a calibration does not depend on how it was fitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

CurveMethod = Literal["platt", "beta", "isotonic"]

_PRIOR_DEVIATION = 1.0  # of slopes around 1 and the shift around 0: weighs as much as one lesion or so
_LEAST_SLOPE = 0.02  # so that no two log-odds become one
_BETA_KNOTS = np.linspace(
    -10, 10, 41
)  # the curve is straight beyond, and within 0.01 of its chords in between
_PSEUDO_VOTE = 0.5  # at either end, against the trend, so that no probability becomes 0 or 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A function of log-odds that never falls: straight between its knots, and beyond them as at the ends.

    Raises
    ------
    ValueError
        Fewer than two knots, a number that is not finite, knots that do not rise, values that fall.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    knots_K: tuple[float, ...]  #: log-odds, rising
    values_K: tuple[float, ...]  #: log-odds, never falling

    def __post_init__(self) -> None:
        if len(self.knots_K) < 2 or len(self.values_K) != len(self.knots_K):
            raise ValueError("a calibration curve has two knots at least, and a value at each")
        if not all(math.isfinite(number) for number in self.knots_K + self.values_K):
            raise ValueError("a calibration curve's numbers must be finite")
        if not all(a < b for a, b in pairwise(self.knots_K)) or not all(
            a <= b for a, b in pairwise(self.values_K)
        ):
            raise ValueError("a calibration curve's knots must rise and its values not fall")

    def log_odds(self, log_odds_N: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated log-odds, shape (n,)."""
        knots_K, values_K = np.asarray(self.knots_K), np.asarray(self.values_K)
        first, last = np.diff(values_K)[[0, -1]] / np.diff(knots_K)[[0, -1]]
        below_N = np.minimum(log_odds_N - knots_K[0], 0)
        above_N = np.maximum(log_odds_N - knots_K[-1], 0)
        return np.asarray(np.interp(log_odds_N, knots_K, values_K) + first * below_N + last * above_N)


def fit_curve(
    log_odds_N: NDArray[np.float64],
    target_N: NDArray[np.float64],
    vote_N: NDArray[np.float64],
    method: CurveMethod,
) -> Curve:
    """The curve of one class.

    Parameters
    ----------
    log_odds_N
        Shape (n,), of the class.
    target_N
        Shape (n,), 1 of the class, 0 not; a probability where it is not known.
    vote_N
        Shape (n,), above 0.
    method
        "platt": slope and shift, by logistic regression. "beta": one slope for small probabilities, one for
        large ones, and a shift. "isotonic": the steps that fit best, joined by straight lines through their
        middles so that they make no ties; beyond the outermost, log-odds keep their distances.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines", 1999. Kull, Silva Filho and Flach, "Beta
    calibration: a well-founded and easily implemented improvement on logistic calibration", AISTATS 2017.
    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    """
    if method == "isotonic":
        return _fit_isotonic(log_odds_N, target_N, vote_N)
    terms = _platt_terms if method == "platt" else _beta_terms
    weights_F = _fit_logistic(terms(log_odds_N), target_N, vote_N)
    knots_K = np.array([-1.0, 1.0]) if method == "platt" else _BETA_KNOTS
    return Curve(knots_K=tuple(knots_K.tolist()), values_K=tuple((terms(knots_K) @ weights_F).tolist()))


def _platt_terms(log_odds_N: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([log_odds_N, np.ones_like(log_odds_N)])


def _beta_terms(log_odds_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """log p, -log(1 - p), 1."""
    return np.column_stack(
        [-np.logaddexp(0, -log_odds_N), np.logaddexp(0, log_odds_N), np.ones_like(log_odds_N)]
    )


def _fit_logistic(
    terms_NF: NDArray[np.float64], target_N: NDArray[np.float64], vote_N: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights of the terms, the last of which is 1: held by the prior to what leaves the log-odds as they are."""
    from scipy.optimize import minimize  # not needed to apply a curve, so no part of what serves
    from scipy.special import expit

    n_slopes = terms_NF.shape[1] - 1
    unchanged_F = np.array([1.0] * n_slopes + [0.0])

    def loss_and_gradient(weights_F: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        fitted_N = terms_NF @ weights_F
        away_F = (weights_F - unchanged_F) / _PRIOR_DEVIATION
        loss = vote_N @ (np.logaddexp(0, fitted_N) - target_N * fitted_N) + 0.5 * away_F @ away_F
        gradient_F = terms_NF.T @ (vote_N * (expit(fitted_N) - target_N)) + away_F / _PRIOR_DEVIATION
        return float(loss), gradient_F

    bounds = [(_LEAST_SLOPE, None)] * n_slopes + [(None, None)]
    return np.asarray(minimize(loss_and_gradient, unchanged_F, jac=True, method="L-BFGS-B", bounds=bounds).x)


def _fit_isotonic(
    log_odds_N: NDArray[np.float64], target_N: NDArray[np.float64], vote_N: NDArray[np.float64]
) -> Curve:
    from scipy.optimize import isotonic_regression
    from scipy.special import logit

    distinct_U, index_N = np.unique(log_odds_N, return_inverse=True)
    vote_U = np.bincount(index_N, weights=vote_N)
    of_class_U = np.bincount(index_N, weights=vote_N * target_N)
    weight_U = vote_U.copy()
    of_class_U[0] += _PSEUDO_VOTE
    weight_U[0] += _PSEUDO_VOTE
    weight_U[-1] += _PSEUDO_VOTE
    steps = isotonic_regression(of_class_U / weight_U, weights=weight_U)
    starts = steps.blocks[:-1]
    middles_K = np.add.reduceat(vote_U * distinct_U, starts) / np.add.reduceat(vote_U, starts)
    values_K = logit(steps.x[starts])
    knots_K = [middles_K[0] - 1, *middles_K, middles_K[-1] + 1]
    return Curve(
        knots_K=tuple(map(float, knots_K)),
        values_K=tuple(map(float, [values_K[0] - 1, *values_K, values_K[-1] + 1])),
    )
