import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from melascope.decision.calibration import METHODS, fit_calibration
from melascope.errors import MelascopeError


def cases(n=600, n_classes=4, seed=0, temperature=1.0, shift_C=None):
    """Logits whose true posterior is softmax(logits / temperature + shift)."""
    random = np.random.default_rng(seed)
    posterior_logits_NC = random.normal(0, 2, (n, n_classes)) + np.linspace(1, -1, n_classes)
    posterior_NC = softmax(posterior_logits_NC, axis=1)
    true_N = (posterior_NC.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    shift_C = np.zeros(n_classes) if shift_C is None else np.asarray(shift_C)
    return temperature * (posterior_logits_NC - shift_C), true_N


def images(n):
    return [f"image-{i}" for i in range(n)]


def log_loss(log_probability_NC, true_N):
    return -log_probability_NC[np.arange(len(true_N)), true_N].mean()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), method=st.sampled_from(METHODS), n=st.integers(5, 80))
def test_the_fitted_log_loss_is_never_worse_than_uncalibrated(seed, method, n):
    logits_NC, true_N = cases(n, seed=seed, temperature=1.7)
    fitted = fit_calibration(logits_NC, true_N, images(n), method=method)
    before = log_loss(log_softmax(logits_NC, axis=1), true_N)
    assert log_loss(fitted.log_probabilities(logits_NC), true_N) <= before + 1e-12


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_temperature_never_changes_the_ranking_within_a_row(seed):
    logits_NC, true_N = cases(60, seed=seed, temperature=3)
    fitted = fit_calibration(logits_NC, true_N, images(60), method="temperature")
    assert fitted.bias_C == (0.0,) * 4
    order_NC = logits_NC.argsort(axis=1, kind="stable")
    assert (
        np.diff(np.take_along_axis(fitted.log_probabilities(logits_NC), order_NC, axis=1), axis=1) >= 0
    ).all()


def test_recovers_a_known_temperature_and_shift():
    shift_C = np.array([1.0, 0.3, -0.3, -1.0])
    logits_NC, true_N = cases(8_000, temperature=2.5, shift_C=shift_C)
    fitted = fit_calibration(logits_NC, true_N, images(len(true_N)))
    assert fitted.method == "bias-corrected-temperature"
    assert fitted.temperature == pytest.approx(2.5, rel=0.05)
    assert np.array(fitted.bias_C) == pytest.approx(shift_C, abs=0.12)


def test_auto_keeps_a_calibrated_network_as_it_is_or_nearly():
    logits_NC, true_N = cases(3000, seed=4)
    fitted = fit_calibration(logits_NC, true_N, images(3000))
    assert fitted.temperature == pytest.approx(1, abs=0.1)
    assert np.abs(fitted.bias_C).max() < 0.2


def test_a_lesion_has_one_vote_however_often_it_was_photographed():
    logits_NC, true_N = cases(300, temperature=2)
    once = fit_calibration(logits_NC, true_N, images(300), method="bias-corrected-temperature")
    copies = [0] * 40 + list(range(300))
    often = fit_calibration(
        logits_NC[copies],
        true_N[copies],
        [images(300)[i] for i in copies],
        method="bias-corrected-temperature",
    )
    assert often.temperature == pytest.approx(once.temperature, rel=1e-4)
    assert often.prevalence_C == pytest.approx(once.prevalence_C, rel=1e-4)
    assert (often.n_cases, often.n_groups, once.n_cases) == (340, 300, 300)


def test_cases_known_only_as_melanoma_or_not_speak_through_their_possible_classes():
    shift_C = np.array([1.2, -0.4, -0.4, -0.4])
    logits_NC, true_N = cases(12_000, temperature=2, shift_C=shift_C)
    known_N = np.arange(12_000) % 20 == 0
    melanoma_N = (true_N == 0).astype(float)
    fitted = fit_calibration(
        logits_NC,
        np.where(known_N, true_N, -1),
        images(12_000),
        melanoma_N=melanoma_N,
        melanoma_index=0,
        method="bias-corrected-temperature",
    )
    probabilities_NC = fitted.probabilities(logits_NC)
    assert probabilities_NC[:, 0].mean() == pytest.approx(melanoma_N.mean(), abs=0.002)
    assert np.array(fitted.prevalence_C) == pytest.approx(np.bincount(true_N) / 12_000, abs=0.02)
    few = fit_calibration(
        logits_NC[known_N], true_N[known_N], images(600), method="bias-corrected-temperature"
    )
    assert abs(fitted.bias_C[0] - fitted.bias_C[1] - 1.6) < abs(few.bias_C[0] - few.bias_C[1] - 1.6) + 0.02


def test_cases_of_which_nothing_is_known_do_not_count():
    logits_NC, true_N = cases(200)
    class_index_N = np.where(np.arange(200) < 150, true_N, -1)
    fitted = fit_calibration(
        logits_NC,
        class_index_N,
        images(200),
        melanoma_N=np.full(200, np.nan),
        melanoma_index=0,
        method="temperature",
    )
    alone = fit_calibration(logits_NC[:150], true_N[:150], images(150), method="temperature")
    assert fitted == alone


def test_a_class_without_cases_is_held_and_stays_possible():
    logits_NC, true_N = cases(400, temperature=1.5)
    keep_N = true_N != 3
    fitted = fit_calibration(
        logits_NC[keep_N], true_N[keep_N], images(keep_N.sum()), method="bias-corrected-temperature"
    )
    assert -6 < fitted.bias_C[3] < 0
    assert sum(fitted.prevalence_C) == pytest.approx(1)
    assert 0 < fitted.prevalence_C[3] < 0.01


def test_refuses_cases_that_say_nothing_and_too_few_to_cross_validate():
    logits_NC, true_N = cases(30)
    with pytest.raises(MelascopeError, match="None of the 30"):
        fit_calibration(logits_NC, np.full(30, -1), images(30))
    with pytest.raises(MelascopeError, match="3 groups"):
        fit_calibration(logits_NC[:3], true_N[:3], images(3))
