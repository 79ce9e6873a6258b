import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.special import expit, log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from melascope.decision.calibration import METHODS, Calibration, fit_calibration
from melascope.errors import MelascopeError
from melascope.evaluation.metrics import calibration_error

SCALINGS = METHODS[:4]
CURVES = METHODS[4:]


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
@given(seed=st.integers(0, 10_000), method=st.sampled_from(SCALINGS), n=st.integers(5, 80))
def test_the_fitted_log_loss_of_a_scaling_is_never_worse_than_uncalibrated(seed, method, n):
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


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), method=st.sampled_from(METHODS), c=st.integers(0, 3))
def test_more_evidence_for_a_class_never_makes_it_less_probable(seed, method, c):
    """In a case, other logits being equal; and of two classes, in all cases: their curves only bend the scale."""
    logits_NC, true_N = cases(80, seed=seed, temperature=2, shift_C=[1, 0, 0, -1])
    fitted = fit_calibration(logits_NC, true_N, images(80), method=method)
    rising_KC = np.repeat(logits_NC[:1], 60, axis=0)
    rising_KC[:, c] = np.linspace(-15, 15, 60)
    assert (np.diff(fitted.log_probabilities(rising_KC)[:, c]) >= -1e-9).all()
    two_NC, of_two_N = logits_NC[:, :2], true_N % 2
    of_two = fit_calibration(two_NC, of_two_N, images(80), method=method)
    if method != "vector":  # of two classes too, it weighs one logit more than the other
        order_N = (two_NC[:, 1] - two_NC[:, 0]).argsort()
        assert (np.diff(of_two.log_probabilities(two_NC[order_N])[:, 1]) >= -1e-9).all()


def test_isotonic_makes_no_ties_and_no_certainty():
    logits_NC, true_N = cases(1500, temperature=2)
    probabilities_NC = fit_calibration(logits_NC, true_N, images(1500), method="isotonic").probabilities(
        logits_NC
    )
    assert len(np.unique(probabilities_NC[:, 0])) == 1500
    assert 0 < probabilities_NC.min() < probabilities_NC.max() < 1


def test_recovers_a_known_temperature_and_shift():
    shift_C = np.array([1.0, 0.3, -0.3, -1.0])
    logits_NC, true_N = cases(4_000, temperature=2.5, shift_C=shift_C)
    fitted = fit_calibration(logits_NC, true_N, images(len(true_N)))
    assert fitted.method == "bias-corrected-temperature"
    assert fitted.scale_C == pytest.approx([1 / 2.5] * 4, rel=0.07)
    assert np.array(fitted.bias_C) == pytest.approx(shift_C, abs=0.17)


def test_auto_takes_the_plainest_where_nothing_is_to_be_gained():
    logits_NC, true_N = cases(3000, seed=4)
    assert fit_calibration(logits_NC, true_N, images(3000)).method == "none"


def test_auto_takes_a_richer_method_where_it_is_worth_it():
    posterior_logits_NC, true_N = cases(3000)
    logits_NC = posterior_logits_NC / np.array([0.4, 1, 1, 2.5])
    fitted = fit_calibration(logits_NC, true_N, images(3000))
    assert fitted.method == "vector"
    assert fitted.scale_C == pytest.approx([0.4, 1, 1, 2.5], rel=0.1)
    random = np.random.default_rng(5)
    log_odds_N = random.normal(0, 2.5, 3000)
    bent_N = np.arcsinh(log_odds_N * 3)  # much flatter for large log-odds than for small ones
    binary_NC = np.column_stack([np.zeros(3000), bent_N])
    binary_N = (random.random(3000) < expit(log_odds_N)).astype(int)
    assert fit_calibration(binary_NC, binary_N, images(3000)).method == "isotonic"


def melanoma_calibration_error(log_probability_NC, true_N):
    return calibration_error(np.exp(log_probability_NC[:, 0]), true_N == 0, np.ones((1, len(true_N))))[0]


def test_temperature_alone_makes_a_network_trained_with_class_weights_worse():
    """It answers rightly as if all classes were equally frequent; a temperature blurs that, and leaves the shift."""
    random = np.random.default_rng(1)
    true_N = random.choice(4, 20_000, p=[0.1, 0.65, 0.2, 0.05])
    logits_NC = 2 * (
        random.normal(0, 1, (20_000, 4)) + 2 * np.eye(4)[true_N]
    )  # log-likelihoods of the classes
    fitting, judging = slice(0, 4000), slice(4000, None)
    error = {
        "as trained": melanoma_calibration_error(log_softmax(logits_NC[judging], axis=1), true_N[judging])
    }
    for method in (*SCALINGS[1:3], "auto"):
        fitted = fit_calibration(logits_NC[fitting], true_N[fitting], images(4000), method=method)
        error[method] = melanoma_calibration_error(
            fitted.log_probabilities(logits_NC[judging]), true_N[judging]
        )
    assert error["temperature"] > error["as trained"] > 3 * error["bias-corrected-temperature"]
    assert error["auto"] == error["bias-corrected-temperature"] < 0.02


def oracle_log_odds(seed=0, n=4000):
    """Two classes, and the log-odds of the second after bias-corrected temperature scaling, with the fitted curve."""
    random = np.random.default_rng(seed)
    log_odds_N = random.normal(-1, 2, n)
    true_N = (random.random(n) < expit(1.5 * np.arcsinh(log_odds_N) + 0.4)).astype(int)
    logits_NC = np.column_stack([np.zeros(n), log_odds_N])
    shifted = fit_calibration(logits_NC, true_N, images(n), method="bias-corrected-temperature")
    log_probability_NC = shifted.log_probabilities(logits_NC)
    return logits_NC, true_N, log_probability_NC[:, 1] - log_probability_NC[:, 0]


