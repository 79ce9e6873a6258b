"""A decision in sentences that a doctor understands, each true of the numbers as they are rounded.

A sentence is a code, its values and a template; what is shown in another language is made of the same code and
values with that language's templates.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from melascope.decision.operating_point import OperatingPoint
from melascope.decision.triage import Cause
from melascope.domain.assessment import Decision, Reason
from melascope.domain.diagnosis import Diagnosis

#: Key (`sentence_key`) -> sentence. Fractions are shown as percentages; `diagnoses` holds codes of diagnoses, shown
#: in words.
SENTENCES: Mapping[str, str] = {
    "score-above": "The probability of melanoma, {score}, is above the threshold of {threshold}.",
    "score-at": "The probability of melanoma, {score}, is at the threshold of {threshold}, which counts as above.",
    "score-below": "The probability of melanoma, {score}, is below the threshold of {threshold}.",
    "score-above-in-calibration": (
        "The decision is made at the prevalence of calibration, {calibration_prevalence}: there the probability of "
        "melanoma is {score}, above the threshold of {threshold}."
    ),
    "score-at-in-calibration": (
        "The decision is made at the prevalence of calibration, {calibration_prevalence}: there the probability of "
        "melanoma is {score}, at the threshold of {threshold}, which counts as above."
    ),
    "score-below-in-calibration": (
        "At the prevalence of calibration, {calibration_prevalence}, the probability of melanoma is {score}, below the "
        "threshold of {threshold}."
    ),
    "sensitivity-promised": (
        "The threshold is set so that at least {target} of melanomas are referred, with {confidence} confidence: "
        "on the {n_melanoma} melanomas and {n_other} other lesions it was chosen on it found {sensitivity} of the "
        "melanomas (95 % interval {low} to {high}) and spared {specificity} of the others."
    ),
    "sensitivity-not-promised": (
        "The threshold aims at {target} of melanomas, which {n_melanoma} melanomas are too few to promise: on them "
        "and {n_other} other lesions it found {sensitivity} of the melanomas (95 % interval {low} to {high}) and "
        "spared {specificity} of the others."
    ),
    "specificity-promised": (
        "The threshold is set so that at least {target} of other lesions are spared a referral, with {confidence} "
        "confidence: on the {n_melanoma} melanomas and {n_other} other lesions it was chosen on it found "
        "{sensitivity} of the melanomas (95 % interval {low} to {high}) and spared {specificity} of the others."
    ),
    "specificity-not-promised": (
        "The threshold aims at sparing {target} of other lesions a referral, which {n_other} lesions are too few to "
        "promise: on them and {n_melanoma} melanomas it found {sensitivity} of the melanomas (95 % interval {low} "
        "to {high}) and spared {specificity} of the others."
    ),
    "reached-at-stated-prevalence": (
        "At the stated prevalence, {prevalence}, the probability of melanoma is {probability}, which reaches the "
        "threshold of {threshold}."
    ),
    "stated-prevalence": "At the stated prevalence, {prevalence}, the probability of melanoma is {probability}.",
    "stated-prevalence-in-calibration": (
        "At the stated prevalence, {prevalence}, the probability of melanoma is {probability}. A stated prevalence "
        "never takes a referral away: the decision is made at {calibration_prevalence}."
    ),
    "to-consider": "To be considered: {diagnoses}.",
    "unusable-photograph": "The photograph is not good enough for an answer.",
    "foreign-image": (
        "The picture is unlike the dermoscopic photographs that the model has learnt from; it may show something "
        "else than a skin lesion. Photograph the lesion through a dermatoscope, or ask an expert."
    ),
    "unusual-image": (
        "The photograph is unlike most that the model has learnt from, so that its answer is less certain than its "
        "figures."
    ),
    "poor-photograph": "The photograph limits what can be seen.",
    "no-diagnosis-fits": "None of the diagnoses that the model knows fits the photograph well.",
    "malignancy-not-excluded": "A malignant diagnosis cannot be excluded: {diagnoses}.",
    "most-suspicious-image": "Of {n} photographs of the lesion, the most suspicious speaks for it: {image}.",
    "another-image": "Another photograph of the lesion gives reason for doubt: {image}.",
    "images-left-out": "Photographs that cannot be assessed were left out: {image}.",
    "no-image-left": "None of the {n} photographs of the lesion can be assessed.",
}  # fmt: skip


def reason(code: str, **values: float | int | str) -> Reason:
    """The sentence of that code, in English."""
    return Reason(code=code, text=sentence(SENTENCES[sentence_key(code, values)], values), values=values)


def sentence_key(code: str, values: Mapping[str, float | int | str]) -> str:
    """Of a reason's sentence: its code, and that the prevalence of calibration is told where it is."""
    in_calibration = "calibration_prevalence" in values
    return f"{code}-in-calibration" if in_calibration else code


