"""The sentences say what was compared with what, and never contradict the numbers they show."""

from __future__ import annotations

import re
import string
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melascope.decision.operating_point import OperatingPoint
from melascope.decision.triage import Cause
from melascope.domain.assessment import Decision, Reason
from melascope.domain.diagnosis import Diagnosis
from melascope.runtime.reasons import SENTENCES, explain, percent, reason, sentence

PROBABILITY = st.floats(0, 1)


def point(
    threshold: float = 0.09, target: str = "sensitivity", value: float = 0.95, lower_bound: float = 0.951
) -> OperatingPoint:
    return OperatingPoint(
        name="p", threshold=threshold, target=target, target_value=value, sensitivity=0.975,  # type: ignore[arg-type]
        sensitivity_interval=(0.91, 0.98), specificity=0.7, specificity_interval=(0.6, 0.8), n_melanoma=120,
        n_other=880, confidence=0.9, lower_bound=lower_bound,
    )  # fmt: skip


def told(
    score: float,
    *causes: Cause,
    at: OperatingPoint | None = None,
    shown: dict | None = None,
    stated: float | None = None,
    decision: Decision | None = None,
    plausible: tuple[Diagnosis, ...] | None = None,
    likeliest: Diagnosis = Diagnosis.NV,
) -> tuple[Reason, ...]:
    at = at or point()
    return explain(
        decision or (Decision.REFER if score >= at.threshold else Decision.NO_SIGN),
        causes,
        score=score,
        point=at,
        probabilities=shown or {Diagnosis.MEL: score, Diagnosis.NV: 1 - score},
        suspects=(likeliest,),
        plausible=plausible,
        calibration_prevalence=0.11,
        stated_prevalence=stated,
    )


def test_the_plain_sentences() -> None:
    compared, promised = told(0.23)
    assert compared.text == "The probability of melanoma, 23.0 %, is above the threshold of 9.0 %."
    assert promised.text == (
        "The threshold is set so that at least 95 % of melanomas are referred, with 90 % confidence: on the 120 "
        "melanomas and 880 other lesions it was chosen on it found 98 % of the melanomas (95 % interval 91 % to "
        "98 %) and spared 70 % of the others."
    )


def test_nothing_is_promised_that_the_lesions_were_too_few_for() -> None:
    _, sensitivity = told(0.23, at=point(lower_bound=0.94))
    assert sensitivity.code == "sensitivity-not-promised"
    assert "which 120 melanomas are too few to promise" in sensitivity.text
    _, specificity = told(0.23, at=point(0.1, "specificity", 0.9, 0.85))
    assert "which 880 lesions are too few to promise" in specificity.text


def test_with_a_stated_prevalence_both_probabilities_are_told_apart() -> None:
    compared, _, shown = told(0.23, shown={Diagnosis.MEL: 0.026, Diagnosis.NV: 0.974}, stated=0.01)
    assert compared.code == "score-above"
    assert compared.text == (
        "The decision is made at the prevalence of calibration, 11 %: there the probability of melanoma is 23.0 %, "
        "above the threshold of 9.0 %."
    )
    alone = "At the stated prevalence, 1 %, the probability of melanoma is 2.6 %."
    assert (
        shown.text
        == f"{alone} A stated prevalence never takes a referral away: the decision is made at 11 %."
    )
    below, _, shown = told(0.02, shown={Diagnosis.MEL: 0.026, Diagnosis.NV: 0.974}, stated=0.14)
    assert below.text == (
        "At the prevalence of calibration, 11 %, the probability of melanoma is 2.0 %, below the threshold of 9.0 %."
    )
    assert shown.text == "At the stated prevalence, 14 %, the probability of melanoma is 2.6 %."


def doubted(probability: float) -> tuple[Reason, ...]:
    """Below the threshold at the calibration's prevalence, at or above it at the one stated."""
    return told(
        0.0312,
        "malignancy-not-excluded",
        decision=Decision.UNCERTAIN,
        likeliest=Diagnosis.MEL,
        shown={Diagnosis.MEL: probability, Diagnosis.NV: 1 - probability},
        stated=0.3,
    )


def test_what_reaches_the_threshold_at_the_stated_prevalence_alone_is_told_first() -> None:
    reached, doubt, below, _ = doubted(0.1234)
    assert reached.text == (
        "At the stated prevalence, 30 %, the probability of melanoma is 12.3 %, which reaches the threshold of 9.0 %."
    )
    assert doubt.code == "malignancy-not-excluded"
    assert below.text == (
        "At the prevalence of calibration, 11 %, the probability of melanoma is 3.1 %, below the threshold of 9.0 %."
    )
    assert "decision is made" not in " ".join(why.text for why in (reached, doubt, below))


@given(st.floats(0.09, 1))
def test_what_reaches_the_threshold_never_looks_equal_where_it_is_above(probability: float) -> None:
    shown = re.search(
        r"melanoma is (.*), which reaches the threshold of (.*)\.$", doubted(probability)[0].text
    )
    assert shown is not None
    if probability - 0.09 > 1e-8:
        assert shown[1] != shown[2]


def test_malignant_diagnoses_are_not_passed_over() -> None:
    doubt = told(
        0.01,
        "malignancy-not-excluded",
        decision=Decision.UNCERTAIN,
        plausible=(Diagnosis.NV, Diagnosis.AKIEC),
        likeliest=Diagnosis.BCC,
    )
    assert doubt[0].text == (
        "A malignant diagnosis cannot be excluded: actinic keratosis or Bowen's disease, basal cell carcinoma."
    )
    assert doubt[-1].text == "To be considered: melanocytic nevus, actinic keratosis or Bowen's disease."


def test_what_cannot_be_assessed_is_told_no_number() -> None:
    only = told(0.9, "unusable-photograph", "foreign-image", decision=Decision.CANNOT_ASSESS)
    assert [why.code for why in only] == ["unusable-photograph", "foreign-image"]
    assert not any(character.isdigit() for why in only for character in why.text)


def test_every_cause_has_its_sentence_and_every_sentence_its_values() -> None:
    assert set(get_args(Cause)) <= set(SENTENCES)
    for template in SENTENCES.values():
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name]
        assert sentence(template, dict.fromkeys(fields, "MEL"))


@given(PROBABILITY, PROBABILITY)
def test_unequal_numbers_never_look_equal(score: float, threshold: float) -> None:
    (text,) = (why.text for why in told(score, at=point(threshold)) if why.code.startswith("score-"))
    shown = re.search(r"melanoma, (.*?), is (at|above|below) the threshold of (.*?)(?:\.$|, which)", text)
    assert shown is not None
    assert shown[2] == ("at" if score == threshold else "above" if score > threshold else "below")
    if abs(score - threshold) > 1e-8:
        assert shown[1] != shown[3]


def test_values_are_kept_as_numbers_for_other_languages() -> None:
    kept = reason("score-below", score=0.04, threshold=0.09, decimals=0)
    assert kept.values == {"score": 0.04, "threshold": 0.09, "decimals": 0}
    assert sentence("Wahrscheinlichkeit {score}", kept.values) == "Wahrscheinlichkeit 4 %"


@given(PROBABILITY)
def test_only_certainty_reads_as_0_or_100_percent(fraction: float) -> None:
    assert (percent(fraction) in ("0 %", "100 %")) == (fraction in (0.0, 1.0))


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.231, "23 %"), (0.004, "0.4 %"), (0.0004, "under 0.1 %"), (0.994, "99.4 %"), (0.99996, "over 99.9 %")],
)
def test_percentages_are_short(fraction: float, text: str) -> None:
    assert percent(fraction) == text
