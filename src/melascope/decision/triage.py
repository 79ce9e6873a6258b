"""Triage: what the doctor is told to do, from everything that is known of a lesion's image."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from melascope.domain.assessment import Decision, Familiarity, Severity
from melascope.domain.diagnosis import Diagnosis

#: Why a decision is not simply what the threshold says.
Cause = Literal[
    "unusable-photograph",
    "foreign-image",
    "unusual-image",
    "poor-photograph",
    "no-diagnosis-fits",
    "malignancy-not-excluded",
]


#: From the lightest to the gravest: of several images of a lesion the gravest decision is the lesion's; an image
#: that cannot be assessed yields to any that can.
GRAVITY = (Decision.CANNOT_ASSESS, Decision.NO_SIGN, Decision.UNCERTAIN, Decision.REFER)


class Triage(NamedTuple):
    """A decision and its causes, the gravest first; none where the threshold alone decided."""

    decision: Decision
    causes: tuple[Cause, ...]


def triage(
    *,
    referred: bool,
    suspects: Collection[Diagnosis],
    plausible: Collection[Diagnosis] | None,
    familiarity: Familiarity = "familiar",
    severities: Collection[Severity] = (),
) -> Triage:
    """The decision for one image.

    "No sign of melanoma" is said only of a familiar, well-made image whose every plausible diagnosis is benign.
    What cannot be assessed is not referred by its score either: that score means nothing.

    Parameters
    ----------
    referred
        Whether the score reaches the operating point's threshold.
    suspects
        What the probabilities speak for: the most probable diagnosis, at the calibration's prevalence and at the one
        that the user stated, and melanoma where its probability at the latter reaches the threshold.
    plausible
        The prediction set; None where the bundle promises none.
    familiarity
        Of the image to the network.
    severities
        Of the findings about the photograph.
    """
    barred: list[Cause] = []
    if "unusable" in severities:
        barred.append("unusable-photograph")
    if familiarity == "foreign":
        barred.append("foreign-image")
    if barred:
        return Triage(Decision.CANNOT_ASSESS, tuple(barred))
    doubts: list[Cause] = []
    if familiarity == "unusual":
        doubts.append("unusual-image")
    if "poor" in severities:
        doubts.append("poor-photograph")
    if plausible is not None and not plausible:
        doubts.append("no-diagnosis-fits")
    if not referred and any(diagnosis.malignant for diagnosis in (*suspects, *(plausible or ()))):
        doubts.append("malignancy-not-excluded")
    if referred:
        return Triage(Decision.REFER, tuple(doubts))
    return Triage(Decision.UNCERTAIN if doubts else Decision.NO_SIGN, tuple(doubts))
