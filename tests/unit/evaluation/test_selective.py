import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melascope.evaluation.holdout import fit_decision
from melascope.evaluation.judged import judge
from melascope.evaluation.selective import RiskCurve, measure_selective, missed_curve


def test_five_lesions_by_hand():
    """Surest first: right, wrong, right, right, wrong."""
    curve = RiskCurve.of(np.array([0.5, 0.9, 0.8, 0.6, 0.7]), np.array([1, 0, 1, 0, 0], dtype=bool))
    np.testing.assert_allclose(curve.answered_BT[0], [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(curve.risk_BT[0], [0, 1 / 2, 1 / 3, 1 / 4, 2 / 5])
    assert curve.area()[0] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4 + 2 / 5) / 5)
    assert [curve.at(share)[0] for share in (0.2, 0.3, 0.4, 1.0)] == pytest.approx([0, 0.5, 0.5, 0.4])


def test_equal_confidences_are_answered_together():
    curve = RiskCurve.of(np.array([0.9, 0.4, 0.4, 0.4]), np.array([0, 1, 0, 0], dtype=bool))
    np.testing.assert_allclose(curve.answered_BT[0], [0.25, 1.0])
    assert curve.area()[0] == pytest.approx(0.75 * 0.25)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.booleans(), st.integers(0, 3)),
        min_size=1,
        max_size=20,
    ).filter(lambda cases: any(weight for *_, weight in cases))
)
def test_a_weight_is_so_many_copies(cases):
    confidence_N, wrong_N, weight_N = (np.array(values) for values in zip(*cases, strict=True))
    weighted = RiskCurve.of(confidence_N, wrong_N, weight_N[None].astype(float))
    copied = RiskCurve.of(np.repeat(confidence_N, weight_N), np.repeat(wrong_N, weight_N))
    assert weighted.area() == pytest.approx(copied.area())
    assert 0 <= weighted.area()[0] <= 1
    for share in (0.1, 0.5, 1.0):
        assert weighted.at(share) == pytest.approx(copied.at(share))


def test_a_perfect_order_has_the_least_area_and_a_reversed_one_the_most():
    random = np.random.default_rng(0)
    wrong_N = random.random(500) < 0.2
    best, chance, worst = (
        RiskCurve.of(confidence_N, wrong_N).area()[0]
        for confidence_N in (random.random(500) / 2 - wrong_N, random.random(500), wrong_N * 1.0)
    )
    assert best < 0.03 < chance < worst
    assert chance == pytest.approx(0.2, abs=0.05)  # of an uninformed order: the error rate


def test_both_curves_of_a_model_give_each_lesion_one_vote(simulated):
    predictions = simulated(300)
    judged = judge(predictions, fit_decision(predictions))
    found = measure_selective(judged, n_bootstrap=100)
    lesions = len(set(predictions.lesions_N))
    assert found.n_outcome == lesions > found.n_diagnosed
    melanomas = judged.votes().melanoma_L.sum()
    assert found.missed_risk[1.0].value == pytest.approx(melanomas / lesions)
    right = judged.probability_NC.argmax(axis=1) == predictions.class_index_N
    known_N = predictions.class_index_N >= 0
    wrong = judged.vote_N[known_N] @ ~right[known_N] / judged.vote_N[known_N].sum()
    assert found.diagnosis_risk[1.0].value == pytest.approx(wrong)
    for area in (found.diagnosis_area, found.missed_area):
        assert area.low < area.value < area.high


def test_the_curve_of_the_reassured_passes_through_the_operating_points(simulated):
    predictions = simulated(300)
    judged = judge(predictions, fit_decision(predictions))
    curve, votes = missed_curve(judged), judged.votes()
    for referred_N in judged.referred.values():
        reassured_L = ~referred_N[votes.image_L]
        t = np.flatnonzero(np.isclose(curve.answered_BT[0], reassured_L.mean()))
        assert curve.risk_BT[0, t] == pytest.approx(votes.melanoma_L[reassured_L].mean())
