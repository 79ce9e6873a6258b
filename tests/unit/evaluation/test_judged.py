from dataclasses import replace

import numpy as np
from scipy.special import softmax

from melascope.evaluation.holdout import fit_decision, folds, rows_of_split
from melascope.evaluation.judged import as_trained, cross_judge, judge
from melascope.evaluation.metrics import calibration_error


def test_each_fold_is_judged_by_what_the_others_fit(simulated):
    predictions = simulated(300)
    judged, fold_N = cross_judge(predictions, 3, prior="uniform"), folds(predictions, 3)
    for fold in range(3):
        alone = judge(
            predictions.where(fold_N == fold),
            fit_decision(predictions.where(fold_N != fold)),
            prior="uniform",
        )
        part = judged.take(np.flatnonzero(fold_N == fold))
        assert part.predictions.cases == alone.predictions.cases
        for field in ("score_N", "log_probability_NC", "probability_NC", "plausible_NC"):
            np.testing.assert_array_equal(getattr(part, field), getattr(alone, field))
        for point, referred_N in alone.referred.items():
            np.testing.assert_array_equal(part.referred[point], referred_N)


def test_a_lesion_is_never_judged_by_its_own_label(simulated):
    """Turning one lesion's label around moves the decisions on all others, none on itself."""
    predictions = simulated(300)
    first = predictions.lesions_N[0]
    of_it_N = np.array([lesion == first for lesion in predictions.lesions_N])
    cases = tuple(
        replace(case, diagnosis=predictions.cases[-1].diagnosis, melanoma=predictions.cases[-1].melanoma)
        if mine
        else case
        for case, mine in zip(predictions.cases, of_it_N, strict=True)
    )
    assert predictions.cases[-1].melanoma == predictions.cases[0].melanoma  # the same folds
    before, after = (cross_judge(p, 3) for p in (predictions, replace(predictions, cases=cases)))
    np.testing.assert_array_equal(before.score_N[of_it_N], after.score_N[of_it_N])
    assert (before.score_N != after.score_N).any()


def test_as_trained_is_the_softmax_and_calibration_improves_on_it(simulated):
    predictions = simulated(500)
    rows = rows_of_split(predictions, "test")
    raw, calibrated = as_trained(rows), judge(rows, fit_decision(rows_of_split(predictions, "val")))
    np.testing.assert_allclose(raw.probability_NC, softmax(rows.logits_NC, axis=1))
    errors = [calibration_error(judged.score_N, rows.melanoma_N == 1)[0] for judged in (raw, calibrated)]
    assert errors[1] < errors[0]
    assert raw.referred == {}


def test_an_image_that_refers_its_lesion_is_the_one_that_speaks_for_it(simulated):
    predictions = simulated(200)
    judged = judge(predictions, fit_decision(predictions))
    votes, lesions_N = judged.votes(), np.array(predictions.lesions_N)
    for referred_N in judged.referred.values():
        for image in votes.image_L:
            assert referred_N[image] == referred_N[lesions_N == lesions_N[image]].any()
