"""What `predict` can write: raw logits, calibrated probabilities, or an official ISIC submission."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melascope.bundle.manifest import Manifest
from melascope.cli.image_files import spreadsheet_cell
from melascope.decision.prevalence import Prior, at_prevalence, wanted_prevalence
from melascope.domain.assessment import Decision
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.evaluation.predictions import table_header, table_row
from melascope.interop.isic_submission import FORMATS as SUBMISSION_FORMATS
from melascope.runtime.reasons import other_malignancy


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFormat:
    """A header, and how a case and its raw logits become a row."""

    header: Sequence[str]
    row: Callable[[Case, NDArray[np.float64]], Sequence[object]]


def row_format(name: str, manifest: Manifest, *, prior: Prior = "training") -> RowFormat:
    """The format of that name for a bundle.

    Parameters
    ----------
    name
        `predictions` (raw logits, which no prior touches), `csv`, or an ISIC submission format.
    prior
        The class frequencies that probabilities assume: `training`, those of the calibration cases; `uniform`
        divides them out, which is what balanced accuracy wants.
    """
    classes, calibration = manifest.classes, manifest.calibration
    if name == "predictions":
        return RowFormat(header=table_header(classes), row=table_row)

    def probabilities(logits_C: NDArray[np.float64]) -> dict[Diagnosis, float]:
        shown_1C = at_prevalence(
            calibration.log_probabilities(logits_C[None]),
            fitted_C=calibration.prevalence_C,
            wanted_C=wanted_prevalence(prior, calibration.prevalence_C),
        )
        return dict(zip(classes, map(float, shown_1C[0]), strict=True))

    if name == "csv":
        point = manifest.operating_point()

        def csv_row(case: Case, logits_C: NDArray[np.float64]) -> Sequence[object]:
            score = float(calibration.probabilities(logits_C[None])[0, classes.index(Diagnosis.MEL)])
            decision = Decision.REFER if point.refers(score) else Decision.NO_SIGN
            shown = probabilities(logits_C)
            return (
                spreadsheet_cell(case.image_id),
                decision,
                score,
                *shown.values(),
                other_malignancy(decision, shown),
            )

        header = (
            "image_id",
            "decision",
            "melanoma_score",
            *(f"probability_{diagnosis}" for diagnosis in classes),
            "note",
        )
        return RowFormat(header=header, row=csv_row)

    submission = SUBMISSION_FORMATS[name]
    return RowFormat(
        header=submission.header,
        row=lambda case, logits_C: submission.row(case.image_id, probabilities(logits_C)),
    )