@pytest.mark.parametrize("method", ["platt", "beta"])
def test_of_two_classes_equals_the_logistic_regression_of_scikit_learn(method):
    logits_NC, true_N, log_odds_N = oracle_log_odds()
    terms_NF = log_odds_N[:, None]
    if method == "beta":  # Kull et al., 2017: logistic regression on log p and -log(1 - p)
        terms_NF = np.column_stack([np.log(expit(log_odds_N)), -np.log(expit(-log_odds_N))])
    oracle = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(terms_NF, true_N)
    fitted = fit_calibration(logits_NC, true_N, images(len(true_N)), method=method)
    expected_N = oracle.predict_proba(terms_NF)[:, 1]
    assert fitted.probabilities(logits_NC)[:, 1] == pytest.approx(expected_N, abs=0.004)


def test_isotonic_steps_are_those_of_scikit_learn():
    """The knots between the outermost lie in the middle of a step, as high as the step."""
    logits_NC, true_N, log_odds_N = oracle_log_odds(n=900)
    curve = fit_calibration(logits_NC, true_N, images(900), method="isotonic").curve_C[1]
    low, high = log_odds_N.argmin(), log_odds_N.argmax()
    oracle = IsotonicRegression().fit(
        np.append(log_odds_N, log_odds_N[[low, high]]),
        np.append(true_N, [1, 0]),
        sample_weight=np.append(np.ones(900), [0.5, 0.5]),
    )
    steps = np.unique(oracle.predict(log_odds_N))
    assert expit(curve.values_K[1:-1]) == pytest.approx(steps)
    assert oracle.predict(curve.knots_K[1:-1]) == pytest.approx(steps)


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
    assert often.scale_C == pytest.approx(once.scale_C, rel=1e-4)
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


@pytest.mark.parametrize("method", METHODS[1:])
def test_every_method_stands_a_class_without_cases_and_cases_known_by_halves(method):
    logits_NC, true_N = cases(400, temperature=1.5, shift_C=[1, 0, 0, -1])
    keep_N = true_N != 3
    logits_NC, true_N = logits_NC[keep_N], true_N[keep_N]
    half_N = np.arange(len(true_N)) % 3 == 0
    fitted = fit_calibration(
        logits_NC,
        np.where(half_N, -1, true_N),
        images(len(true_N)),
        melanoma_N=(true_N == 0).astype(float),
        melanoma_index=0,
        method=method,
    )
    probabilities_NC = fitted.probabilities(logits_NC)
    assert probabilities_NC.sum(axis=1) == pytest.approx(1)
    assert probabilities_NC.min() > 0
    if method != "temperature":
        assert probabilities_NC[:, 0].mean() == pytest.approx((true_N == 0).mean(), abs=0.03)
        assert probabilities_NC[:, 3].mean() < 0.03


@pytest.mark.parametrize("method", METHODS)
def test_a_calibration_survives_json(method):
    logits_NC, true_N = cases(100)
    adapter = TypeAdapter(Calibration)
    fitted = fit_calibration(logits_NC, true_N, images(100), method=method)
    assert adapter.validate_json(adapter.dump_json(fitted)) == fitted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scale_C": (1.0, 0.0)}, "above 0"),
        ({"scale_C": (1.0,)}, "has 1, 2 and 2"),
        ({"bias_C": (float("nan"), 0.0)}, "finite"),
        ({"prevalence_C": (0.5, 0.6)}, "sum to 1"),
        ({"curve_C": ()}, "2 curves"),
        ({"method": "vector"}, "0 curves"),
        ({"temperature": 2.0}, "Unexpected"),
        ({"curve_C": ({"knots_K": (0.0, 1.0), "values_K": (1.0, 0.0)},) * 2}, "not fall"),
        ({"curve_C": ({"knots_K": (0.0, 0.0), "values_K": (0.0, 1.0)},) * 2}, "rise"),
        ({"curve_C": ({"knots_K": (0.0,), "values_K": (0.0,)},) * 2}, "two knots"),
        ({"curve_C": ({"knots_K": (0.0, float("inf")), "values_K": (0.0, 1.0)},) * 2}, "finite"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(change, said):
    line = {"knots_K": (0.0, 1.0), "values_K": (0.0, 1.0)}
    fields = {
        "method": "platt", "scale_C": (1.0, 1.0), "bias_C": (0.0, 0.0), "curve_C": (line, line),
        "prevalence_C": (0.4, 0.6), "n_cases": 10, "n_groups": 10,
    }  # fmt: skip
    adapter = TypeAdapter(Calibration)
    adapter.validate_python(fields)
    with pytest.raises(ValidationError, match=said):
        adapter.validate_python(fields | change)


def test_refuses_cases_that_say_nothing_and_too_few_to_cross_validate():
    logits_NC, true_N = cases(30)
    with pytest.raises(MelascopeError, match="None of the 30"):
        fit_calibration(logits_NC, np.full(30, -1), images(30))
    with pytest.raises(MelascopeError, match="3 groups"):
        fit_calibration(logits_NC[:3], true_N[:3], images(3))
