import numpy as np
import pytest
from scipy.stats import beta, norm

from melascope.evaluation import metrics
from melascope.evaluation.intervals import Statistic, estimate


def mean_of(value_N):
    return Statistic(lambda weight_BN: {"mean": metrics.mean(value_N, weight_BN, "mean")})


def test_independent_cases_give_the_normal_interval_of_a_mean():
    value_N = np.random.default_rng(0).normal(5, 2, 400)
    found = estimate(mean_of(value_N), [str(n) for n in range(400)], n_draws=4000)["mean"]
    error = value_N.std() / 20
    assert found.value == pytest.approx(value_N.mean())
    assert (found.low, found.high) == pytest.approx(
        (found.value + norm.ppf(0.025) * error, found.value + norm.ppf(0.975) * error), abs=0.1 * error
    )


def test_copies_within_a_lesion_do_not_narrow_the_interval():
    value_N = np.random.default_rng(0).normal(0, 1, 100)
    lesions = [f"lesion-{n}" for n in range(100)]
    alone = estimate(mean_of(value_N), lesions)["mean"]
    copied = estimate(mean_of(np.repeat(value_N, 9)), np.repeat(lesions, 9).tolist())["mean"]
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_draws_are_reproduced_by_the_seed_whatever_the_memory_allows(monkeypatch):
    value_N, groups = np.arange(50.0), [str(n) for n in range(50)]
    whole = estimate(mean_of(value_N), groups, seed=3)
    monkeypatch.setattr("melascope.evaluation.intervals._WEIGHTS_AT_ONCE", 700)
    assert estimate(mean_of(value_N), groups, seed=3) == whole
    assert estimate(mean_of(value_N), groups, seed=4) != whole


def test_an_interval_needs_nearly_all_draws():
    """One positive among 30 lesions: a third of the draws lack it."""
    positive_N = np.arange(30) == 0

    def of_weights(weight_BN):
        return {"auroc": metrics.auroc(metrics.Roc.of(np.arange(30.0), positive_N, weight_BN))}

    found = estimate(Statistic(of_weights), [str(n) for n in range(30)])["auroc"]
    assert found.value == 0.0
    assert np.isnan([found.low, found.high]).all()


def test_a_share_of_one_has_the_exact_interval_of_its_lesions():
    member_N = np.arange(12) < 8
    statistic = Statistic(
        lambda weight_BN: {"share": metrics.ratio(weight_BN @ member_N, weight_BN @ member_N, "share")},
        {"share": member_N},
    )
    found = estimate(statistic, [f"lesion-{n // 2}" for n in range(12)])["share"]
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(beta.ppf(0.025, 4, 1))


def test_without_draws_there_is_no_interval():
    found = estimate(mean_of(np.arange(3.0)), ["a", "b", "c"], n_draws=0)["mean"]
    assert found.value == 1.0
    assert np.isnan([found.low, found.high]).all()
