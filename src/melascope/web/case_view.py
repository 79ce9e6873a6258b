"""An Assessment as a page or a report shows it: every number rounded, every sentence in the reader's language."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from melascope.bundle.manifest import Manifest
from melascope.decision.operating_point import OperatingPoint
from melascope.domain.assessment import AssessedImage, Assessment, Decision, Heatmap, Severity
from melascope.domain.diagnosis import Diagnosis
from melascope.imaging.headers import ImageFormat
from melascope.runtime.explain import COLOUR_TABLE, strength
from melascope.runtime.reasons import interval_decimals
from melascope.web.messages import Messages

#: The order in which cases want to be read, the riskiest first; what is not known outranks a reassurance.
URGENCY = (Decision.REFER, Decision.UNCERTAIN, Decision.CANNOT_ASSESS, Decision.NO_SIGN)

#: Reasons that tell which of several photographs count, not what decided.
_WHICH = frozenset({"most-suspicious-image", "images-left-out"})

#: Reasons that the findings about a photograph tell better.
_OF_PHOTOGRAPH = frozenset({"unusable-photograph", "poor-photograph"})

#: What browsers do not show by themselves.
FOREIGN_TO_BROWSERS = frozenset({str(ImageFormat.TIFF), str(ImageFormat.HEIF)})

_HEAT_SIDE_PX = 192  #: of the heatmap's picture; smooth, so that the browser may enlarge it
_FEW, _MANY = 100, 1000  #: lesions that a probability is told of


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingView:
    """Something about the photograph, and what to do."""

    severity: Severity
    label: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageView:
    """One photograph of the case."""

    image: AssessedImage
    speaks: bool  #: whether it is the most suspicious of the case
    facts: str  #: format and size in words
    findings: tuple[FindingView, ...]
    novelty: str | None
    heat_url: (
        str | None
    )  #: data: URL of a picture that covers the whole photograph; None where nothing is shown
    heat_note: str | None  #: why there is no heatmap
    frame: tuple[float, float, float, float] | None  #: x, y, width, height in pixels; None where all is seen
    preview_url: str | None  #: data: URL for browsers that cannot show the file itself


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One diagnosis and its probability."""

    diagnosis: Diagnosis
    label: str
    fraction: float
    shown: str
    plausible: bool  #: in the prediction set


@dataclass(frozen=True, kw_only=True, slots=True)
class Worth:
    """A predictive value: of all lesions on one side of the threshold, so that it is never read as this one's risk."""

    told: str  #: as a sentence
    label: str
    interval: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseView:
    """All that is shown of one assessment. Without an answer there is no number: these fields are None or empty."""

    assessment: Assessment
    decision_label: str
    advice: str
    probability: str | None
    probability_words: str | None
    probability_at: str | None  #: the prevalence that it assumes
    score: str | None  #: what the threshold was compared with, where that is not the probability
    threshold: str | None
    reasons: tuple[str, ...]
    note: str  #: what made the decision, for a row of the overview
    promise: str | None
    point: str | None
    bars: tuple[Bar, ...]
    prediction_set: str | None
    prediction_set_promise: str | None
    worth_at: str | None
    worth: tuple[Worth, ...]  #: that of this decision's side of the threshold first
    images: tuple[ImageView, ...]


def case_view(
    assessment: Assessment,
    manifest: Manifest,
    tongue: Messages,
    *,
    previews: Mapping[str, bytes] | None = None,
) -> CaseView:
    """Everything to show of an assessment.

    Parameters
    ----------
    manifest
        Of the bundle that made the assessment.
    previews
        SHA-256 -> JPEG of the photograph, of those that the browser cannot show by itself.
    """
    answered = assessment.decision is not Decision.CANNOT_ASSESS
    point = manifest.operating_point(assessment.operating_point)
    told = [(reason.code, tongue.reason(reason)) for reason in assessment.reasons]
    promise = next((text for code, text in told if code.endswith("promised")), None)
    probability = assessment.melanoma_probability
    prevalence = tongue.stated_percent(assessment.prevalence[Diagnosis.MEL])
    plausible = assessment.prediction_set
    speaker = max(assessment.images, key=lambda image: image.melanoma_score or 0.0)
    reasons = [
        (code, text)
        for code, text in told
        if not code.endswith("promised") and not (code == "to-consider" and plausible)
    ]
    set_in_words = _set_in_words(assessment, tongue)
    images = tuple(
        _image_view(image, tongue, (previews or {}).get(image.sha256), speaks=image is speaker)
        for image in assessment.images
    )
    return CaseView(
        assessment=assessment,
        decision_label=tongue(f"decision.{assessment.decision}"),
        advice=tongue(f"advice.{assessment.decision}"),
        probability=None if probability is None else tongue.probability(probability),
        probability_words=None if probability is None else in_words(probability, tongue),
        probability_at=None if probability is None else tongue("case.in_words_at", prevalence=prevalence),
        score=_other_score(assessment, manifest, tongue),
        threshold=tongue.percent(assessment.threshold, decimals=1) if answered else None,
        reasons=tuple(text for _, text in reasons),
        note=_note(images, reasons),
        promise=promise if answered else None,
        point=point_label(point, tongue) if answered else None,
        bars=_bars(assessment, tongue),
        prediction_set=set_in_words,
        prediction_set_promise=None
        if plausible is None
        else tongue("case.prediction_set_promise", coverage=tongue.percent(plausible.coverage)),
        worth_at=tongue("case.worth_at", prevalence=prevalence) if answered else None,
        worth=_worth(assessment, tongue) if answered else (),
        images=images,
    )


