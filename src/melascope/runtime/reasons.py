"""A decision in sentences that a doctor understands, each true of the numbers as they are rounded."""

from __future__ import annotations

from collections.abc import Mapping

from melascope.decision.operating_point import OperatingPoint
from melascope.domain.assessment import Decision
from melascope.domain.diagnosis import Diagnosis


def reasons(
    decision: Decision,
    *,
    score: float,
    point: OperatingPoint,
    probabilities: Mapping[Diagnosis, float],
    calibration_prevalence: float,
    stated_prevalence: float | None,
) -> tuple[str, ...]:
    """Why the decision is what it is, and what it does not say.

    Parameters
    ----------
    score
        Melanoma probability at the calibration's prevalence: what was compared with the threshold, 0 to 1.
    point
        The operating point in use.
    probabilities
        As shown to the doctor, at the stated prevalence if there is one.
    calibration_prevalence, stated_prevalence
        Share of melanomas among the calibration cases, and the one that the user stated, 0 to 1.
    """
    sentences = [
        _comparison(score, point, calibration_prevalence if stated_prevalence is not None else None),
        _achieved(point),
    ]
    if stated_prevalence is not None:
        sentences.append(
            f"Where {percent(stated_prevalence)} of lesions are melanomas, as stated, the probability is "
            f"{percent(probabilities[Diagnosis.MEL])}; the stated share never changes the decision."
        )
    caution = other_malignancy(decision, probabilities)
    return (*sentences, caution) if caution else tuple(sentences)


def other_malignancy(decision: Decision, probabilities: Mapping[Diagnosis, float]) -> str:
    """The caution owed where no melanoma is suspected but the most probable diagnosis is malignant; else empty.

    Parameters
    ----------
    probabilities
        As shown to the doctor.
    """
    likeliest = max(probabilities, key=lambda diagnosis: probabilities[diagnosis])
    if decision is not Decision.NO_SIGN or not likeliest.malignant:
        return ""
    return (
        f"But the most probable diagnosis is {likeliest.label}, {percent(probabilities[likeliest])}, "
        "which needs attention as well."
    )


def percent(fraction: float, *, decimals: int = 0) -> str:
    """A fraction as a percentage: whole, or with a decimal where that would read 0 or 100.

    >>> percent(0.231), percent(0.004), percent(0.0004), percent(0.999), percent(0.99996), percent(1.0)
    ('23 %', '0.4 %', 'under 0.1 %', '99.9 %', 'over 99.9 %', '100 %')
    """
    if fraction in (0.0, 1.0):
        return f"{fraction:.0%}".replace("%", " %")
    if fraction < 0.001:
        return "under 0.1 %"
    if fraction > 0.999:
        return "over 99.9 %"
    if fraction < 0.01 or fraction > 0.99:
        decimals = max(decimals, 1)
    return f"{fraction * 100:.{decimals}f} %"


def _comparison(score: float, point: OperatingPoint, assumed_prevalence: float | None) -> str:
    aim = {
        "sensitivity": f"that is meant to find {percent(point.target_value)} of melanomas",
        "specificity": f"that is meant to spare {percent(point.target_value)} of other lesions a referral",
    }[point.target]
    shown_score, shown_threshold = _told_apart(score, point.threshold)
    relation = "at" if score == point.threshold else "above" if score > point.threshold else "below"
    outcome = f"{relation} the threshold of {shown_threshold} {aim}."
    if assumed_prevalence is None:
        return f"The probability of melanoma, {shown_score}, is {outcome}"
    return (
        f"Where {percent(assumed_prevalence)} of lesions are melanomas, as among the cases that the model "
        f"was calibrated on, the probability of melanoma is {shown_score}, {outcome}"
    )


def _achieved(point: OperatingPoint) -> str:
    low, high = point.sensitivity_interval
    return (
        f"On the {point.n_melanoma} melanomas and {point.n_other} other lesions it was chosen on, this "
        f"threshold found {percent(point.sensitivity)} of the melanomas "
        f"(95 % interval {percent(low)} to {percent(high)}) "
        f"and spared {percent(point.specificity)} of the others."
    )


def _told_apart(score: float, threshold: float) -> tuple[str, str]:
    """Both as percentages, with as many decimals as it takes to see that they differ."""
    for decimals in range(4):
        shown = percent(score, decimals=decimals), percent(threshold, decimals=decimals)
        if shown[0] != shown[1] or score == threshold:
            return shown
    return f"{score * 100:.9g} %", f"{threshold * 100:.9g} %"
