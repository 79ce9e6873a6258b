"""Calibration: from a network's raw logits to probabilities that mean what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from melascope.errors import MelascopeError

CalibrationMethod = Literal["none", "temperature", "bias-corrected-temperature"]

#: From the plainest to the richest; "auto" takes the plainest of equals.
METHODS: tuple[CalibrationMethod, ...] = ("none", "temperature", "bias-corrected-temperature")

_N_FOLDS = 5
_LOG_TEMPERATURE_BOUND = 4.0  # temperatures from 1/55 to 55; a fit that ends there has no more to gain
_BIAS_BOUND = 10.0
#: Prior of the biases: normal around 0 with this deviation. It weighs as much as one lesion or so, and thus
#: holds only the classes of which the calibration cases have next to none.
_BIAS_DEVIATION = 1.0
_PSEUDO_VOTE = 0.5  # of each class in `prevalence_C` (Jeffreys), so that no class is impossible


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """probabilities = softmax(logits / temperature + bias), on the class frequencies it was fitted on."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    method: CalibrationMethod
    temperature: float  #: above 0
    bias_C: tuple[float, ...]  #: one a class; undoes the shift that class weights or sampling caused
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
        "auto" takes the method of least log loss in a 5-fold cross-validation over groups.

    Raises
    ------
    MelascopeError
        No case says anything, or "auto" finds too few groups to cross-validate.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017 (temperature). Alexandari, Kundaje and
    Shrikumar, "Maximum likelihood with bias-corrected calibration is hard-to-beat at label shift adaptation",
    ICML 2020.
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
    temperature, bias_C = _fit(logits_NC, allowed_NC, vote_N, chosen)
    return Calibration(
        method=chosen,
        temperature=temperature,
        bias_C=tuple(bias_C.tolist()),
        prevalence_C=tuple(_prevalence(logits_NC / temperature + bias_C, allowed_NC, vote_N).tolist()),
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


def _log_loss(
    scaled_NC: NDArray[np.float64], allowed_NC: NDArray[np.bool_], vote_N: NDArray[np.float64]
) -> float:
    """Summed over votes."""
    log_likelihood_N = logsumexp(scaled_NC, axis=1, b=allowed_NC) - logsumexp(scaled_NC, axis=1)
    return -float(vote_N @ log_likelihood_N)


def _fit(
    logits_NC: NDArray[np.float64],
    allowed_NC: NDArray[np.bool_],
    vote_N: NDArray[np.float64],
    method: CalibrationMethod,
) -> tuple[float, NDArray[np.float64]]:
    """Temperature and biases of least penalised log loss; the penalty is 0 where the descent starts,
    uncalibrated, so that the fitted log loss is never above the uncalibrated one."""
    from scipy.optimize import minimize  # slow to import, and not needed to apply a calibration

    n_classes = logits_NC.shape[1]
    if method == "none":
        return 1.0, np.zeros(n_classes)
    with_bias = method == "bias-corrected-temperature"

    def loss_and_gradient(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, bias_C = np.exp(-parameters[0]), parameters[1:]
        scaled_NC = logits_NC * scale + (bias_C if with_bias else 0.0)
        posterior_NC = np.exp(log_softmax(np.where(allowed_NC, scaled_NC, -np.inf), axis=1))
        residual_NC = vote_N[:, None] * (np.exp(log_softmax(scaled_NC, axis=1)) - posterior_NC)
        slope = np.concatenate([[-scale * np.sum(residual_NC * logits_NC)], residual_NC.sum(axis=0)])
        loss = _log_loss(scaled_NC, allowed_NC, vote_N)
        if not with_bias:
            return loss, slope[:1]
        slope[1:] += bias_C / _BIAS_DEVIATION**2
        return loss + 0.5 * float(bias_C @ bias_C) / _BIAS_DEVIATION**2, slope

    n_parameters = 1 + n_classes * with_bias
    bounds = [(-_LOG_TEMPERATURE_BOUND, _LOG_TEMPERATURE_BOUND)] + [(-_BIAS_BOUND, _BIAS_BOUND)] * (
        n_parameters - 1
    )
    fitted = minimize(loss_and_gradient, np.zeros(n_parameters), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(fitted[0])), np.asarray(fitted[1:]) if with_bias else np.zeros(n_classes)


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

    def held_out_loss(method: CalibrationMethod) -> float:
        loss = 0.0
        for fold in range(_N_FOLDS):
            out_N = fold_N == fold
            temperature, bias_C = _fit(logits_NC[~out_N], allowed_NC[~out_N], vote_N[~out_N], method)
            loss += _log_loss(logits_NC[out_N] / temperature + bias_C, allowed_NC[out_N], vote_N[out_N])
        return loss

    return min(METHODS, key=held_out_loss)


def _prevalence(
    scaled_NC: NDArray[np.float64], allowed_NC: NDArray[np.bool_], vote_N: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected class frequencies: a case of several possible classes counts for each by its probability."""
    posterior_NC = np.exp(log_softmax(np.where(allowed_NC, scaled_NC, -np.inf), axis=1))
    votes_C = vote_N @ posterior_NC + _PSEUDO_VOTE
    return np.asarray(votes_C / votes_C.sum())
