"""How `melascope assess` shows its answers: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from melascope.cli.image_files import printable, spreadsheet_cell
from melascope.domain.assessment import AssessedImage, Assessment, Decision, PredictiveValues
from melascope.errors import MelascopeError
from melascope.runtime.assessment_json import to_jsonable
from melascope.runtime.reasons import interval_decimals, percent, probability_percent, stated_percent

if TYPE_CHECKING:
    from melascope.runtime.assessor import Assessor

_STYLES = {
    Decision.REFER: "bold red",
    Decision.UNCERTAIN: "bold yellow",
    Decision.CANNOT_ASSESS: "bold magenta",
    Decision.NO_SIGN: "green",
}
_CSV_COLUMNS = (
    "image", "decision", "melanoma_probability", "melanoma_score", "operating_point", "threshold", "prediction_set",
)  # fmt: skip


@dataclass(kw_only=True, slots=True)
class Report:
    """What came of the images, so far."""

    bundle_id: str
    prevalence_is_stated: bool  #: by the user
    assessments: list[Assessment] = field(default_factory=list)
    problems: list[tuple[Path, MelascopeError]] = field(default_factory=list)
    #: One an image, in the order of the assessments' images; None where there is no heatmap. Empty if not asked for.
    heatmap_files: list[Path | None] = field(default_factory=list)


def print_table(report: Report, assessor: Assessor) -> None:
    """A row a lesion; all reasons for one lesion, for several those that the decision column cannot show."""
    console = Console(highlight=False)
    if report.assessments:
        console.print(_table(report.assessments))
        console.print()
        alone = len(report.assessments) == 1
        notes = [
            note if alone else f"{_names(report.assessments)[n]}: {note}"
            for n, assessment in enumerate(report.assessments)
            for note in _notes(assessment, whole=alone)
        ]
        for note in notes:
            console.print(Text(note))
        if notes:
            console.print()
    images = [image for assessment in report.assessments for image in assessment.images]
    for image, file in zip(images, report.heatmap_files, strict=False):
        console.print(Text(_heatmap_line(image, file)), soft_wrap=True)
    if report.assessments:
        console.print(f"Bundle {report.bundle_id}; operating point {report.assessments[0].operating_point}.")
    worth = next((each.predictive_values for each in report.assessments if each.predictive_values), None)
    if worth is not None:
        console.print(_worth(worth, stated=report.prevalence_is_stated))
    console.print(Text(assessor.manifest.intended_use, style="italic"))


def _worth(values: PredictiveValues, *, stated: bool) -> str:
    npv_low, npv_high = values.npv_interval
    referred = (
        "nobody is referred"
        if values.ppv is None
        else f"{_percent_of(values.ppv, *values.ppv_interval)} of those referred are "
        f"(95 % interval {_range(*values.ppv_interval)})"
    )
    others = (
        "everybody is referred"
        if values.npv is None
        else f"{_percent_of(1 - values.npv, 1 - npv_high, 1 - npv_low)} of those not referred "
        f"({_range(1 - npv_high, 1 - npv_low)})"
    )
    whose = "as stated" if stated else "as among the calibration cases; state your own with --prevalence"
    return f"Where {stated_percent(values.prevalence)} of lesions are melanomas ({whose}), {referred}, and {others}."


def _percent_of(value: float, low: float, high: float) -> str:
    return percent(value, decimals=interval_decimals(low, high))


def _range(low: float, high: float) -> str:
    return f"{_percent_of(low, low, high)} to {_percent_of(high, low, high)}"


def _heatmap_line(image: AssessedImage, file: Path | None) -> str:
    if file is None:
        return f"Heatmap: none of {printable(Path(image.name).name)}, which cannot be assessed"
    shown = f"Heatmap: {printable(file)}"
    empty = image.heatmap is not None and not any(map(any, image.heatmap.values_HW))
    return f"{shown} (the network saw no evidence for melanoma anywhere)" if empty else shown


def _names(assessments: Sequence[Assessment]) -> list[str]:
    """File names, or whole paths where those are not unique."""
    short = [", ".join(Path(image.name).name for image in assessment.images) for assessment in assessments]
    return short if len(set(short)) == len(short) else [assessment.name for assessment in assessments]


def _notes(assessment: Assessment, *, whole: bool) -> list[str]:
    """The findings about the photographs, and the reasons: all, or those that are no mere comparison of numbers."""
    findings = [
        finding.text if len(assessment.images) == 1 else f"{Path(image.name).name}: {finding.text}"
        for image in assessment.images
        for finding in image.quality
        if whole or finding.severity != "note"
    ]
    reasons = [reason.text for reason in assessment.reasons if whole or not reason.code.startswith(_ROUTINE)]
    return reasons + findings


_ROUTINE = ("score-", "sensitivity-", "specificity-", "stated-prevalence", "to-consider")


def _table(assessments: Sequence[Assessment]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Image", overflow="fold", ratio=2)
    table.add_column("Melanoma", justify="right", no_wrap=True)
    table.add_column("Decision", no_wrap=True)
    table.add_column("Most probable diagnoses", ratio=3)
    for assessment, name in zip(assessments, _names(assessments), strict=True):
        likeliest = sorted((assessment.probabilities or {}).items(), key=lambda item: -item[1])[:3]
        diagnoses = ", ".join(
            f"{diagnosis.label} {probability_percent(share)}" for diagnosis, share in likeliest
        )
        table.add_row(
            Text(name),
            "-"
            if assessment.melanoma_probability is None
            else probability_percent(assessment.melanoma_probability),
            Text(assessment.decision.label, style=_STYLES[assessment.decision]),
            diagnoses.replace(" %", "\N{NO-BREAK SPACE}%") or "-",
        )
    return table


def print_json(report: Report, _assessor: Assessor) -> None:
    """One object: the assessments, the heatmap files and the images that could not be read."""
    click.echo(
        json.dumps(
            {
                "bundle_id": report.bundle_id,
                "assessments": [to_jsonable(assessment) for assessment in report.assessments],
                "heatmap_files": [file and printable(file) for file in report.heatmap_files],
                "problems": [
                    {
                        "name": printable(path),
                        "code": fault.code,
                        "message": printable(fault.message),
                        "remedy": fault.remedy and printable(fault.remedy),
                    }
                    for path, fault in report.problems
                ],
            },
            indent=2,
            allow_nan=False,
        )
    )


def print_csv(report: Report, assessor: Assessor) -> None:
    """A row a lesion; cells that need several values hold them apart by spaces."""
    classes = assessor.manifest.classes
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(
        (*_CSV_COLUMNS, *(f"probability_{c}" for c in classes), "bundle_id", "sha256", "heatmap", "reasons")
    )
    files = iter(report.heatmap_files)
    for assessment in report.assessments:
        heatmaps = [file for _ in assessment.images if (file := next(files, None))]
        probabilities = assessment.probabilities or {}
        writer.writerow(
            (
                spreadsheet_cell(assessment.name),
                assessment.decision,
                assessment.melanoma_probability,
                assessment.melanoma_score,
                assessment.operating_point,
                assessment.threshold,
                " ".join(assessment.prediction_set.diagnoses) if assessment.prediction_set else "",
                *(probabilities.get(diagnosis) for diagnosis in classes),
                assessment.bundle_id,
                " ".join(image.sha256 for image in assessment.images),
                spreadsheet_cell(", ".join(map(printable, heatmaps))),
                " ".join(_notes(assessment, whole=True)),
            )
        )