def in_words(probability: float, tongue: Messages) -> str:
    """A probability as lesions in a hundred, or in a thousand where it is small."""
    of = _FEW if round(probability * _FEW) >= 1 else _MANY
    n = round(probability * of)
    key = "few" if n == 0 else "one" if n == 1 else "many"
    return tongue(f"case.in_words_{key}", n=tongue.count(n), of=tongue.count(of))


def point_label(point: OperatingPoint, tongue: Messages) -> str:
    """What an operating point is for, in words."""
    aim = "" if point.guaranteed else "_aim"
    return tongue(f"terms.point_{point.target}{aim}", target=tongue.percent(point.target_value))


def heat_picture(heatmap: Heatmap, *, width_px: int, height_px: int) -> bytes | None:
    """A PNG of the whole photograph's shape that lies over it; None where nothing spoke for melanoma.

    The colour tells the strength, and so does the opacity: none where there is no evidence, or where the
    network did not look.
    """
    if not np.any(heatmap.values_HW):
        return None
    scale = min(1.0, _HEAT_SIDE_PX / max(width_px, height_px))
    small_px = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    left, top, right, bottom = heatmap.frame_px
    x, y = small_px[0] / width_px, small_px[1] / height_px
    small = replace(heatmap, frame_px=(left * x, top * y, right * x, bottom * y))
    levels_HW = np.rint(strength(small, width_px=small_px[0], height_px=small_px[1]) * 255).astype(np.uint8)
    picture = Image.fromarray(levels_HW)
    picture.putpalette(np.rint(COLOUR_TABLE).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=bytes(range(256)), compress_level=6)
    return buffer.getvalue()


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _bars(assessment: Assessment, tongue: Messages) -> tuple[Bar, ...]:
    plausible: Sequence[Diagnosis] = assessment.prediction_set.diagnoses if assessment.prediction_set else ()
    ranked = sorted((assessment.probabilities or {}).items(), key=lambda item: -item[1])
    return tuple(
        Bar(
            diagnosis=diagnosis,
            label=tongue.diagnosis(diagnosis),
            fraction=fraction,
            shown=tongue.probability(fraction),
            plausible=diagnosis in plausible,
        )
        for diagnosis, fraction in ranked
    )


def _set_in_words(assessment: Assessment, tongue: Messages) -> str | None:
    if assessment.prediction_set is None:
        return None
    if not assessment.prediction_set.diagnoses:
        return tongue("case.prediction_set_empty")
    return tongue("case.prediction_set", diagnoses=tongue.diagnoses(assessment.prediction_set.diagnoses))


def _note(images: Sequence[ImageView], reasons: Sequence[tuple[str, str]]) -> str:
    """The first reason that decides; where that is the photograph, its gravest finding, which says what to do."""
    code, text = next(reason for reason in reasons if reason[0] not in _WHICH)
    grave = [finding for image in images for finding in image.findings if finding.severity != "note"]
    if code not in _OF_PHOTOGRAPH or not grave:
        return text
    return next((finding.text for finding in grave if finding.severity == "unusable"), grave[0].text)


def _other_score(assessment: Assessment, manifest: Manifest, tongue: Messages) -> str | None:
    score, probability = assessment.melanoma_score, assessment.melanoma_probability
    if score is None or probability is None or tongue.probability(score) == tongue.probability(probability):
        return None
    prevalence = manifest.calibration.prevalence_C[manifest.classes.index(Diagnosis.MEL)]
    return tongue(
        "case.score_of", score=tongue.probability(score), prevalence=tongue.stated_percent(prevalence)
    )


def _worth(assessment: Assessment, tongue: Messages) -> tuple[Worth, ...]:
    values = assessment.predictive_values
    if values is None:
        return ()
    sides = [("ppv", values.ppv, values.ppv_interval), ("npv", values.npv, values.npv_interval)]
    if assessment.decision is not Decision.REFER:
        sides.reverse()
    return tuple(
        Worth(
            told=tongue(
                f"case.{name}_told", share=tongue.percent(value, decimals=interval_decimals(*interval))
            ),
            label=tongue(f"case.{name}"),
            interval=tongue("case.interval", **tongue.ends(interval)),
        )
        for name, value, interval in sides
        if value is not None
    )


def _image_view(image: AssessedImage, tongue: Messages, preview: bytes | None, *, speaks: bool) -> ImageView:
    heat = None if image.heatmap is None else heat_picture(
        image.heatmap, width_px=image.width_px, height_px=image.height_px
    )  # fmt: skip
    heat_note = None
    if heat is None:
        heat_note = tongue("case.heatmap_none" if image.melanoma_score is None else "case.heatmap_empty")
    return ImageView(
        image=image,
        speaks=speaks,
        facts=tongue(
            "case.file_facts", format=image.format, width=image.width_px, height=image.height_px
        ),
        findings=tuple(
            FindingView(
                severity=finding.severity,
                label=tongue(f"case.severity_{finding.severity}"),
                text=tongue.finding(finding),
            )
            for finding in image.quality
        ),
        novelty=None if image.novelty is None else tongue(f"case.novelty_{image.novelty.familiarity}"),
        heat_url=None if heat is None else _data_url("image/png", heat),
        heat_note=heat_note,
        frame=_frame(image),
        preview_url=None if preview is None else _data_url("image/jpeg", preview),
    )  # fmt: skip


def _frame(image: AssessedImage) -> tuple[float, float, float, float] | None:
    """What the network saw, where that is not the whole photograph."""
    if image.heatmap is None:
        return None
    left, top, right, bottom = image.heatmap.frame_px
    left, top = max(left, 0.0), max(top, 0.0)
    right, bottom = min(right, image.width_px), min(bottom, image.height_px)
    if right - left > image.width_px - 1 and bottom - top > image.height_px - 1:
        return None
    return left, top, right - left, bottom - top
