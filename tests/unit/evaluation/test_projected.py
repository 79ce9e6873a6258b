import numpy as np
import pytest

from melascope.evaluation.holdout import fit_decision, rows_of_split
from melascope.evaluation.judged import judge
from melascope.evaluation.projected import melanoma_share, project


def test_at_the_share_judged_the_projection_is_what_was_counted(simulated):
    predictions = simulated(400)
    decision = fit_decision(rows_of_split(predictions, "val"))
    judged = judge(rows_of_split(predictions, "test"), decision)
    votes = judged.votes()
    for point in decision.operating_points:
        referred_L = judged.referred[point.name][votes.image_L]
        (values,) = project(judged, point, [melanoma_share(judged)])
        assert values.ppv == pytest.approx(votes.melanoma_L[referred_L].mean())
        assert values.npv == pytest.approx(1 - votes.melanoma_L[~referred_L].mean())
        rarer, commoner = project(judged, point, [0.01, 0.5])
        assert rarer.ppv < commoner.ppv
        assert rarer.npv > commoner.npv


def test_the_intervals_are_those_of_the_lesions_judged(simulated):
    predictions = simulated(400)
    decision = fit_decision(rows_of_split(predictions, "val"))
    judged = judge(rows_of_split(predictions, "test"), decision)
    few = judge(
        rows_of_split(predictions, "test").where(np.arange(len(judged.votes().image_L)) % 3 == 0), decision
    )
    point = decision.operating_points[1]
    (of_all,), (of_few,) = project(judged, point, [0.1]), project(few, point, [0.1])
    for values in (of_all, of_few):
        assert values.ppv_interval[0] < values.ppv < values.ppv_interval[1]
    assert np.ptp(of_few.ppv_interval) > 1.3 * np.ptp(of_all.ppv_interval)
    assert np.ptp(of_few.npv_interval) > 1.3 * np.ptp(of_all.npv_interval)


def test_without_melanoma_nothing_is_projected_and_without_referrals_the_ppv_is_null(simulated):
    predictions = simulated(400)
    decision = fit_decision(predictions)
    point = decision.operating_points[0]
    benign = judge(predictions.where(predictions.melanoma_N == 0), decision)
    assert project(benign, point, [0.1]) == ()
    judged = judge(predictions, decision)
    judged.referred[point.name][:] = False
    (values,) = project(judged, point, [0.1])
    assert values.ppv is None
    assert values.npv == pytest.approx(0.9)
