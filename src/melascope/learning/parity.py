"""Proof that the exported graph, on its whole way from a file's bytes, answers as the trained network did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from melascope.bundle.manifest import Precision
from melascope.bundle.store import Bundle
from melascope.datasets.files import open_case_bytes
from melascope.domain.case import Case
from melascope.errors import ParityError
from melascope.evaluation.holdout import fit_decision, rows_of_split
from melascope.evaluation.judged import judge
from melascope.evaluation.measure import headline, measure
from melascope.evaluation.predictions import Predictions
from melascope.imaging.decode import decode_image
from melascope.imaging.preprocess import preprocess
from melascope.learning.backbones import Classifier
from melascope.learning.run import Run
from melascope.runtime.assessor import Assessor

#: Largest difference of a logit that is accepted: far below what moves a probability's third digit.
TOLERANCE = 2e-3
#: Of the AUROC for melanoma that fewer bits may cost.
MOST_LOST = 0.002
_BATCH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounding:
    """What fewer bits changed, over the rows that the decision is fitted on."""

    precision: Precision
    mean_difference: float  #: of a logit, its sign left aside
    auroc: float  #: for melanoma, calibrated
    auroc_before: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """Largest differences of a logit over the images compared."""

    n_images: int
    graph_against_torch: float  #: the same pixels through the exported graph and through torch
    graph_against_predictions: float  #: from the file to logits, against the run's predictions.csv
    rounding: Rounding | None = None  #: None for float32


def check_parity(
    bundle: Bundle, network: Classifier, predictions: Predictions, cases: Sequence[Case], *, n_images: int
) -> Parity:
    """Compare on judged images, evenly spread over the predictions.

    Raises
    ------
    ParityError
        A logit differs by more than `TOLERANCE`.
    """
    case_of = {case.image_id: case for case in cases}
    rows = np.unique(np.linspace(0, len(predictions.cases) - 1, n_images).astype(int))
    chosen = [case_of[predictions.cases[row].image_id] for row in rows]
    images = [decode_image(open_case_bytes(case.path), name=case.image_id) for case in chosen]
    graph_NC = Assessor(bundle).logits(images)
    pixels = torch.from_numpy(preprocess([image.pixels_HWC for image in images], bundle.manifest.preprocess))
    with torch.inference_mode():
        torch_NC = network(pixels).logits.double().numpy()
    parity = Parity(
        n_images=len(images),
        graph_against_torch=float(np.abs(graph_NC - torch_NC).max()),
        graph_against_predictions=float(np.abs(graph_NC - predictions.logits_NC[rows]).max()),
    )
    if not max(parity.graph_against_torch, parity.graph_against_predictions) <= TOLERANCE:
        raise ParityError(
            f"The exported graph differs from the network by {parity.graph_against_torch:.2g} and from predictions.csv "
            f"by {parity.graph_against_predictions:.2g} in a logit; {TOLERANCE:g} is accepted.",
            remedy="Export with the versions that the run was trained with (run.json), or train again.",
        )
    return parity


def check_rounding(
    bundle: Bundle, run: Run, calibrate_on: str, *, precision: Precision
) -> tuple[Predictions, Rounding]:
    """What a bundle of fewer bits answers for all that the run was judged by, from the files on.

    Raises
    ------
    ParityError
        It tells melanomas apart worse than the run by more than `MOST_LOST`.
    """
    assessor, path_of = Assessor(bundle), {case.image_id: case.path for case in run.cases}
    judged = run.predictions.cases
    parts = []
    for start in range(0, len(judged), _BATCH):
        ids = [case.image_id for case in judged[start : start + _BATCH]]
        parts.append(assessor.logits([decode_image(open_case_bytes(path_of[i]), name=i) for i in ids]))
    rounded = Predictions(classes=run.predictions.classes, logits_NC=np.concatenate(parts), cases=judged)
    before, after = (_auroc(rows_of_split(found, calibrate_on)) for found in (run.predictions, rounded))
    if not after >= before - MOST_LOST:
        raise ParityError(
            f"In {precision} the AUROC for melanoma on {calibrate_on} is {after:.4f}, {before:.4f} without; "
            f"{MOST_LOST} less is accepted.",
            remedy="Export with --precision float32.",
        )
    difference = float(np.abs(rounded.logits_NC - run.predictions.logits_NC).mean())
    return rounded, Rounding(
        precision=precision, mean_difference=difference, auroc=after, auroc_before=before
    )


def _auroc(rows: Predictions) -> float:
    """For melanoma, by a calibration fitted on the rows themselves."""
    judged = judge(rows, fit_decision(rows), prior="training")
    return headline(measure(judged, n_bootstrap=0))["melanoma_auroc"].value
