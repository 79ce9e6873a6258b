from dataclasses import replace

import numpy as np
import pytest

from melascope.decision.conformal import ConformalSets
from melascope.domain.case import Case
from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.evaluation.holdout import fit_decision
from melascope.evaluation.judged import as_trained, judge
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.predictions import Predictions
from melascope.evaluation.sets import measure_sets


@pytest.fixture
def by_hand():
    """Three lesions: a nevus of two images, of which one set holds it; a melanoma; one of unknown diagnosis."""
    cases = tuple(
        Case(image_id=str(n), path="", diagnosis=diagnosis, lesion_id=lesion, melanoma=diagnosis == "MEL")
        for n, (diagnosis, lesion) in enumerate(
            [(Diagnosis.NV, "a"), (Diagnosis.NV, "a"), (Diagnosis.MEL, "b"), (Diagnosis.UNK, "c")]
        )
    )
    predictions = Predictions(classes=ISIC2018_CLASSES[:3], logits_NC=np.zeros((4, 3)), cases=cases)
    members = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=bool)
    return replace(as_trained(predictions), plausible_NC=members)


PROMISE = ConformalSets(coverage=0.9, floor_C=(0.2, 0.2, 0.0), n_lesions_C=(50, 60, 3))


def test_four_images_by_hand(by_hand):
    with pytest.warns(UndefinedMetricWarning, match="coverage of BCC"):
        found = measure_sets(by_hand, PROMISE, n_bootstrap=0)
    assert found.per_class[Diagnosis.NV].coverage.value == pytest.approx(1 / 2)
    assert found.per_class[Diagnosis.MEL].coverage.value == 1
    assert np.isnan(found.per_class[Diagnosis.BCC].coverage.value)
    assert found.to_dict()["per_class"]["BCC"]["coverage"]["value"] is None
    assert [of.promised for of in found.per_class.values()] == [True, True, False]
    assert [of.n_lesions for of in found.per_class.values()] == [1, 1, 0]
    assert found.figures["coverage"].value == pytest.approx(3 / 4)  # two lesions, one of them by half
    assert found.figures["mean_size"].value == pytest.approx((3 / 2 + 3 + 0) / 3)
    assert found.size_shares == pytest.approx((1 / 3, 1 / 6, 1 / 6, 1 / 3))


def test_the_promise_is_kept_on_new_lesions(simulated):
    decision = fit_decision(simulated(1000, split="val"), method="temperature")
    fresh = simulated(1000, seed=5, split="test")
    found = measure_sets(judge(fresh, decision), decision.conformal, n_bootstrap=200)
    for of in found.per_class.values():
        assert of.coverage.low <= of.coverage.value <= of.coverage.high
        if of.n_calibration >= 100:
            assert of.coverage.value == pytest.approx(0.9, abs=0.06)
    assert sum(found.size_shares) == pytest.approx(1)


def test_without_sets_there_are_no_figures(by_hand):
    assert measure_sets(replace(by_hand, plausible_NC=None), PROMISE) is None
