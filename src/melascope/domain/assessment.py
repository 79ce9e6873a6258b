"""The Assessment: everything that is shown or stored about one lesion, from one image of it or several."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal

from melascope.domain.diagnosis import Diagnosis

SCHEMA_VERSION = 2


class Decision(StrEnum):
    """What the doctor is told to do about the lesion."""

    REFER = "refer"
    NO_SIGN = "no-sign-of-melanoma"
    UNCERTAIN = "uncertain"
    CANNOT_ASSESS = "cannot-assess"

    @property
    def label(self) -> str:
        """The decision in words."""
        return _DECISION_LABELS[self]


_DECISION_LABELS = {
    Decision.REFER: "refer",
    Decision.NO_SIGN: "no sign of melanoma",
    Decision.UNCERTAIN: "uncertain: ask an expert",
    Decision.CANNOT_ASSESS: "cannot assess",
}

#: A finding of severity "note" is told and changes nothing; a "poor" photograph gets no reassuring decision, an
#: "unusable" one no answer.
Severity = Literal["note", "poor", "unusable"]
#: Whether the network has learnt from photographs like this one; "unusual" gets no reassuring decision, "foreign"
#: no answer.
Familiarity = Literal["familiar", "unusual", "foreign"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """A sentence of the explanation: in English, and as what a translation is made from."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    code: str
    text: str  #: in English, complete
    values: dict[str, float | int | str]  #: what the sentence speaks of; fractions as fractions


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityFinding:
    """Something about the photograph itself that limits the answer."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    code: str  #: see `imaging.quality`
    severity: Severity
    value: float  #: as measured
    limit: float  #: that it crossed
    text: str  #: in English: what was found and what to do


@dataclass(frozen=True, kw_only=True, slots=True)
class Novelty:
    """How far the image is from those that the network has learnt from."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    familiarity: Familiarity
    score: float  #: the higher, the more novel
    unusual_limit: float  #: scores above it are unusual
    foreign_limit: float  #: scores above it are foreign


@dataclass(frozen=True, kw_only=True, slots=True)
class Heatmap:
    """Where the network saw evidence for melanoma: class activation, scaled to [0, 1], on a coarse grid."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    values_HW: tuple[tuple[float, ...], ...]  #: rows from the top
    frame_px: tuple[float, float, float, float]  #: left, top, right, bottom in the image that the grid covers


@dataclass(frozen=True, kw_only=True, slots=True)
class AssessedImage:
    """One image of the lesion, and what was found in it."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str  #: as the user called it
    format: str
    width_px: int
    height_px: int
    sha256: str
    melanoma_score: (
        float | None
    )  #: as that of the lesion, from this image alone; None if it cannot be assessed
    novelty: Novelty | None  #: None where the bundle cannot tell
    quality: tuple[QualityFinding, ...]
    heatmap: Heatmap | None = None  #: on demand, of an image that can be assessed


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionSet:
    """The diagnoses that cannot be excluded."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    coverage: float  #: share of lesions of each diagnosis whose set holds it, as promised
    diagnoses: tuple[Diagnosis, ...]  #: the most probable first; empty where every diagnosis can be excluded


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictiveValues:
    """What a referral, and its absence, is worth at the operating point and the stated prevalence of melanoma."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    prevalence: float
    ppv: float | None  #: share of melanomas among lesions referred; None where none ever is
    ppv_interval: tuple[float, float]  #: 95 %
    npv: float | None  #: share of other lesions among those not referred; None where all are
    npv_interval: tuple[float, float]  #: 95 %


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """The answer for one lesion by one bundle; immutable.

    A lesion of several images is judged by the most suspicious of those that can be assessed. Where none can,
    there is no number: the fields from `melanoma_probability` to `prediction_set` and `predictive_values` are None.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    schema_version: int = SCHEMA_VERSION
    images: tuple[AssessedImage, ...]  #: of the same lesion, at least one
    bundle_id: str
    melanoma_probability: float | None  #: calibrated, at `prevalence`
    probabilities: dict[Diagnosis, float] | None  #: calibrated, at `prevalence`; sums to 1
    melanoma_score: (
        float | None
    )  #: the melanoma probability that the threshold is compared with (training prevalence)
    prediction_set: PredictionSet | None  #: also None where the bundle promises none
    prevalence: dict[Diagnosis, float]  #: class frequencies that the probabilities assume
    decision: Decision
    reasons: tuple[Reason, ...]  #: the decision explained
    operating_point: str
    threshold: float
    predictive_values: PredictiveValues | None

    @property
    def name(self) -> str:
        """The lesion, as the user called its images."""
        return ", ".join(image.name for image in self.images)
