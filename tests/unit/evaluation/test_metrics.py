"""Our metrics against scikit-learn, with weights as a bootstrap makes them, and by hand where it has none."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from melascope.evaluation import metrics
from melascope.evaluation.metrics import Counts, Roc, UndefinedMetricWarning


@st.composite
def scored(draw, max_size=60):
    """Scores with ties, outcomes of both kinds, and three weightings in which both kinds count."""
    n = draw(st.integers(4, max_size))
    seed = draw(st.integers(0, 10_000))
    levels = draw(st.sampled_from([2, 5, 1000]))
    random = np.random.default_rng(seed)
    score_N = random.integers(0, levels + 1, n) / levels
    positive_N = random.random(n) < 0.4
    positive_N[:2] = [True, False]
    weight_BN = random.integers(0, 4, (3, n)).astype(float)
    weight_BN[:, :2] += 1
    return score_N, positive_N, weight_BN


@settings(max_examples=80, deadline=None)
@given(scored())
def test_ranking_metrics_equal_scikit_learn(data):
    score_N, positive_N, weight_BN = data
    roc = Roc.of(score_N, positive_N, weight_BN)
    for b, weight_N in enumerate(weight_BN):
        assert metrics.auroc(roc)[b] == pytest.approx(
            oracle.roc_auc_score(positive_N, score_N, sample_weight=weight_N)
        )
        assert metrics.average_precision(roc)[b] == pytest.approx(
            oracle.average_precision_score(positive_N, score_N, sample_weight=weight_N)
        )
        false_rate_T, true_rate_T, _ = oracle.roc_curve(
            positive_N, score_N, sample_weight=weight_N, drop_intermediate=False
        )
        assert metrics.sensitivity_at_specificity(roc, 0.9)[b] == pytest.approx(
            true_rate_T[false_rate_T <= 0.1 + 1e-12].max()
        )
        assert metrics.specificity_at_sensitivity(roc, 0.95)[b] == pytest.approx(
            1 - false_rate_T[true_rate_T >= 0.95 - 1e-12].min()
        )


@settings(max_examples=80, deadline=None)
@given(scored())
def test_partial_auroc_equals_the_isic_2024_definition(data):
    """That swaps the labels, takes scikit-learn's partial AUC and undoes its scaling."""
    score_N, positive_N, _ = data
    swapped = oracle.roc_auc_score(~positive_N, -score_N, max_fpr=0.2)
    unscaled = 0.5 * 0.2**2 + (0.2 - 0.5 * 0.2**2) * (swapped - 0.5) / 0.5
    assert metrics.partial_auroc(Roc.of(score_N, positive_N), 0.8)[0] == pytest.approx(unscaled)
    assert metrics.partial_auroc(Roc.of(score_N, positive_N), 0.0)[0] == pytest.approx(
        oracle.roc_auc_score(positive_N, score_N)
    )


@settings(max_examples=60, deadline=None)
@given(scored())
def test_a_weight_counts_a_case_so_many_times(data):
    score_N, positive_N, weight_BN = data
    copies = np.repeat(np.arange(len(score_N)), weight_BN[0].astype(int))
    weighted = metrics.calibration_error(score_N, positive_N, weight_BN)[0]
    assert weighted == pytest.approx(metrics.calibration_error(score_N[copies], positive_N[copies])[0])
    weighted = metrics.brier(score_N, positive_N, weight_BN)[0]
    assert weighted == pytest.approx(oracle.brier_score_loss(positive_N[copies], score_N[copies]))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(8, 60))
