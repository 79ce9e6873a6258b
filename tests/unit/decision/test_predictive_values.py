import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from melascope.decision.operating_point import OperatingPoint, clopper_pearson
from melascope.decision.predictive_values import predictive_values


def point(found, n_melanoma, spared, n_other):
    return OperatingPoint(
        name="p", threshold=0.1, target="sensitivity", target_value=0.95, confidence=0.9, lower_bound=0.95,
        sensitivity=found / n_melanoma, sensitivity_interval=clopper_pearson(found, n_melanoma),
        specificity=spared / n_other, specificity_interval=clopper_pearson(spared, n_other),
        n_melanoma=n_melanoma, n_other=n_other,
    )  # fmt: skip


def test_a_clinic_that_can_be_counted():
    """1000 lesions, 20 melanomas: 19 of them referred, and 392 of the 980 others."""
    values = predictive_values(point(95, 100, 300, 500), 0.02)
    assert values.ppv == pytest.approx(19 / (19 + 392))
    assert values.npv == pytest.approx(588 / (588 + 1))


prevalences = st.floats(0.001, 0.999)


@given(n_melanoma=st.integers(1, 400), n_other=st.integers(1, 400), prevalence=prevalences, data=st.data())
def test_the_interval_holds_the_value_and_nothing_is_certain(n_melanoma, n_other, prevalence, data):
    found, spared = data.draw(st.integers(0, n_melanoma)), data.draw(st.integers(0, n_other))
    values = predictive_values(point(found, n_melanoma, spared, n_other), prevalence)
    for value, (low, high) in ((values.ppv, values.ppv_interval), (values.npv, values.npv_interval)):
        assert 0 <= low < high <= 1
        assert value is None or low - 1e-12 <= value <= high + 1e-12


@pytest.mark.parametrize(
    ("counts", "undefined"), [((0, 50, 80, 80), "ppv"), ((50, 50, 0, 80), "npv")], ids=["no one", "everyone"]
)
def test_the_worth_of_what_never_happens_is_undefined(counts, undefined):
    values = predictive_values(point(*counts), 0.05)
    assert getattr(values, undefined) is None
    assert getattr(values, f"{undefined}_interval") == (0, 1)


def logit_interval(centre, variance):
    """Equations of Mercaldo, Lau and Zhou (2007), right for large samples."""
    return tuple(expit(centre + np.array([-1.96, 1.96]) * math.sqrt(variance)))


def test_of_large_samples_equals_the_logit_interval_of_mercaldo_lau_and_zhou():
    se, sp, n = 0.8, 0.7, 1_000_000
    values = predictive_values(point(round(se * n), n, round(sp * n), n), 0.1)
    ppv = logit_interval(logit(0.1) + math.log(se / (1 - sp)), (1 - se) / (se * n) + sp / ((1 - sp) * n))
    npv = logit_interval(-logit(0.1) + math.log(sp / (1 - se)), se / ((1 - se) * n) + (1 - sp) / (sp * n))
    assert values.ppv_interval == pytest.approx(ppv, abs=2e-6)
    assert values.npv_interval == pytest.approx(npv, abs=2e-6)


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "n_melanoma", "n_other"),
    [
        (0.95, 0.6, 98, 1000),
        (0.98, 0.5, 98, 1000),
        (0.99, 0.9, 50, 300),
        (0.8, 0.95, 200, 60),
        (0.9, 0.9, 20, 20),
    ],
)
def test_the_intervals_cover_what_they_say_over_simulated_calibrations(
    sensitivity, specificity, n_melanoma, n_other
):
    random = np.random.default_rng(7)
    draws, prevalence = 2000, 0.05
    right = np.array([prevalence * sensitivity, (1 - prevalence) * specificity])
    wrong = np.array([(1 - prevalence) * (1 - specificity), prevalence * (1 - sensitivity)])
    ppv, npv = right / (right + wrong)
    covered = np.zeros(2)
    for found, spared in zip(
        random.binomial(n_melanoma, sensitivity, draws),
        random.binomial(n_other, specificity, draws),
        strict=True,
    ):
        values = predictive_values(point(int(found), n_melanoma, int(spared), n_other), prevalence)
        for i, (truth, (low, high)) in enumerate(((ppv, values.ppv_interval), (npv, values.npv_interval))):
            covered[i] += low <= truth <= high
    assert (covered / draws >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)).all()
