"""95 % intervals by resampling whole lesions or patients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from melascope.evaluation.metrics import UndefinedMetricWarning

Named = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Statistic:
    """Named metrics as a function of case weights."""

    #: from case weights, shape (weightings, n), to metrics, each of shape (weightings,)
    of_weights: Callable[[NDArray[np.float64]], Named]
    #: metrics that are shares, and the cases, shape (n,), that each is a share of
    shares: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __or__(self, other: Statistic) -> Statistic:
        """The metrics of both."""
        return Statistic(
            lambda weight_BN: self.of_weights(weight_BN) | other.of_weights(weight_BN),
            {**self.shares, **other.shares},
        )


_WEIGHTS_AT_ONCE = 2_000_000  # float64; bounds the memory of a draw's intermediates to some hundred MB
_DEFINED_DRAWS = 0.95  # below this part of defined draws an interval would describe other data


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


def estimate(
    statistic: Statistic, groups_N: Sequence[str], *, n_draws: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Each metric of the cases, with its percentile bootstrap interval.

    A draw takes as many groups as there are, with replacement, each with all its cases: images of one lesion
    or patient are not independent. Draws in which a metric is undefined do not count for it; where more than
    5 % are, the interval is NaN.

    Parameters
    ----------
    groups_N
        Length n, the lesion or patient of each case.
    n_draws
        0 gives the values without intervals.

    Warns
    -----
    UndefinedMetricWarning
        A metric is undefined on the cases as they are (not: in some draw).

    References
    ----------
    Field and Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3), 2007.
    """
    n = len(groups_N)
    values = {name: float(value_B[0]) for name, value_B in statistic.of_weights(np.ones((1, n))).items()}
    _, group_N = np.unique(np.asarray(groups_N, dtype=str), return_inverse=True)
    n_groups = int(group_N.max(initial=-1)) + 1
    random = np.random.default_rng(seed)
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in values}
    chunk = max(1, _WEIGHTS_AT_ONCE // max(n, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        for start in range(0, n_draws if n_groups else 0, chunk):
            n_now = min(chunk, n_draws - start)
            count_BG = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_now)
            for name, value_B in statistic.of_weights(count_BG[:, group_N].astype(np.float64)).items():
                parts[name].append(value_B)
    estimates = {name: Estimate(value, *_percentiles(parts[name])) for name, value in values.items()}
    for name, member_N in statistic.shares.items():
        if n_draws and estimates[name].value in (0.0, 1.0):
            estimates[name] = _exact(estimates[name].value, len(np.unique(group_N[member_N])))
    return estimates


def _exact(share: float, n_groups: int) -> Estimate:
    interval = binomtest(round(share * n_groups), n_groups).proportion_ci(method="exact")
    return Estimate(share, float(interval.low), float(interval.high))


def _percentiles(parts: list[NDArray[np.float64]]) -> tuple[float, float]:
    draws_B = np.concatenate(parts) if parts else np.empty(0)
    defined_B = draws_B[np.isfinite(draws_B)]
    if not len(defined_B) or len(defined_B) < _DEFINED_DRAWS * len(draws_B):
        return float("nan"), float("nan")
    low, high = np.percentile(defined_B, [2.5, 97.5])
    return float(low), float(high)
