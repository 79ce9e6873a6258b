"""One answer for a lesion that was photographed several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from melascope.decision.triage import GRAVITY, Cause
from melascope.domain.assessment import Assessment, PredictionSet
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
    gravest = max(usable, key=lambda assessment: GRAVITY.index(assessment.decision))
    told = [reason("most-suspicious-image", n=len(images), image=speaker.name), *speaker.reasons]
    if gravest.decision is not speaker.decision:
        doubts = [why for why in gravest.reasons if why not in speaker.reasons and why.code in _DOUBTS]
        told[:0] = [reason("another-image", image=gravest.name), *doubts]
    together = _union([speaker, *usable])
    if together != speaker.prediction_set and together is not None:
        shown = reason("not-excluded", diagnoses=" ".join(together.diagnoses))
        told = [why for why in told if why.code != "not-excluded"] + [shown]
    if left_out := [a.name for a in assessments if a.melanoma_score is None]:
        told.append(reason("images-left-out", image=", ".join(left_out)))
    return replace(
        speaker,
        images=images,
        decision=gravest.decision,
        reasons=tuple(told),
        prediction_set=together,
    )


def _union(assessments: Sequence[Assessment]) -> PredictionSet | None:
    """What no image excludes: each image's set keeps its promise, so does a set that holds them all."""
    sets = [assessment.prediction_set for assessment in assessments if assessment.prediction_set]
    if not sets:
        return None
    return replace(sets[0], diagnoses=tuple(dict.fromkeys(d for found in sets for d in found.diagnoses)))
