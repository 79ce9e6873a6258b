"""The sentences say what was compared with what, and never contradict the numbers they show."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melascope.decision.operating_point import OperatingPoint
from melascope.domain.assessment import Decision
from melascope.domain.diagnosis import Diagnosis
from melascope.runtime.reasons import percent, reasons

PROBABILITY = st.floats(0, 1)


def point(threshold: float = 0.09, target: str = "sensitivity", value: float = 0.95) -> OperatingPoint:
    return OperatingPoint(
        name="p", threshold=threshold, target=target, target_value=value,  # type: ignore[arg-type]
        confidence=0.9, lower_bound=value, sensitivity=0.952,
        sensitivity_interval=(0.91, 0.98), specificity=0.7, specificity_interval=(0.6, 0.8), n_melanoma=120,
        n_other=880,
    )  # fmt: skip


def explain(
    score: float, *, at: OperatingPoint | None = None, shown: dict | None = None, stated: float | None = None
):
    at = at or point()
    return reasons(
        Decision.REFER if score >= at.threshold else Decision.NO_SIGN,
        score=score,
        point=at,
        probabilities=shown or {Diagnosis.MEL: score, Diagnosis.NV: 1 - score},
        calibration_prevalence=0.11,
        stated_prevalence=stated,
    )


def test_the_plain_sentences() -> None:
    compared, achieved = explain(0.23)
    assert compared == (
        "The probability of melanoma, 23 %, is above the threshold of 9 % "
        "that is meant to find 95 % of melanomas."
    )
    assert achieved == (
        "On the 120 melanomas and 880 other lesions it was chosen on, this threshold found 95 % of the "
        "melanomas (95 % interval 91 % to 98 %) and spared 70 % of the others."
    )
    assert "spare 90 % of other lesions a referral" in explain(0.23, at=point(0.4, "specificity", 0.9))[0]


def test_with_a_stated_prevalence_both_probabilities_are_told_apart() -> None:
    compared, _, shown = explain(0.23, shown={Diagnosis.MEL: 0.026, Diagnosis.NV: 0.974}, stated=0.01)
    assert compared.startswith("Where 11 % of lesions are melanomas, as among the cases")
    assert "the probability of melanoma is 23 %, above the threshold of 9 %" in compared
    assert shown == (
        "Where 1 % of lesions are melanomas, as stated, the probability is 3 %; "
        "the stated share never changes the decision."
    )


def test_another_malignant_diagnosis_is_not_passed_over() -> None:
    shown = {Diagnosis.MEL: 0.01, Diagnosis.BCC: 0.9, Diagnosis.NV: 0.09}
    assert "basal cell carcinoma, 90 %" in explain(0.01, shown=shown)[-1]
    assert not any("carcinoma" in reason for reason in explain(0.23, shown=shown))


@given(PROBABILITY, PROBABILITY)
def test_unequal_numbers_never_look_equal(score: float, threshold: float) -> None:
    sentence = explain(score, at=point(threshold))[0]
    shown = re.search(r"melanoma, (.*?), is (at|above|below) the threshold of (.*?) that", sentence)
    assert shown is not None
    assert shown[2] == ("at" if score == threshold else "above" if score > threshold else "below")
    if abs(score - threshold) > 1e-8:
        assert shown[1] != shown[3]


@given(PROBABILITY)
def test_only_certainty_reads_as_0_or_100_percent(fraction: float) -> None:
    assert (percent(fraction) in ("0 %", "100 %")) == (fraction in (0.0, 1.0))


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.231, "23 %"), (0.004, "0.4 %"), (0.0004, "under 0.1 %"), (0.994, "99.4 %"), (0.99996, "over 99.9 %")],
)
def test_percentages_are_short(fraction: float, text: str) -> None:
    assert percent(fraction) == text
