from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from melascope.decision.operating_point import TARGETS, fit_operating_points, lesion_votes
from melascope.errors import MelascopeError


def lesions(n):
    return [f"lesion-{i}" for i in range(n)]


def test_thresholds_of_a_hand_made_set():
    """20 melanomas at 0.05 to 1.00, 20 other lesions halfway between them: every rank can be counted."""
    melanoma_scores = np.arange(1, 21) / 20
    score_N = np.concatenate([melanoma_scores, melanoma_scores - 0.025])
    melanoma_N = np.repeat([1.0, 0.0], 20)
    points = {point.name: point for point in fit_operating_points(score_N, melanoma_N, lesions(40))}
    assert list(points) == ["sensitivity-98", "sensitivity-95", "sensitivity-90", "specificity-90"]
    assert points["sensitivity-98"].sensitivity == 1.0
    assert (
        points["sensitivity-95"].sensitivity == 0.95
    )  # 19 of 20: the second lowest melanoma is the last referred
    assert points["sensitivity-95"].threshold == pytest.approx((0.10 + 0.075) / 2)
    assert points["sensitivity-95"].specificity == 2 / 20
    assert points["specificity-90"].specificity == 18 / 20
    assert points["specificity-90"].sensitivity == 3 / 20
    low = beta.ppf(0.025, 19, 2)
    high = beta.ppf(0.975, 20, 1)
    assert points["sensitivity-95"].sensitivity_interval == pytest.approx((low, high))


scores = st.lists(st.integers(0, 60).map(lambda k: k / 64), min_size=12, max_size=60)


@settings(max_examples=60, deadline=None)
@given(melanoma_scores=scores, other_scores=scores)
def test_targets_are_reached_and_no_better_threshold_exists(melanoma_scores, other_scores):
    score_N = np.array(melanoma_scores + other_scores)
    melanoma_N = np.repeat([1.0, 0.0], [len(melanoma_scores), len(other_scores)])
    highest = score_N.max()
    if np.mean(np.array(other_scores) < highest) < 0.9:
        with pytest.raises(MelascopeError, match="No threshold reaches a specificity"):
            fit_operating_points(score_N, melanoma_N, lesions(len(score_N)))
        return
    candidates = np.append(np.unique(score_N), 2.0)
    for point, (target, wanted) in zip(
        fit_operating_points(score_N, melanoma_N, lesions(len(score_N))), TARGETS, strict=True
    ):
        referred_N = score_N >= point.threshold
        sensitivity, specificity = referred_N[melanoma_N == 1].mean(), (~referred_N[melanoma_N == 0]).mean()
        assert (point.sensitivity, point.specificity) == pytest.approx((sensitivity, specificity))
        assert 0 <= point.threshold <= 1
        for threshold in candidates:
            hits = (score_N[melanoma_N == 1] >= threshold).mean()
            spared = (score_N[melanoma_N == 0] < threshold).mean()
            if target == "sensitivity":
                assert sensitivity >= wanted
                assert hits < wanted or spared <= specificity
            else:
                assert specificity >= wanted
                assert spared < wanted or hits <= sensitivity


def test_a_lesion_votes_once_with_its_highest_score_and_unknown_outcomes_do_not_vote():
    votes = lesion_votes(
        np.array([0.2, 0.9, 0.4, 0.8, 0.1]),
        np.array([1.0, 1.0, 0.0, np.nan, 0.0]),
        ["a", "a", "b", "c", "b"],
    )
    assert votes.score_L.tolist() == [0.9, 0.4]
    assert votes.melanoma_L.tolist() == [True, False]
    assert votes.image_L.tolist() == [1, 2]


def test_too_few_lesions_are_refused_though_there_are_many_images():
    melanoma_N = np.repeat([1.0, 0.0], 50)
    with pytest.raises(MelascopeError, match="9 lesions with melanoma"):
        fit_operating_points(
            np.linspace(0, 1, 100),
            melanoma_N,
            [f"m{i % 9}" for i in range(50)] + [f"o{i}" for i in range(50)],
        )


@given(score_N=st.lists(st.floats(0, 1), min_size=1, max_size=20), threshold=st.floats(0, 1))
def test_one_rule_for_one_score_and_for_many_and_the_threshold_itself_is_referred(score_N, threshold):
    drawn_N, melanoma_N = np.arange(40) / 40, np.repeat([0.0, 1.0], 20)
    point = replace(fit_operating_points(drawn_N, melanoma_N, lesions(40))[0], threshold=threshold)
    assert point.refers(np.array(score_N)).tolist() == [point.refers(score) for score in score_N]
    assert point.refers(threshold)