def sentence(template: str, values: Mapping[str, float | int | str]) -> str:
    """A template filled in: fractions as percentages (with `decimals` decimals), diagnoses in words."""
    shown: dict[str, object] = {}
    for name, value in values.items():
        if name == "diagnoses":
            shown[name] = ", ".join(Diagnosis(code).label for code in str(value).split())
        elif name.endswith("prevalence") and isinstance(value, float):
            shown[name] = stated_percent(value)
        elif isinstance(value, float):
            shown[name] = percent(value, decimals=decimals_of(name, values))
        else:
            shown[name] = value
    return template.format_map(shown)


def decimals_of(name: str, values: Mapping[str, float | int | str]) -> int:
    """With which a sentence tells a fraction: an interval's ends, and what they are of, with the same."""
    if name in {"low", "high", "sensitivity"} and {"low", "high"} <= values.keys():
        return interval_decimals(float(values["low"]), float(values["high"]))
    return int(values.get("decimals", 0))


def explain(
    decision: Decision,
    causes: Sequence[Cause],
    *,
    score: float,
    point: OperatingPoint,
    probabilities: Mapping[Diagnosis, float],
    suspects: Collection[Diagnosis],
    plausible: Collection[Diagnosis] | None,
    calibration_prevalence: float,
    stated_prevalence: float | None,
) -> tuple[Reason, ...]:
    """Why the decision is what it is, what made it first, and what it does not say.

    Parameters
    ----------
    causes
        See `decision.triage`.
    score
        Melanoma probability at the calibration's prevalence: what was compared with the threshold, 0 to 1.
    point
        The operating point in use.
    probabilities
        As shown to the doctor, at the stated prevalence if there is one.
    suspects
        See `decision.triage`.
    plausible
        The prediction set, the most probable first; None where the bundle promises none.
    calibration_prevalence, stated_prevalence
        Share of melanomas among the calibration cases, and the one that the user stated, 0 to 1.
    """
    malignant = list(dict.fromkeys(d for d in (*(plausible or ()), *suspects) if d.malignant))
    doubts = _causes(causes, malignant)
    if decision is Decision.CANNOT_ASSESS:
        return tuple(doubts)
    at = {} if stated_prevalence is None else {"calibration_prevalence": calibration_prevalence}
    compared = _comparison(score, point.threshold, **at)
    told = [compared, *doubts] if decision is Decision.REFER else [*doubts, compared]
    told.append(_promise(point))
    if stated_prevalence is not None:
        shown = float(probabilities[Diagnosis.MEL])
        decimals = _decimals_apart(shown, point.threshold)
        stated = {"prevalence": stated_prevalence, "probability": shown, "decimals": decimals}
        if decision is Decision.REFER:
            told.append(reason("stated-prevalence", **stated, **at))
        elif point.refers(shown):  # reason enough for the decision, so that it comes first
            told.insert(0, reason("reached-at-stated-prevalence", **stated, threshold=point.threshold))
        else:
            told.append(reason("stated-prevalence", **stated))
    if plausible:
        told.append(reason("to-consider", diagnoses=" ".join(plausible)))
    return tuple(told)


