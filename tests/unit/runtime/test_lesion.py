"""Several images of a lesion: the most suspicious speaks, and no doubt is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from melascope.domain.assessment import AssessedImage, Assessment, Decision, PredictionSet, PredictiveValues
from melascope.domain.diagnosis import Diagnosis
from melascope.runtime.lesion import combine
from melascope.runtime.reasons import reason

WORTH = PredictiveValues(prevalence=0.1, ppv=0.3, ppv_interval=(0.2, 0.4), npv=0.99, npv_interval=(0.98, 1.0))


def assessed(name: str, score: float | None, decision: Decision, *codes: str) -> Assessment:
    share = None if score is None else {Diagnosis.MEL: score, Diagnosis.NV: 1 - score}
    image = AssessedImage(
        name=name, format="PNG", width_px=10, height_px=10, sha256="0" * 64, melanoma_score=score,
        novelty=None, quality=(),
    )  # fmt: skip
    return Assessment(
        images=(image,), bundle_id="x@1", melanoma_probability=score, probabilities=share, melanoma_score=score,
        prediction_set=None, prevalence={Diagnosis.MEL: 0.1, Diagnosis.NV: 0.9}, decision=decision,
        reasons=tuple(reason(code) for code in codes), operating_point="p", threshold=0.2, predictive_values=WORTH,
    )  # fmt: skip


def test_one_image_is_its_own_lesion() -> None:
    alone = assessed("a", 0.1, Decision.NO_SIGN)
    assert combine([alone]) is alone


@pytest.mark.parametrize("turn", [1, -1])
def test_the_most_suspicious_image_speaks(turn: int) -> None:
    images = [assessed("a", 0.1, Decision.NO_SIGN), assessed("b", 0.3, Decision.REFER, "poor-photograph")]
    above = reason("score-above", score=0.3, threshold=0.2)
    images[1] = replace(images[1], reasons=(above, *images[1].reasons))
    lesion = combine(images[::turn])
    assert (lesion.decision, lesion.melanoma_score) == (Decision.REFER, 0.3)
    assert lesion.probabilities == images[1].probabilities
    assert sorted(image.name for image in lesion.images) == ["a", "b"]
    assert [why.code for why in lesion.reasons] == ["score-above", "most-suspicious-image", "poor-photograph"]
    assert lesion.reasons[1].values == {"n": 2, "image": "b"}


def test_where_no_diagnosis_fits_the_speaker_its_most_probable_one_is_to_be_considered() -> None:
    speaker = replace(
        assessed("a", 0.1, Decision.UNCERTAIN), prediction_set=PredictionSet(coverage=0.9, diagnoses=())
    )
    other = replace(
        assessed("b", 0.05, Decision.NO_SIGN),
        prediction_set=PredictionSet(coverage=0.9, diagnoses=(Diagnosis.DF,)),
    )
    together = combine([speaker, other]).prediction_set
    assert together is not None
    assert together.diagnoses == (Diagnosis.NV, Diagnosis.DF)
    assert combine([speaker, replace(speaker)]).prediction_set == speaker.prediction_set


def test_a_doubt_about_a_less_suspicious_image_is_not_lost() -> None:
    lesion = combine(
        [assessed("a", 0.1, Decision.NO_SIGN), assessed("b", 0.05, Decision.UNCERTAIN, "poor-photograph")]
    )
    assert (lesion.decision, lesion.melanoma_score) == (Decision.UNCERTAIN, 0.1)
    assert [why.code for why in lesion.reasons[:2]] == ["another-image", "poor-photograph"]


def test_what_one_image_does_not_exclude_the_lesion_does_not() -> None:
    images = [assessed("a", 0.1, Decision.NO_SIGN), assessed("b", 0.05, Decision.NO_SIGN)]
    for image, diagnoses in ((0, (Diagnosis.NV,)), (1, (Diagnosis.NV, Diagnosis.DF))):
        images[image] = replace(
            images[image], prediction_set=PredictionSet(coverage=0.9, diagnoses=diagnoses)
        )
    lesion = combine(images)
    assert lesion.prediction_set == PredictionSet(coverage=0.9, diagnoses=(Diagnosis.NV, Diagnosis.DF))
    assert lesion.reasons[-1].values == {"diagnoses": "NV DF"}


def test_images_that_cannot_be_assessed_are_left_out_and_named() -> None:
    foreign = assessed("cat", None, Decision.CANNOT_ASSESS, "foreign-image")
    lesion = combine([foreign, assessed("b", 0.05, Decision.NO_SIGN)])
    assert (lesion.decision, lesion.melanoma_score) == (Decision.NO_SIGN, 0.05)
    assert lesion.reasons[0].text == "Photographs that cannot be assessed were left out: cat."
    assert lesion.reasons[1].values == {"n": 1, "image": "b"}
    none = combine([foreign, replace(foreign)])
    assert (none.decision, none.melanoma_probability, none.probabilities) == (
        Decision.CANNOT_ASSESS,
        None,
        None,
    )
    assert [why.code for why in none.reasons] == ["no-image-left", "foreign-image"]
