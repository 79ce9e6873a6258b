"""A bundle and an image make an Assessment: the one path from pixels to a decision."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from melascope.bundle.manifest import Manifest
from melascope.bundle.store import CAM_WEIGHT, Bundle
from melascope.decision.operating_point import OperatingPoint
from melascope.decision.predictive_values import predictive_values
from melascope.decision.prevalence import at_prevalence, melanoma_prevalence
from melascope.decision.triage import triage
from melascope.domain.assessment import (
    AssessedImage,
    Assessment,
    Decision,
    Heatmap,
    Novelty,
    PredictionSet,
    PredictiveValues,
    QualityFinding,
)
from melascope.domain.diagnosis import Diagnosis
from melascope.domain.image import RgbImage
from melascope.errors import BundleError, UsageError
from melascope.imaging.appearance import appearance
from melascope.imaging.preprocess import normalise, to_uint8
from melascope.imaging.quality import examine
from melascope.runtime.explain import class_activation, heatmap_of
from melascope.runtime.lesion import combine
from melascope.runtime.novelty import novelty_model
from melascope.runtime.reasons import explain
from melascope.runtime.session import session_for


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prepared:
    """All that is needed of an image once its full-size pixels are let go."""

    name: str
    format: str
    width_px: int
    height_px: int
    sha256: str
    quality: tuple[QualityFinding, ...]
    pixels_HWC: NDArray[np.uint8]  #: what the network sees, shape (size_px, size_px, channels)


class SeenImage(NamedTuple):
    """What the network makes of one image."""

    logits_C: NDArray[np.float64]
    novelty: float | None
    activation_HW: NDArray[np.float64] | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Seen:
    """What the network makes of n images."""

    logits_NC: NDArray[np.float64]  #: raw, before calibration
    novelty_N: NDArray[np.float64] | None  #: None where the bundle cannot tell
    activation_NHW: NDArray[np.float64] | None  #: class activation maps of melanoma; None unless asked for

    def __iter__(self) -> Iterator[SeenImage]:
        for n in range(len(self.logits_NC)):
            yield SeenImage(
                self.logits_NC[n],
                None if self.novelty_N is None else float(self.novelty_N[n]),
                None if self.activation_NHW is None else self.activation_NHW[n],
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Terms:
    """On what terms images are assessed; see `Assessor.terms`."""

    point: OperatingPoint
    prevalence_C: NDArray[np.float64]  #: class frequencies that the probabilities shown assume
    stated: bool  #: whether the user stated the share of melanomas
    predictive_values: PredictiveValues


class Assessor:
    """Answers for images by one bundle. Safe to share between threads.

    Parameters
    ----------
    bundle
        What answers.
    threads
        Of the network, 1 or more; None: as many as the process may use.
    batch_size
        Images that go through the network at once.

    Raises
    ------
    UsageError
        `threads` below 1, or above four times the processors.
    BundleError
        A network that cannot be loaded or does not keep the bundle's contract.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None, batch_size: int = 16) -> None:
        self.bundle = bundle
        self.batch_size = batch_size
        self.session = session_for(bundle, threads=threads)
        self._novelty = novelty_model(bundle)
        self._melanoma = bundle.manifest.classes.index(Diagnosis.MEL)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    def assess(
        self,
        images: Sequence[RgbImage],
        *,
        operating_point: str | None = None,
        melanoma_prevalence: float | None = None,
        heatmap: bool = False,
    ) -> list[Assessment]:
        """Assess images, each as a lesion of its own; the answers are in their order.

        Parameters
        ----------
        operating_point, melanoma_prevalence
            See `terms`.
        heatmap
            Whether to say where the network saw melanoma.

        Raises
        ------
        UsageError
            As `terms`.
        BundleError
            The network fails or answers with numbers that are not finite.
        """
        terms = self.terms(operating_point, melanoma_prevalence)  # a wrong name fails before any work
        return self.assess_prepared([self.prepare(image) for image in images], terms, heatmap=heatmap)

    def assess_lesion(
        self,
        images: Sequence[RgbImage],
        *,
        operating_point: str | None = None,
        melanoma_prevalence: float | None = None,
        heatmap: bool = False,
    ) -> Assessment:
        """One answer for a lesion from one image of it or several; see `runtime.lesion.combine` for the rule.

        Raises
        ------
        UsageError
            No image; else as `assess`.
        """
        if not images:
            raise UsageError("No image of the lesion is given.", remedy="Give one image at least.")
        terms = self.terms(operating_point, melanoma_prevalence)
        return combine(
            self.assess_prepared([self.prepare(image) for image in images], terms, heatmap=heatmap)
        )

    def terms(self, operating_point: str | None = None, of_melanoma: float | None = None) -> Terms:
        """The terms of an assessment.

        Parameters
        ----------
        operating_point
            One of the bundle's; None: its default.
        of_melanoma
            Share of melanomas among the lesions of the place where the images are from, from 0.00001 to
            0.99999; it moves the probabilities shown and never takes a referral away; where melanoma then reaches the
            threshold, or a malignant diagnosis is the most probable, nobody is reassured. None: that of the
            calibration cases.

        Raises
        ------
        UsageError
            An operating point that the bundle lacks, a prevalence outside its range.
        """
        point = self.manifest.operating_point(operating_point)
        prevalence_C = np.asarray(self.manifest.calibration.prevalence_C)
        if of_melanoma is not None:
            prevalence_C = melanoma_prevalence(prevalence_C, self.manifest.classes, of_melanoma)
        return Terms(
            point=point,
            prevalence_C=prevalence_C,
            stated=of_melanoma is not None,
            predictive_values=predictive_values(point, float(prevalence_C[self._melanoma])),
        )

    def prepare(self, image: RgbImage) -> Prepared:
        """Examine an image and make what the network sees of it."""
        return Prepared(
            name=image.name,
            format=image.format,
            width_px=image.width_px,
            height_px=image.height_px,
            sha256=image.sha256,
            quality=examine(image.pixels_HWC),
            pixels_HWC=to_uint8(image.pixels_HWC, self.manifest.preprocess),
        )

    def assess_prepared(
        self, prepared: Sequence[Prepared], terms: Terms, *, heatmap: bool = False
    ) -> list[Assessment]:
        """As `assess`, of images that went through `prepare`."""
        assessments: list[Assessment] = []
        for batch in _batches(len(prepared), self.batch_size):
            chunk = [prepared[n] for n in batch]
            seen = self.look(chunk, activation=heatmap)
            assessments += [self.conclude(*pair, terms) for pair in zip(chunk, seen, strict=True)]
        return assessments

    def look(self, prepared: Sequence[Prepared], *, activation: bool = False) -> Seen:
        """Run the network on all of these images at once.

        Raises
        ------
        BundleError
            The network fails or answers with numbers that are not finite.
        """
        return self._look([image.pixels_HWC for image in prepared], activation=activation)

    def conclude(self, image: Prepared, seen: SeenImage, terms: Terms) -> Assessment:
        """The assessment of an image, from what the network made of it."""
        manifest, calibration = self.manifest, self.manifest.calibration
        log_probabilities_1C = calibration.log_probabilities(seen.logits_C[None])
        fitted_C = np.exp(log_probabilities_1C[0])
        if not np.isfinite(fitted_C).all():
            raise BundleError(
                f"{self.bundle.id}: its calibration makes probabilities that are no finite numbers.",
                remedy="Export the bundle again.",
            )
        shown_C = at_prevalence(
            log_probabilities_1C, fitted_C=calibration.prevalence_C, wanted_C=terms.prevalence_C
        )[0]
        score = float(fitted_C[self._melanoma])
        probabilities = dict(zip(manifest.classes, map(float, shown_C), strict=True))
        referred = terms.point.refers(score)
        suspects = [manifest.classes[int(p_C.argmax())] for p_C in (fitted_C, shown_C)]
        if terms.stated and terms.point.refers(probabilities[Diagnosis.MEL]):
            suspects.append(Diagnosis.MEL)
        novelty = self._novelty_of(seen)
        decision, causes = triage(
            referred=referred,
            suspects=suspects,
            plausible=self._plausible(fitted_C),
            familiarity=novelty.familiarity if novelty else "familiar",
            severities={finding.severity for finding in image.quality},
        )
        plausible = self._plausible(fitted_C, (*suspects, *([Diagnosis.MEL] if referred else [])))
        assessed = decision is not Decision.CANNOT_ASSESS
        return Assessment(
            images=(
                AssessedImage(
                    name=image.name,
                    format=image.format,
                    width_px=image.width_px,
                    height_px=image.height_px,
                    sha256=image.sha256,
                    melanoma_score=score if assessed else None,
                    novelty=novelty,
                    quality=image.quality,
                    heatmap=self._heatmap_of(image, seen) if assessed else None,
                ),
            ),
            bundle_id=self.bundle.id,
            melanoma_probability=probabilities[Diagnosis.MEL] if assessed else None,
            probabilities=probabilities if assessed else None,
            melanoma_score=score if assessed else None,
            prediction_set=(
                PredictionSet(coverage=manifest.conformal.coverage, diagnoses=plausible)
                if assessed and manifest.conformal is not None and plausible is not None
                else None
            ),
            prevalence=dict(zip(manifest.classes, map(float, terms.prevalence_C), strict=True)),
            decision=decision,
            reasons=explain(
                decision,
                causes,
                score=score,
                point=terms.point,
                probabilities=probabilities,
                suspects=suspects,
                plausible=plausible,
                calibration_prevalence=float(calibration.prevalence_C[self._melanoma]),
                stated_prevalence=float(terms.prevalence_C[self._melanoma]) if terms.stated else None,
            ),
            operating_point=terms.point.name,
            threshold=terms.point.threshold,
            predictive_values=terms.predictive_values if assessed else None,
        )

    def logits(self, images: Sequence[RgbImage]) -> NDArray[np.float64]:
        """Raw logits, shape (n, classes), before calibration; the order of classes is the manifest's.

        Raises
        ------
        BundleError
            The network fails or answers with numbers that are not finite.
        """
        pixels = [to_uint8(image.pixels_HWC, self.manifest.preprocess) for image in images]
        parts = [
            self._look([pixels[n] for n in batch]).logits_NC
            for batch in _batches(len(pixels), self.batch_size)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.manifest.classes)))

    def time_network_ms(self) -> float:
        """Run the network on one black image; how long it took, the first run left aside.

        Raises
        ------
        BundleError
            The network fails or answers with numbers that are not finite.
        """
        channels, height_px, width_px = self.manifest.preprocess.input_shape
        black = np.zeros((height_px, width_px, channels), dtype=np.uint8)
        self._look([black])  # the first run allocates
        start = time.perf_counter()
        self._look([black])
        return (time.perf_counter() - start) * 1000

    def _look(self, pixels: Sequence[NDArray[np.uint8]], *, activation: bool = False) -> Seen:
        outputs = [
            "logits",
            *(["embedding"] if self._novelty else []),
            *(["features"] if activation else []),
        ]
        answers = dict(zip(outputs, self._run(pixels, outputs), strict=True))
        weight_F = self.bundle.reference[CAM_WEIGHT][self._melanoma]
        novelty_N = None
        if self._novelty:
            appearance_NA = np.stack([appearance(pixels_HWC) for pixels_HWC in pixels])
            novelty_N = self._novelty.score(answers["embedding"], appearance_NA)
        return Seen(
            logits_NC=answers["logits"],
            novelty_N=novelty_N,
            activation_NHW=class_activation(answers["features"], weight_F) if activation else None,
        )

    def _run(self, pixels: Sequence[NDArray[np.uint8]], outputs: Sequence[str]) -> list[NDArray[np.float64]]:
        pixels_NCHW = normalise(np.stack(pixels), self.manifest.preprocess)
        answers = [answer.astype(np.float64) for answer in self.session.run(pixels_NCHW, outputs)]
        for name, answer in zip(outputs, answers, strict=True):
            if not np.isfinite(answer).all():
                raise BundleError(
                    f"{self.bundle.id}: the network's {name} are not finite numbers.",
                    remedy="These images get no answer; run `melascope doctor`, or export the bundle again.",
                )
        return answers

    def _plausible(
        self, fitted_C: NDArray[np.float64], suspects: Collection[Diagnosis] = ()
    ) -> tuple[Diagnosis, ...] | None:
        """The prediction set, the most probable first; with the suspects, as it is shown.

        The most probable diagnosis is to be considered whatever the set says, and so is melanoma where the lesion is
        referred for it, or suspected of it at the stated prevalence. A set that holds more keeps its promise all the
        more. An empty one stays empty where melanoma is not suspected: that no diagnosis fits is an answer.
        """
        if self.manifest.conformal is None:
            return None
        member_C = self.manifest.conformal.members(fitted_C[None])[0]
        if member_C.any() or Diagnosis.MEL in suspects:
            member_C |= np.isin(self.manifest.classes, list(suspects))
        return tuple(self.manifest.classes[c] for c in np.argsort(-fitted_C, kind="stable") if member_C[c])

    def _novelty_of(self, seen: SeenImage) -> Novelty | None:
        limits = self.manifest.novelty
        if limits is None or seen.novelty is None:
            return None
        return Novelty(
            familiarity=limits.familiarity(seen.novelty),
            score=seen.novelty,
            unusual_limit=limits.unusual,
            foreign_limit=limits.foreign,
        )

    def _heatmap_of(self, image: Prepared, seen: SeenImage) -> Heatmap | None:
        if seen.activation_HW is None:
            return None
        return heatmap_of(
            seen.activation_HW, self.manifest.preprocess, width_px=image.width_px, height_px=image.height_px
        )


def _batches(n: int, size: int) -> Iterator[range]:
    for start in range(0, n, size):
        yield range(start, min(n, start + size))