def _causes(causes: Sequence[Cause], malignant: Sequence[Diagnosis]) -> list[Reason]:
    return [
        reason(cause, diagnoses=" ".join(malignant)) if cause == "malignancy-not-excluded" else reason(cause)
        for cause in causes
    ]


def _comparison(score: float, threshold: float, **at: float) -> Reason:
    relation = "at" if score == threshold else "above" if score > threshold else "below"
    decimals = _decimals_apart(score, threshold)
    return reason(f"score-{relation}", score=score, threshold=threshold, decimals=decimals, **at)


def _promise(point: OperatingPoint) -> Reason:
    low, high = point.sensitivity_interval
    return reason(
        f"{point.target}-{'promised' if point.guaranteed else 'not-promised'}",
        target=point.target_value,
        confidence=point.confidence,
        n_melanoma=point.n_melanoma,
        n_other=point.n_other,
        sensitivity=point.sensitivity,
        low=low,
        high=high,
        specificity=point.specificity,
    )


def percent(fraction: float, *, decimals: int = 0) -> str:
    """A fraction as a percentage: whole, or with a decimal where that would read 0 or 100.

    >>> percent(0.231), percent(0.004), percent(0.0004), percent(0.999), percent(0.99996), percent(1.0)
    ('23 %', '0.4 %', 'under 0.1 %', '99.9 %', 'over 99.9 %', '100 %')
    """
    if fraction in (0.0, 1.0):
        return f"{fraction:.0%}".replace("%", " %")
    if decimals < _DECIMALS_OF_EXTREMES:
        if fraction < 0.001:
            return "under 0.1 %"
        if fraction > 0.999:
            return "over 99.9 %"
        if fraction < 0.01 or fraction > 0.99:
            decimals = max(decimals, 1)
    return f"{fraction * 100:.{decimals}f} %"


def probability_percent(fraction: float) -> str:
    """A probability: with a decimal below 10 %, where thresholds lie, as the reasons tell it.

    >>> probability_percent(0.0534), probability_percent(0.1314), probability_percent(0.0004)
    ('5.3 %', '13 %', 'under 0.1 %')
    """
    return percent(fraction, decimals=1 if fraction < 0.0995 else 0)


def interval_decimals(low: float, high: float) -> int:
    """Of both ends of an interval: one where either is extreme or whole percentages would not tell them apart.

    >>> interval_decimals(0.94, 0.992), interval_decimals(0.22, 0.25), interval_decimals(0.041, 0.043)
    (1, 0, 1)
    """
    extreme = any(0 < end < 0.01 or 0.99 < end < 1 for end in (low, high))
    return int(extreme or (low != high and percent(low) == percent(high)))


def stated_percent(fraction: float) -> str:
    """A fraction with the decimals that it was stated with if these are four at most, else with one that is not zero.

    >>> [stated_percent(x) for x in (0.02, 0.025, 0.0012, 0.000123, 0.11034567, 0.0000004)]
    ['2 %', '2.5 %', '0.12 %', '0.0123 %', '11.0 %', '0.000040 %']
    """
    percent = fraction * 100
    decimals = next((d for d in range(5) if abs(round(percent, d) - percent) < 1e-9), None)
    if decimals is None:
        decimals = 1 if percent >= 0.05 else 1 - math.floor(math.log10(percent))
    return f"{percent:.{decimals}f} %"


_DECIMALS_OF_EXTREMES = 4  # so many are asked for only to tell two extremes apart


def _decimals_apart(score: float, threshold: float) -> int:
    """One decimal, as thresholds are shown everywhere, or as many as it takes to see that the percentages differ."""
    for decimals in range(1, 15):
        if score == threshold or percent(score, decimals=decimals) != percent(threshold, decimals=decimals):
            return decimals
    return 15