def test_class_metrics_equal_scikit_learn(seed, n):
    random = np.random.default_rng(seed)
    true_N = np.append([0, 1, 2, 3], random.integers(0, 4, n))
    predicted_N = np.append([0, 1, 2, 3], random.integers(0, 4, n))
    weight_BN = random.integers(1, 4, (2, n + 4)).astype(float)
    confusion_BCC = metrics.confusion(true_N, predicted_N, 4, weight_BN)
    counts = Counts.of_classes(confusion_BCC)
    for b, weight_N in enumerate(weight_BN):
        assert confusion_BCC[b] == pytest.approx(
            oracle.confusion_matrix(true_N, predicted_N, sample_weight=weight_N)
        )
        precision_C, recall_C, f1_C, _ = oracle.precision_recall_fscore_support(
            true_N, predicted_N, sample_weight=weight_N
        )
        assert counts.ppv()[b] == pytest.approx(precision_C)
        assert counts.sensitivity()[b] == pytest.approx(recall_C)
        assert counts.f1()[b] == pytest.approx(f1_C)
        for c in range(4):
            rest = {"y_true": true_N != c, "y_pred": predicted_N != c, "sample_weight": weight_N}
            assert counts.specificity()[b, c] == pytest.approx(oracle.recall_score(**rest))
            assert counts.npv()[b, c] == pytest.approx(oracle.precision_score(**rest))
        assert metrics.accuracy(confusion_BCC)[b] == pytest.approx(
            oracle.accuracy_score(true_N, predicted_N, sample_weight=weight_N)
        )
        assert metrics.balanced_accuracy(confusion_BCC)[b] == pytest.approx(
            oracle.balanced_accuracy_score(true_N, predicted_N, sample_weight=weight_N)
        )


def test_balanced_accuracy_leaves_out_a_class_without_cases():
    """Truth 0, 0, 1; predictions 0, 2, 1: recalls 1/2 and 1; class 2 has no case."""
    confusion_BCC = metrics.confusion(np.array([0, 0, 1]), np.array([0, 2, 1]), 3)
    assert metrics.balanced_accuracy(confusion_BCC)[0] == 0.75


def test_log_loss_equals_scikit_learn():
    random = np.random.default_rng(1)
    probability_NC, true_N = random.dirichlet(np.ones(3), 50), random.integers(0, 3, 50)
    weight_BN = random.random((1, 50))
    assert metrics.log_loss(np.log(probability_NC), true_N, weight_BN)[0] == pytest.approx(
        oracle.log_loss(true_N, probability_NC, sample_weight=weight_BN[0])
    )


def test_calibration_error_by_hand():
    """Ten bins of two neighbours; what was given 0.5 or more occurs, the rest does not."""
    probability_N = np.arange(20) * 0.05
    outcome_N = probability_N >= 0.5
    pairs = probability_N.reshape(10, 2).mean(axis=1)
    expected = np.abs(pairs - (pairs > 0.5)).mean()
    assert metrics.calibration_error(probability_N, outcome_N)[0] == pytest.approx(expected)
    assert metrics.calibration_error(np.full(4, 0.25), np.array([True, False, False, False]))[0] == 0


@pytest.mark.parametrize(
    "undefined",
    [
        lambda: metrics.auroc(Roc.of(np.array([0.1, 0.2]), np.array([True, True]))),
        lambda: metrics.partial_auroc(Roc.of(np.array([0.1, 0.2]), np.array([False, False]))),
        lambda: metrics.average_precision(Roc.of(np.array([0.1]), np.array([False]))),
        lambda: metrics.average_precision(Roc.of(np.empty(0), np.empty(0, dtype=bool))),
        lambda: metrics.sensitivity_at_specificity(Roc.of(np.array([0.1]), np.array([False])), 0.9),
        lambda: metrics.specificity_at_sensitivity(Roc.of(np.array([0.1]), np.array([True])), 0.9),
        lambda: Counts.of_decision(np.array([False]), np.array([True])).ppv(),
        lambda: Counts.of_decision(np.array([False]), np.array([False])).f1(),
        lambda: metrics.brier(np.empty(0), np.empty(0, dtype=bool)),
        lambda: metrics.calibration_error(np.empty(0), np.empty(0, dtype=bool)),
        lambda: metrics.balanced_accuracy(metrics.confusion(np.empty(0, int), np.empty(0, int), 3)),
    ],
)
def test_what_cannot_be_computed_is_nan_with_a_warning(undefined):
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(undefined()[0])


def test_a_weighting_that_leaves_a_class_out_is_nan_without_a_warning():
    weight_BN = np.array([[1.0, 1, 1], [1.0, 1, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found_B = metrics.auroc(Roc.of(np.array([0.3, 0.1, 0.2]), np.array([False, False, True]), weight_BN))
    assert found_B[0] == 0.5
    assert np.isnan(found_B[1])
