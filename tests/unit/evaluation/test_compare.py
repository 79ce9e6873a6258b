from dataclasses import replace

import numpy as np
import pytest

from melascope.domain.diagnosis import Diagnosis
from melascope.errors import MelascopeError
from melascope.evaluation.compare import compare
from melascope.evaluation.holdout import fit_decision
from melascope.evaluation.judged import judge
from melascope.evaluation.measure import measure


def judged(predictions):
    return judge(predictions, fit_decision(predictions))


def test_a_better_model_is_told_from_a_worse_one_in_any_order_of_rows(simulated):
    good = judged(simulated(300, seed=1, skill=3.0))
    poor = judged(simulated(300, seed=2, skill=0.8))
    shuffled = poor.take(np.random.default_rng(0).permutation(len(poor.score_N)))
    found = compare(good, shuffled, n_bootstrap=300)
    assert found.difference["melanoma_auroc"].low > 0
    assert found.difference["balanced_accuracy"].low > 0
    assert compare(good, poor, n_bootstrap=300) == found
    alone = measure(good, n_bootstrap=300)
    assert found.first["melanoma_auroc"] == alone.figures["melanoma_auroc"]


def test_a_model_does_not_differ_from_itself(simulated):
    model = judged(simulated(200))
    for figure in compare(model, model, n_bootstrap=100).difference.values():
        assert (figure.value, figure.low, figure.high) == (0, 0, 0)


def test_other_images_and_other_truth_are_refused(simulated):
    model = judged(simulated(200))
    with pytest.raises(MelascopeError, match="1 images have a prediction of one model only"):
        compare(model, model.take(range(1, len(model.score_N))))
    cases = list(model.predictions.cases)
    cases[5] = replace(cases[5], diagnosis=Diagnosis.UNK, melanoma=None)
    relabelled = replace(model, predictions=replace(model.predictions, cases=tuple(cases)))
    with pytest.raises(MelascopeError, match="truth of 1 images differs"):
        compare(model, relabelled)
