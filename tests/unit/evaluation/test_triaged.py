"""Seven lesions whose decisions follow by hand from threshold, sets, novelty and quality."""

from dataclasses import replace

import numpy as np
import pytest

from melascope.decision.novelty import NoveltyLimits
from melascope.domain.assessment import Decision
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.evaluation.judged import as_trained
from melascope.evaluation.photographs import measure_photographs
from melascope.evaluation.predictions import Finding, Predictions
from melascope.evaluation.triaged import Truth, measure_triage, triage_lesions

LIMITS = NoveltyLimits(
    method="distance",
    unusual=1.0,
    foreign=2.0,
    false_alarm_unusual=0.05,
    false_alarm_foreign=0.01,
    n_images=99,
)
MEL, NV, BCC = Diagnosis.MEL, Diagnosis.NV, Diagnosis.BCC
UNUSABLE = (Finding("blur", "unusable"),)
#: lesion, truth, referred, prediction set (MEL NV BCC), most probable class, novelty, findings
IMAGES = [
    ("a", MEL, False, "NV", NV, 0.1, ()),  # the missed melanoma
    ("b", MEL, False, "NV BCC", NV, 0.1, ()),  # uncertain: BCC is not excluded
    ("b", MEL, False, "NV", NV, 0.1, ()),
    ("c", MEL, True, "MEL", MEL, np.nan, ()),
    ("d", BCC, False, "NV", BCC, 0.1, ()),  # uncertain: BCC is the most probable
    ("e", NV, False, "NV", NV, 1.5, ()),  # uncertain: unusual
    ("f", NV, True, "MEL NV", NV, 2.5, ()),  # cannot assess: foreign
    ("f", NV, True, "MEL NV", NV, 0.1, UNUSABLE),  # cannot assess either
    ("g", NV, False, "NV", NV, 0.1, (Finding("hair", "note"),)),
    ("g", NV, True, "NV", NV, 3.0, ()),  # foreign: the other image decides
]


@pytest.fixture
def judged():
    cases = tuple(
        Case(
            image_id=f"{lesion}{n}",
            path="",
            diagnosis=truth,
            melanoma=truth is MEL,
            lesion_id=lesion,
            source="s",
        )
        for n, (lesion, truth, *_) in enumerate(IMAGES)
    )
    classes = (MEL, NV, BCC)
    likeliest = [classes.index(image[4]) for image in IMAGES]
    predictions = Predictions(
        classes=classes,
        logits_NC=np.eye(3)[likeliest],
        cases=cases,
        novelty_N=np.array([image[5] for image in IMAGES]),
        quality_N=tuple(image[6] for image in IMAGES),
    )
    return replace(
        as_trained(predictions),
        referred={"p": np.array([image[2] for image in IMAGES])},
        plausible_NC=np.array([[str(c) in image[3].split() for c in classes] for image in IMAGES]),
    )


def test_each_lesion_is_told_the_gravest_of_its_images_answers(judged):
    told = {
        judged.predictions.cases[found.row].lesion_id: found for found in triage_lesions(judged, "p", LIMITS)
    }
    assert {lesion: found.decision for lesion, found in told.items()} == {
        "a": Decision.NO_SIGN,
        "b": Decision.UNCERTAIN,
        "c": Decision.REFER,
        "d": Decision.UNCERTAIN,
        "e": Decision.UNCERTAIN,
        "f": Decision.CANNOT_ASSESS,
        "g": Decision.NO_SIGN,
    }
    assert told["b"].causes == told["d"].causes == ("malignancy-not-excluded",)
    assert told["f"].causes == ("foreign-image", "unusable-photograph")
    assert told["g"].causes == ()


def test_shares_causes_and_the_missed_melanomas(judged):
    found = measure_triage(judged, "p", LIMITS, n_bootstrap=50)
    assert found.counts[Truth.MELANOMA] == {
        Decision.REFER: 1,
        Decision.UNCERTAIN: 1,
        Decision.NO_SIGN: 1,
        Decision.CANNOT_ASSESS: 0,
    }
    assert found.shares[Truth.MELANOMA][Decision.NO_SIGN].value == pytest.approx(1 / 3)
    assert found.shares[Truth.MALIGNANT][Decision.UNCERTAIN].value == 1
    assert found.answered.value == pytest.approx(3 / 7)
    assert found.causes[Decision.UNCERTAIN] == {
        "malignancy-not-excluded": {Truth.MELANOMA: 1, Truth.MALIGNANT: 1},
        "unusual-image": {Truth.BENIGN: 1},
    }
    assert [missed.image_id for missed in found.reassured_melanomas] == ["a0"]
    assert Truth.NOT_MELANOMA not in found.counts


def test_without_limits_or_columns_every_image_is_familiar_and_good(judged):
    bare = replace(judged, predictions=replace(judged.predictions, novelty_N=None, quality_N=None))
    for found in (triage_lesions(bare, "p", LIMITS), triage_lesions(bare, "p", None)):
        assert [lesion.decision for lesion in found if lesion.truth is Truth.BENIGN] == [
            Decision.NO_SIGN,
            Decision.REFER,
            Decision.REFER,
        ]
    photographs = measure_photographs(bare, LIMITS)
    assert photographs.to_dict() == {"novelty": None, "quality": None}


def test_shares_of_novel_and_flawed_photographs(judged):
    found = measure_photographs(judged, LIMITS, n_bootstrap=0)
    by_part = {(shares.part, shares.value): shares for shares in found.novelty}
    assert by_part["all", ""].n_images == by_part["source", "s"].n_images == 9
    assert by_part["all", ""].unusual.value == pytest.approx(3 / 9)
    assert by_part["all", ""].foreign.value == pytest.approx(2 / 9)
    assert by_part["diagnosis", "melanocytic nevus"].foreign.value == pytest.approx(2 / 5)
    assert {shares.finding: shares.n_images for shares in found.quality} == {
        Finding("hair", "note"): 1,
        Finding("blur", "unusable"): 1,
    }
    assert found.quality[0].share.value == pytest.approx(1 / 10)
    assert measure_photographs(judged, None).novelty is None
