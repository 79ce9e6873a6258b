"""One answer for a lesion that was photographed several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from melascope.decision.triage import GRAVITY, Cause
from melascope.domain.assessment import Assessment, Decision, PredictionSet
from melascope.runtime.reasons import reason

_DOUBTS = frozenset(get_args(Cause))


def combine(assessments: Sequence[Assessment]) -> Assessment:
    """The lesion's assessment from those of its images, made on the same terms.

    The image with the highest melanoma score among those that can be assessed speaks for the lesion: a doctor
    who takes several photographs heeds the worst, and operating points are fitted on that same vote. The
    decision is the gravest of theirs and the prediction set holds all of theirs, so that a doubt about any of them
    is not lost.

    Parameters
    ----------
    assessments
        One an image, at least one.
    """
    if len(assessments) == 1:
        return assessments[0]
    images = tuple(image for assessment in assessments for image in assessment.images)
    usable = [assessment for assessment in assessments if assessment.melanoma_score is not None]
    if not usable:
        causes = {why.code: why for assessment in assessments for why in assessment.reasons}
        reasons = (reason("no-image-left", n=len(images)), *causes.values())
        return replace(assessments[0], images=images, reasons=reasons)
    speaker = max(usable, key=lambda assessment: assessment.melanoma_score or 0.0)
    gravest = max((assessment.decision for assessment in usable), key=GRAVITY.index)
    told = [reason("most-suspicious-image", n=len(usable), image=speaker.name), *speaker.reasons]
    for other in usable:
        known = {why.code for why in told}
        doubts = [why for why in other.reasons if why.code in _DOUBTS and why.code not in known]
        if doubts:
            told[:0] = [reason("another-image", image=other.name), *doubts]
    if left_out := [assessment.name for assessment in assessments if assessment.melanoma_score is None]:
        told.insert(0, reason("images-left-out", image=", ".join(left_out)))
    if gravest is Decision.REFER:  # by the speaker's score, its first reason
        told = [speaker.reasons[0], *(why for why in told if why is not speaker.reasons[0])]
    together = _union([speaker, *usable])
    if together != speaker.prediction_set and together is not None:
        shown = reason("to-consider", diagnoses=" ".join(together.diagnoses))
        told = [why for why in told if why.code != "to-consider"] + [shown]
    return replace(
        speaker,
        images=images,
        decision=gravest,
        reasons=tuple(told),
        prediction_set=together,
    )


def _union(assessments: Sequence[Assessment]) -> PredictionSet | None:
    """What is to be considered by any image: each set keeps its promise, so does one that holds them all.

    Unless it is empty it holds the most probable diagnosis of the first, whose probabilities are shown.
    """
    sets = [assessment.prediction_set for assessment in assessments if assessment.prediction_set]
    if not sets:
        return None
    together = dict.fromkeys(d for found in sets for d in found.diagnoses)
    if together and (told := assessments[0].probabilities):
        together = {max(told, key=lambda diagnosis: told[diagnosis]): None} | together
    return replace(sets[0], diagnoses=tuple(together))
