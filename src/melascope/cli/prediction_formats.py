"""What `predict` can write: raw logits, calibrated probabilities, or an official ISIC submission."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from melascope.cli.image_files import spreadsheet_cell
from melascope.decision.prevalence import Prior, at_prevalence, wanted_prevalence
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.evaluation.predictions import Finding, table_header, table_row
from melascope.interop.isic_submission import FORMATS as SUBMISSION_FORMATS
from melascope.runtime.assessor import Assessor, Prepared, SeenImage


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFormat:
    """A header, and how a case, its image and what the network made of it become a row."""

    header: Sequence[str]
    row: Callable[[Case, Prepared, SeenImage], Sequence[object]]


def row_format(name: str, assessor: Assessor, *, prior: Prior = "training") -> RowFormat:
    """The format of that name for the bundle of an assessor.

    Parameters
    ----------
    name
        `predictions` (raw logits, which no prior touches), `csv`, or an ISIC submission format.
    prior
        The class frequencies that probabilities assume: `training`, those of the calibration cases; `uniform`
        divides them out, which is what balanced accuracy wants.
    """
    manifest = assessor.manifest
    classes, calibration = manifest.classes, manifest.calibration
    if name == "predictions":
        knows_novelty = manifest.novelty is not None

        def predictions_row(case: Case, image: Prepared, seen: SeenImage) -> Sequence[object]:
            quality = [Finding(finding.code, finding.severity) for finding in image.quality]
            return table_row(case, seen.logits_C, novelty=seen.novelty, quality=quality)

        header = table_header(classes, novelty=knows_novelty, quality=True)
        return RowFormat(header=header, row=predictions_row)

    def probabilities(seen: SeenImage) -> dict[Diagnosis, float]:
        shown_1C = at_prevalence(
            calibration.log_probabilities(seen.logits_C[None]),
            fitted_C=calibration.prevalence_C,
            wanted_C=wanted_prevalence(prior, calibration.prevalence_C),
        )
        return dict(zip(classes, map(float, shown_1C[0]), strict=True))

    if name == "csv":
        terms, nothing = assessor.terms(), [""] * len(classes)

        def csv_row(case: Case, image: Prepared, seen: SeenImage) -> Sequence[object]:
            assessment = assessor.conclude(image, seen, terms)
            codes = [why.code for why in assessment.reasons] + [finding.code for finding in image.quality]
            return (
                spreadsheet_cell(case.image_id),
                assessment.decision,
                assessment.melanoma_score,
                *(probabilities(seen).values() if assessment.melanoma_score is not None else nothing),
                " ".join(codes),
            )

        header = [
            "image_id",
            "decision",
            "melanoma_score",
            *(f"probability_{diagnosis}" for diagnosis in classes),
            "reasons",
        ]
        return RowFormat(header=header, row=csv_row)

    submission = SUBMISSION_FORMATS[name]
    return RowFormat(
        header=submission.header,
        row=lambda case, _image, seen: submission.row(case.image_id, probabilities(seen)),
    )
