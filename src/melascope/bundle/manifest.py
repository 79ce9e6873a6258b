"""`manifest.json`: what a bundle says of itself. Typed, versioned, unknown keys refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from melascope.decision.calibration import Calibration
from melascope.decision.conformal import ConformalSets
from melascope.decision.novelty import NoveltyLimits
from melascope.decision.operating_point import MIN_LESIONS, OperatingPoint
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import UsageError
from melascope.imaging.preprocess import PreprocessSpec

SCHEMA_VERSION = 2

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Figure(_Strict):
    """A measured number and its 95 % interval; None where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, low: float, high: float) -> Self:
        """A figure as evaluation gives it, where NaN is what is undefined."""
        return cls(
            **{
                name: None if math.isnan(number) else number
                for name, number in (("value", value), ("low", low), ("high", high))
            }
        )


class Measurement(_Strict):
    """Figures on one set of images, and the command that makes them."""

    name: str  #: of the set, e.g. "HAM10000 + ISIC 2017, held-out lesions"
    n_images: int
    n_groups: int
    n_melanoma: int
    figures: dict[str, Figure]
    command: str


#: Of the weights of the graph's convolutions; with int8 they are computed in integers too.
Precision = Literal["float32", "float16", "int8"]


class Architecture(_Strict):
    backbone: str
    parameters: int
    pretrained: str  #: where the first weights came from; "none" for a random start
    mirrors: Literal[1, 2, 4] = 1  #: mirror images that the graph averages
    zooms: tuple[Annotated[float, Field(ge=0.25, le=1)], ...] = (
        1.0,
    )  #: middle shares of the input, likewise
    precision: Precision = "float32"


class TrainingData(_Strict):
    """Of all images that the network learnt from, those of the runs it came from and of its teachers included."""

    sources: dict[str, int]  #: images a dataset
    n_images: int
    n_groups: int
    class_counts: dict[str, int]
    fingerprint: Sha256  #: of the sorted image sha256 sums that training saw
    audit_override: str | None = None  #: the reason given for training on a split that the audit refused
    teachers: tuple[str, ...] = ()  #: runs that taught the network besides the labels


class Refit(_Strict):
    """The cases of its user's own on which a bundle's decision was fitted anew; the network is that of `base`."""

    base: str  #: id of the bundle that was refitted
    sources: dict[str, int]  #: images a dataset; "unnamed" where the case table names none
    n_images: int
    n_groups: int
    fingerprint: Sha256  #: of the sorted image sha256 sums
    allowed_leak: str | None = None
    """The reason given for fitting on cases that the network may have learnt from."""


class FileEntry(_Strict):
    sha256: Sha256
    bytes: int


def _texts(value: object) -> Iterator[str]:
    """Every string in nested dictionaries, lists and tuples, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


#: What a bundle may be called.
NAME = r"^[a-z0-9][a-z0-9._-]*$"


class Manifest(_Strict):
    """See the class's fields; `files` lists every file of the bundle but the manifest itself."""

    schema_version: Literal[2]
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*@[0-9a-f]{12}$")  #: name@digest, see `store.bundle_id`
    name: str = Field(pattern=NAME)
    created: AwareDatetime
    classes: tuple[Diagnosis, ...]
    architecture: Architecture
    preprocess: PreprocessSpec
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    default_operating_point: str
    fitted_on: tuple[str, ...] | None = None  #: splits that all these were fitted on; None: not recorded
    refit: Refit | None = None  #: None: decided as its maker left it
    conformal: ConformalSets | None = None  #: None: prediction sets are not promised
    novelty: NoveltyLimits | None = None  #: None: no telling whether an image is like those learnt from
    training: TrainingData
    measurements: tuple[Measurement, ...]
    licence: str
    attributions: tuple[str, ...]
    intended_use: str
    library_versions: dict[str, str]
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for text in _texts(self.model_dump()):
            if not text.isprintable():  # it would reach terminals and pages
                raise ValueError(f"a text holds control characters: {text!r}")
        if len(set(self.classes)) != len(self.classes) or Diagnosis.MEL not in self.classes:
            raise ValueError("classes must be distinct and hold MEL")
        if len(self.calibration.prevalence_C) != len(self.classes):
            raise ValueError("calibration must have one scale, bias and prevalence a class")
        if self.conformal is not None and len(self.conformal.floor_C) != len(self.classes):
            raise ValueError("conformal must have one floor a class")
        names = [point.name for point in self.operating_points]
        if len(set(names)) != len(names):
            raise ValueError("operating_points must have distinct names")
        if self.default_operating_point not in names:
            raise ValueError(
                f"default_operating_point {self.default_operating_point!r} is not among operating_points"
            )
        for point in self.operating_points:
            for field in (
                "threshold",
                "target_value",
                "confidence",
                "lower_bound",
                "sensitivity",
                "specificity",
            ):
                if not 0 <= getattr(point, field) <= 1:
                    raise ValueError(
                        f"operating point {point.name!r} has the {field} {getattr(point, field)}; use 0 to 1"
                    )
            if min(point.n_melanoma, point.n_other) < MIN_LESIONS:
                raise ValueError(
                    f"operating point {point.name!r} was chosen on fewer than {MIN_LESIONS} lesions"
                )
        return self

    def operating_point(self, name: str | None = None) -> OperatingPoint:
        """The operating point of that name; the default one for None.

        Raises
        ------
        UsageError
            The bundle has no operating point of that name.
        """
        wanted = name or self.default_operating_point
        for point in self.operating_points:
            if point.name == wanted:
                return point
        raise UsageError(
            f"{self.id} has no operating point {wanted!r}.",
            remedy=f"Use one of {', '.join(point.name for point in self.operating_points)}.",
        )
