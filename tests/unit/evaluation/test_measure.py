import json
import time

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from melascope.domain.case import Case
from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.evaluation.holdout import fit_decision, rows_of_split
from melascope.evaluation.judged import judge
from melascope.evaluation.measure import figures_to_dict, headline, measure
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.predictions import Predictions


@pytest.fixture(scope="module")
def judged_set(simulated):
    predictions = simulated(500)
    return rows_of_split(predictions, "test"), fit_decision(rows_of_split(predictions, "val"))


def test_melanoma_figures_use_every_case_known_to_be_melanoma_or_not(judged_set):
    rows, decision = judged_set
    measured = measure(judge(rows, decision), n_bootstrap=200)
    score_N = decision.calibration.probabilities(rows.logits_NC)[:, 0]
    assert measured.figures["melanoma_auroc"].value == pytest.approx(roc_auc_score(rows.melanoma_N, score_N))
    known_N = rows.class_index_N >= 0
    assert measured.n_diagnosed == known_N.sum() < measured.n_images
    assert np.sum(measured.confusion_CC) == measured.n_diagnosed
    assert measured.n_images == sum(measured.sources.values()) == len(rows.cases)
    for name, figure in headline(measured).items():
        if name != "macro_ppv":  # undefined in the draws in which a rare class is never called
            assert figure.low <= figure.value <= figure.high, name


def test_lesion_figures_count_each_lesion_once_by_its_highest_score(judged_set):
    rows, decision = judged_set
    measured = measure(judge(rows, decision), n_bootstrap=0)
    highest: dict[str, float] = {}
    score_N = decision.calibration.probabilities(rows.logits_NC)[:, 0]
    for case, score in zip(rows.cases, score_N, strict=True):
        if case.melanoma:
            lesion = case.lesion_id or case.image_id
            highest[lesion] = max(score, highest.get(lesion, 0.0))
    for point in decision.operating_points:
        found = measured.operating_points[point.name]["lesion_sensitivity"].value
        assert found == pytest.approx(np.mean(np.array(list(highest.values())) >= point.threshold))
    assert measured.n_melanoma_lesions == len(highest)


def test_the_uniform_prior_moves_classes_and_never_the_melanoma_decision(judged_set):
    rows, decision = judged_set
    training = measure(judge(rows, decision), n_bootstrap=0)
    uniform = measure(judge(rows, decision, prior="uniform"), n_bootstrap=0)
    assert uniform.figures["balanced_accuracy"].value > training.figures["balanced_accuracy"].value
    assert uniform.figures["accuracy"].value < training.figures["accuracy"].value
    assert json.dumps(uniform.to_dict()["operating_points"]) == json.dumps(
        training.to_dict()["operating_points"]
    )
    known_N = rows.class_index_N >= 0
    odds_NC = decision.calibration.probabilities(rows.logits_NC) / np.array(decision.calibration.prevalence_C)
    assert uniform.figures["balanced_accuracy"].value == pytest.approx(
        balanced_accuracy_score(rows.class_index_N[known_N], odds_NC[known_N].argmax(axis=1))
    )


def test_what_a_set_cannot_tell_is_null_in_json_and_warned_of(judged_set):
    _, decision = judged_set
    only_nevi = Predictions(
        classes=ISIC2018_CLASSES,
        logits_NC=np.random.default_rng(0).normal(size=(30, 7)),
        cases=tuple(
            Case(image_id=str(n), path="", diagnosis=Diagnosis.NV, melanoma=False) for n in range(30)
        ),
    )
    with pytest.warns(UndefinedMetricWarning):
        measured = measure(judge(only_nevi, decision), n_bootstrap=50)
    told = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert told["figures"]["melanoma_auroc"] == {"value": None, "low": None, "high": None}
    assert told["operating_points"]["sensitivity-95"]["sensitivity"]["value"] is None
    assert told["operating_points"]["sensitivity-95"]["specificity"]["value"] is not None
    assert figures_to_dict(headline(measured))["melanoma_auroc"]["value"] is None


def test_calibration_figures_give_each_lesion_one_vote(judged_set):
    rows, decision = judged_set
    judged = judge(rows, decision)
    votes = judged.vote_N.sum()
    assert votes == pytest.approx(len(set(rows.lesions_N)))
    expected = judged.vote_N @ (judged.score_N - rows.melanoma_N) ** 2 / votes
    measured = measure(judge(rows, decision), n_bootstrap=0)
    assert measured.figures["melanoma_brier"].value == pytest.approx(expected)


def test_a_thousand_draws_of_every_figure_take_seconds(simulated, judged_set):
    _, decision = judged_set
    rows = simulated(700, split="test")
    start_s = time.process_time()
    measure(judge(rows, decision))
    assert len(rows.cases) > 1000
    assert time.process_time() - start_s < 8  # about 1 s where nothing else runs


def test_means_over_classes_equal_scikit_learn(judged_set):
    rows, decision = judged_set
    measured = measure(judge(rows, decision), n_bootstrap=0)
    known_N = rows.class_index_N >= 0
    true_N, probability_NC = (
        rows.class_index_N[known_N],
        decision.calibration.probabilities(rows.logits_NC)[known_N],
    )
    precision, recall, f1, _ = precision_recall_fscore_support(
        true_N, probability_NC.argmax(axis=1), average="macro"
    )
    expected = {
        "macro_ppv": precision,
        "balanced_accuracy": recall,
        "macro_f1": f1,
        "macro_auroc": roc_auc_score(true_N, probability_NC, multi_class="ovr"),
        "macro_average_precision": average_precision_score(np.eye(7)[true_N], probability_NC),
    }
    assert {name: measured.figures[name].value for name in expected} == pytest.approx(expected)
