"""Calibration: from a network's raw logits to probabilities that mean what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from melascope.decision.logspace import log_expit, log_softmax, logsumexp, softmax
from melascope.decision.one_vs_rest import Curve, CurveMethod, fit_curve
from melascope.errors import MelascopeError

ScalingMethod = Literal["none", "temperature", "bias-corrected-temperature", "vector"]
CalibrationMethod = ScalingMethod | CurveMethod

#: From the plainest to the richest; "auto" takes the plainest of near equals.
METHODS: tuple[CalibrationMethod, ...] = (
    "none",
    "temperature",
    "bias-corrected-temperature",
    "vector",
    "platt",
    "beta",
    "isotonic",
)

_N_FOLDS = 5
_LOG_TEMPERATURE_BOUND = 4.0  # temperatures from 1/55 to 55; a fit that ends there has no more to gain
_BIAS_BOUND = 10.0
_LOG_SCALE_BOUND = 2.0
#: Priors: normal around 0 with these deviations. They weigh as much as one lesion or so, and thus hold only the
#: classes of which the calibration cases have next to none.
_BIAS_DEVIATION = 1.0
_LOG_SCALE_DEVIATION = 0.5
_PSEUDO_VOTE = 0.5  # of each class in `prevalence_C` (Jeffreys), so that no class is impossible


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """probabilities = softmax(logits * scale + bias), on the class frequencies it was fitted on.

    With curves, the log-odds of each of these probabilities go through the curve of their class, and the
    probabilities found are divided by their sum.

    Raises
    ------
    ValueError
        Not one number a class, a scale or prevalence not above 0, a number that is not finite, prevalences that
        do not sum to 1, or a method that has curves without them.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    method: CalibrationMethod
    scale_C: tuple[float, ...]  #: above 0; the same for each class unless the method is "vector"
    bias_C: tuple[float, ...]  #: undoes the shift that class weights or sampling caused
    curve_C: tuple[Curve, ...] = ()  #: one a class for "platt", "beta" and "isotonic", none for the others
    prevalence_C: tuple[float, ...]  #: class frequencies of the calibration cases; above 0, sums to 1
    n_cases: int  #: calibration cases
    n_groups: int  #: lesions or patients among them

    def __post_init__(self) -> None:
        n_classes = len(self.prevalence_C)
        n_curves = n_classes if self.method in ("platt", "beta", "isotonic") else 0
        if (len(self.scale_C), len(self.bias_C), len(self.curve_C)) != (n_classes, n_classes, n_curves):
            raise ValueError(
                f"a calibration by {self.method} of {n_classes} classes has as many scales and biases, and "
                f"{n_curves} curves; it has {len(self.scale_C)}, {len(self.bias_C)} and {len(self.curve_C)}"
            )
        if not all(0 < scale < math.inf for scale in self.scale_C) or not all(
            map(math.isfinite, self.bias_C)
        ):
            raise ValueError("a calibration's scale_C must be above 0, its bias_C finite")
        if not all(share > 0 for share in self.prevalence_C) or not math.isclose(
            sum(self.prevalence_C), 1.0, abs_tol=1e-6
        ):
            raise ValueError("a calibration's prevalence_C must be above 0 everywhere and sum to 1")

    def log_probabilities(self, logits_NC: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated log-probabilities, shape (n, classes), at the prevalence of the calibration cases."""
        return _Map(np.asarray(self.scale_C), np.asarray(self.bias_C), self.curve_C).log_probabilities(
            np.asarray(logits_NC, dtype=np.float64)
        )

    def probabilities(self, logits_NC: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities, shape (n, classes); each row sums to 1."""
        return np.exp(self.log_probabilities(logits_NC))


class _Map(NamedTuple):
    scale_C: NDArray[np.float64]
    bias_C: NDArray[np.float64]
    curve_C: tuple[Curve, ...] = ()

    def log_probabilities(self, logits_NC: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled_NC = logits_NC * self.scale_C + self.bias_C
        if self.curve_C:
            log_odds_NC = _log_odds(scaled_NC)
            curved = [curve.log_odds(log_odds_NC[:, c]) for c, curve in enumerate(self.curve_C)]
            scaled_NC = log_expit(np.column_stack(curved))
        return log_softmax(scaled_NC)


def _log_odds(scaled_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(p / (1 - p)) of the softmax: exact where p is next to 1."""
    itself_CC = np.eye(scaled_NC.shape[1], dtype=bool)
    others_NCC = np.where(itself_CC, -np.inf, scaled_NC[:, None, :])
    return scaled_NC - logsumexp(others_NCC)


def fit_calibration(
    logits_NC: NDArray[np.floating],
    class_index_N: NDArray[np.integer],
    groups_N: list[str],
    *,
    melanoma_N: NDArray[np.floating] | None = None,
    melanoma_index: int | None = None,
    method: CalibrationMethod | Literal["auto"] = "auto",
) -> Calibration:
    """Fit the probabilities to held-out cases by their log loss.

    The shift that class weights or sampling put on a network's logits is not one of confidence: dividing by a
    temperature alone would leave it, and spread it. It is therefore fitted together with the temperature (bias
    correction), which every richer method starts from.

    Every group has one vote, shared by its images: a lesion photographed five times counts as one lesion. A
    case whose diagnosis is unknown still speaks where it is known whether it is a melanoma: its likelihood is
    the summed probability of the classes that it may be. Cases of which neither is known are left out.

    Parameters
    ----------
    logits_NC
        Shape (n, classes), raw, of cases that training did not see.
    class_index_N
        Shape (n,), index of the true class; -1 where it is unknown or not among the classes.
    groups_N
        Length n, the lesion or patient of each case.
    melanoma_N
        Shape (n,), 1 melanoma, 0 not, NaN unknown; counts where `class_index_N` is -1.
    melanoma_index
        Which class is melanoma; needed with `melanoma_N`.
    method
        "auto" cross-validates the log loss, 5-fold over groups, and takes the plainest method that is no more
        than one standard error worse than the best (the error of the difference, from group to group).

    Raises
    ------
    MelascopeError
        No case says anything, or "auto" finds too few groups to cross-validate.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017 (temperature, vector). Alexandari, Kundaje
    and Shrikumar, "Maximum likelihood with bias-corrected calibration is hard-to-beat at label shift adaptation",
    ICML 2020. Of single classes against the rest: see `one_vs_rest`. Hastie, Tibshirani and Friedman, "The
    Elements of Statistical Learning", 2009, section 7.10 (one standard error).
    """
    allowed_NC = _allowed_classes(np.shape(logits_NC), class_index_N, melanoma_N, melanoma_index)
    usable_N = ~allowed_NC.all(axis=1)
    if not usable_N.any():
        raise MelascopeError(
            f"None of the {len(allowed_NC)} calibration cases has a known diagnosis.",
            remedy="Calibrate on cases with a diagnosis, or with `melanoma` 0 or 1.",
        )
    logits_NC = np.asarray(logits_NC, dtype=np.float64)[usable_N]
    allowed_NC = allowed_NC[usable_N]
    _, group_N, size_G = np.unique(np.asarray(groups_N)[usable_N], return_inverse=True, return_counts=True)
    vote_N = 1.0 / size_G[group_N]
    chosen = _best_method(logits_NC, allowed_NC, group_N, vote_N) if method == "auto" else method
    fitted = _fit(logits_NC, allowed_NC, vote_N, chosen)
    return Calibration(
        method=chosen,
        scale_C=tuple(fitted.scale_C.tolist()),
        bias_C=tuple(fitted.bias_C.tolist()),
        curve_C=fitted.curve_C,
        prevalence_C=_prevalence(fitted.log_probabilities(logits_NC), allowed_NC, vote_N),
        n_cases=len(logits_NC),
        n_groups=len(size_G),
    )


def _allowed_classes(
    shape: tuple[int, ...],
    class_index_N: NDArray[np.integer],
    melanoma_N: NDArray[np.floating] | None,
    melanoma_index: int | None,
) -> NDArray[np.bool_]:
    """Shape (n, classes): the classes that each case may be; all of them where nothing is known."""
    known_N = class_index_N >= 0
    allowed_NC = np.broadcast_to(~known_N[:, None], shape).copy()
    allowed_NC[known_N, class_index_N[known_N]] = True
    if melanoma_N is not None:
        if melanoma_index is None:
            raise ValueError("melanoma_N needs melanoma_index")
        is_melanoma_C = np.arange(shape[1]) == melanoma_index
        allowed_NC[~known_N & (melanoma_N == 1)] = is_melanoma_C
        allowed_NC[~known_N & (melanoma_N == 0)] = ~is_melanoma_C
    return allowed_NC


def _posterior(scaled_NC: NDArray[np.float64], allowed_NC: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of the classes that each case may be."""
    return softmax(np.where(allowed_NC, scaled_NC, -np.inf))


def _loss(scaled_NC: NDArray[np.float64], allowed_NC: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log loss of each case, shape (n,), of log-probabilities or of logits."""
    return logsumexp(scaled_NC) - logsumexp(np.where(allowed_NC, scaled_NC, -np.inf))


def _fit(
    logits_NC: NDArray[np.float64],
    allowed_NC: NDArray[np.bool_],
    vote_N: NDArray[np.float64],
    method: CalibrationMethod,
) -> _Map:
    if method == "platt" or method == "beta" or method == "isotonic":
        shifted = _fit_scaling(logits_NC, allowed_NC, vote_N, "bias-corrected-temperature")
        scaled_NC = logits_NC * shifted.scale_C + shifted.bias_C
        log_odds_NC, target_NC = _log_odds(scaled_NC), _posterior(scaled_NC, allowed_NC)
        curves = (
            fit_curve(x_N, y_N, vote_N, method) for x_N, y_N in zip(log_odds_NC.T, target_NC.T, strict=True)
        )
        return shifted._replace(curve_C=tuple(curves))
    return _fit_scaling(logits_NC, allowed_NC, vote_N, method)


def _fit_scaling(
    logits_NC: NDArray[np.float64],
    allowed_NC: NDArray[np.bool_],
    vote_N: NDArray[np.float64],
    method: ScalingMethod,
) -> _Map:
    """Scales and biases of least penalised log loss; the penalty is 0 where the descent starts, uncalibrated, so
    that the fitted log loss is never above the uncalibrated one.

    The parameters are the log temperature, a bias a class, and how far the log scale of each class is from that
    of the temperature; bounds of 0 hold those that a method does not have.
    """
    from scipy.optimize import minimize  # not needed to apply a calibration, so no part of what serves

    n_classes = logits_NC.shape[1]
    deviation_P = np.repeat([np.inf, _BIAS_DEVIATION, _LOG_SCALE_DEVIATION], [1, n_classes, n_classes])
    freedom = METHODS.index(method)
    bound_P = np.repeat(
        [
            _LOG_TEMPERATURE_BOUND * (freedom > 0),
            _BIAS_BOUND * (freedom > 1),
            _LOG_SCALE_BOUND * (freedom > 2),
        ],
        [1, n_classes, n_classes],
    )

    def map_of(parameters_P: NDArray[np.float64]) -> _Map:
        bias_C, log_scale_C = np.split(parameters_P[1:], 2)
        return _Map(np.exp(log_scale_C - parameters_P[0]), bias_C)

    def loss_and_gradient(parameters_P: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale_C, bias_C, _ = map_of(parameters_P)
        scaled_NC = logits_NC * scale_C + bias_C
        residual_NC = softmax(scaled_NC) - _posterior(scaled_NC, allowed_NC)
        slope_C = scale_C * (vote_N @ (residual_NC * logits_NC))
        gradient_P = np.concatenate([[-slope_C.sum()], vote_N @ residual_NC, slope_C])
        away_P = parameters_P / deviation_P
        loss = float(vote_N @ _loss(scaled_NC, allowed_NC)) + 0.5 * float(away_P @ away_P)
        return loss, gradient_P + away_P / deviation_P

    start_P = np.zeros(len(bound_P))
    bounds = list(zip(-bound_P, bound_P, strict=True))
    return map_of(minimize(loss_and_gradient, start_P, jac=True, method="L-BFGS-B", bounds=bounds).x)


def _best_method(
    logits_NC: NDArray[np.float64],
    allowed_NC: NDArray[np.bool_],
    group_N: NDArray[np.intp],
    vote_N: NDArray[np.float64],
) -> CalibrationMethod:
    n_groups = int(group_N.max()) + 1
    if n_groups < _N_FOLDS:
        raise MelascopeError(
            f"The calibration cases are of {n_groups} groups; choosing a method takes {_N_FOLDS}.",
            remedy="Calibrate on more cases.",
        )
    fold_N = (np.random.default_rng(0).permutation(n_groups) % _N_FOLDS)[group_N]
    loss_MG = np.empty((len(METHODS), n_groups))
    for m, method in enumerate(METHODS):
        loss_N = np.empty(len(vote_N))
        for fold in range(_N_FOLDS):
            out_N = fold_N == fold
            fitted = _fit(logits_NC[~out_N], allowed_NC[~out_N], vote_N[~out_N], method)
            loss_N[out_N] = _loss(fitted.log_probabilities(logits_NC[out_N]), allowed_NC[out_N])
        loss_MG[m] = np.bincount(group_N, weights=vote_N * loss_N)
    worse_MG = loss_MG - loss_MG[loss_MG.sum(axis=1).argmin()]
    standard_error_M = worse_MG.std(axis=1, ddof=1) / np.sqrt(n_groups)
    return METHODS[int(np.argmax(worse_MG.mean(axis=1) <= standard_error_M))]


def _prevalence(
    log_probability_NC: NDArray[np.float64], allowed_NC: NDArray[np.bool_], vote_N: NDArray[np.float64]
) -> tuple[float, ...]:
    """Expected class frequencies: a case of several possible classes counts for each by its probability."""
    votes_C = vote_N @ _posterior(log_probability_NC, allowed_NC) + _PSEUDO_VOTE
    return tuple((votes_C / votes_C.sum()).tolist())
