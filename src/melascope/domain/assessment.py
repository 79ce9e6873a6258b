"""The Assessment: everything that is shown or stored about one image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from melascope.domain.diagnosis import Diagnosis

SCHEMA_VERSION = 1


class Decision(StrEnum):
    """What the doctor is told to do about the lesion."""

    REFER = "refer"
    NO_SIGN = "no-sign-of-melanoma"

    @property
    def label(self) -> str:
        """The decision in words."""
        return {Decision.REFER: "refer", Decision.NO_SIGN: "no sign of melanoma"}[self]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """What is kept of the image itself."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str  #: as the user called it
    format: str
    width_px: int
    height_px: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Heatmap:
    """Where the network saw evidence for melanoma: class activation, scaled to [0, 1], on a coarse grid."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    values_HW: tuple[tuple[float, ...], ...]  #: rows from the top
    frame_px: tuple[float, float, float, float]  #: left, top, right, bottom in the image that the grid covers


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """The answer for one image by one bundle; immutable."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    schema_version: int = SCHEMA_VERSION
    image: ImageFacts
    bundle_id: str
    melanoma_probability: float  #: calibrated, at `prevalence`
    probabilities: dict[Diagnosis, float]  #: calibrated, at `prevalence`; sums to 1
    prevalence: dict[Diagnosis, float]  #: class frequencies that the probabilities assume
    melanoma_score: (
        float  #: the melanoma probability that the threshold is compared with (training prevalence)
    )
    decision: Decision
    reasons: tuple[str, ...]  #: the decision explained, in words
    operating_point: str
    threshold: float
    heatmap: Heatmap | None = None  #: on demand
