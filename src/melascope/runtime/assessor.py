"""A bundle and an image make an Assessment: the one path from pixels to a decision."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from melascope.bundle.manifest import Manifest
from melascope.bundle.store import CAM_WEIGHT, Bundle
from melascope.decision.prevalence import at_prevalence, melanoma_prevalence
from melascope.domain.assessment import Assessment, Decision, ImageFacts
from melascope.domain.diagnosis import Diagnosis
from melascope.domain.image import RgbImage
from melascope.errors import BundleError
from melascope.imaging.preprocess import normalise, to_uint8
from melascope.runtime.explain import class_activation, heatmap_of
from melascope.runtime.reasons import reasons
from melascope.runtime.session import session_for


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

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    def prepare(self, image: RgbImage) -> NDArray[np.uint8]:
        """What the network sees of an image, shape (size_px, size_px, channels)."""
        return to_uint8(image.pixels_HWC, self.manifest.preprocess)

    def logits_prepared(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """As `logits`, of images that went through `prepare`."""
        batches = [
            self._run([prepared[n] for n in batch], ("logits",))[0]
            for batch in _batches(len(prepared), self.batch_size)
        ]
        return np.concatenate(batches) if batches else np.empty((0, len(self.manifest.classes)))

    def logits(self, images: Sequence[RgbImage]) -> NDArray[np.float64]:
        """Raw logits, shape (n, classes), before calibration; the order of classes is the manifest's.

        Raises
        ------
        BundleError
            The network fails or answers with numbers that are not finite.
        """
        return self.logits_prepared([self.prepare(image) for image in images])

    def probabilities(
        self, logits_NC: NDArray[np.float64], *, prevalence_C: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Calibrated probabilities, shape (n, classes), at the calibration's prevalence or at another."""
        calibration = self.manifest.calibration
        if prevalence_C is None:
            return calibration.probabilities(logits_NC)
        log_probabilities_NC = calibration.log_probabilities(logits_NC)
        return at_prevalence(log_probabilities_NC, fitted_C=calibration.prevalence_C, wanted_C=prevalence_C)

    def assess(
        self,
        images: Sequence[RgbImage],
        *,
        operating_point: str | None = None,
        melanoma_prevalence: float | None = None,
        heatmap: bool = False,
    ) -> list[Assessment]:
        """Assess images; the answers are in their order.

        Parameters
        ----------
        operating_point
            One of the bundle's; None: its default.
        melanoma_prevalence
            Share of melanomas among the lesions of the place where the images are from, above 0 and below
            1; it moves the probabilities shown, never the decision. None: that of the calibration cases.
        heatmap
            Whether to say where the network saw melanoma.

        Raises
        ------
        UsageError
            An operating point that the bundle lacks, a prevalence outside its range.
        BundleError
            The network fails or answers with numbers that are not finite.
        """
        self.manifest.operating_point(operating_point)  # a wrong name fails before any work
        prevalence_C = self._prevalence(melanoma_prevalence)
        assessments: list[Assessment] = []
        for batch in _batches(len(images), self.batch_size):
            chunk = [images[n] for n in batch]
            prepared = [self.prepare(image) for image in chunk]
            if heatmap:
                logits_NC, features_NFHW = self._run(prepared, ("logits", "features"))
                weight_F = self.bundle.reference[CAM_WEIGHT][self._melanoma]
                activations_NHW = class_activation(features_NFHW, weight_F)
            else:
                logits_NC, activations_NHW = self._run(prepared, ("logits",))[0], None
            scores_N = self.probabilities(logits_NC)[:, self._melanoma]
            probabilities_NC = self.probabilities(logits_NC, prevalence_C=prevalence_C)
            for n, image in enumerate(chunk):
                assessments.append(
                    self._assessment(
                        image,
                        score=float(scores_N[n]),
                        probabilities_C=probabilities_NC[n],
                        prevalence_C=prevalence_C,
                        operating_point=operating_point,
                        activation_HW=None if activations_NHW is None else activations_NHW[n],
                    )
                )
        return assessments

    def time_network_ms(self) -> float:
        """Run the network on one black image; how long it took, the first run left aside.

        Raises
        ------
        BundleError
            The network fails or answers with numbers that are not finite.
        """
        channels, height_px, width_px = self.manifest.preprocess.input_shape
        black = np.zeros((height_px, width_px, channels), dtype=np.uint8)
        self.logits_prepared([black])  # the first run allocates
        start = time.perf_counter()
        self.logits_prepared([black])
        return (time.perf_counter() - start) * 1000

    @property
    def _melanoma(self) -> int:
        return self.manifest.classes.index(Diagnosis.MEL)

    def _prevalence(self, of_melanoma: float | None) -> NDArray[np.float64] | None:
        if of_melanoma is None:
            return None
        return melanoma_prevalence(self.manifest.calibration.prevalence_C, self.manifest.classes, of_melanoma)

    def _run(
        self, prepared: Sequence[NDArray[np.uint8]], outputs: Sequence[str]
    ) -> list[NDArray[np.float64]]:
        pixels_NCHW = normalise(np.stack(prepared), self.manifest.preprocess)
        answers = [answer.astype(np.float64) for answer in self.session.run(pixels_NCHW, outputs)]
        for name, answer in zip(outputs, answers, strict=True):
            if not np.isfinite(answer).all():
                raise BundleError(
                    f"{self.bundle.id}: the network's {name} are not finite numbers.",
                    remedy="These images get no answer; run `melascope doctor`, or export the bundle again.",
                )
        return answers

    def _assessment(
        self,
        image: RgbImage,
        *,
        score: float,
        probabilities_C: NDArray[np.float64],
        prevalence_C: NDArray[np.float64] | None,
        operating_point: str | None,
        activation_HW: NDArray[np.float64] | None,
    ) -> Assessment:
        manifest = self.manifest
        point = manifest.operating_point(operating_point)
        shown_C = manifest.calibration.prevalence_C if prevalence_C is None else prevalence_C
        probabilities = dict(zip(manifest.classes, map(float, probabilities_C), strict=True))
        decision = Decision.REFER if point.refers(score) else Decision.NO_SIGN
        return Assessment(
            image=ImageFacts(
                name=image.name,
                format=image.format,
                width_px=image.width_px,
                height_px=image.height_px,
                sha256=image.sha256,
            ),
            bundle_id=self.bundle.id,
            melanoma_probability=probabilities[Diagnosis.MEL],
            probabilities=probabilities,
            prevalence=dict(zip(manifest.classes, map(float, shown_C), strict=True)),
            melanoma_score=score,
            decision=decision,
            reasons=reasons(
                decision,
                score=score,
                point=point,
                probabilities=probabilities,
                calibration_prevalence=manifest.calibration.prevalence_C[self._melanoma],
                stated_prevalence=None if prevalence_C is None else float(prevalence_C[self._melanoma]),
            ),
            operating_point=point.name,
            threshold=point.threshold,
            heatmap=None if activation_HW is None else heatmap_of(activation_HW, image, manifest.preprocess),
        )


def _batches(n: int, size: int) -> Iterator[range]:
    for start in range(0, n, size):
        yield range(start, min(n, start + size))
