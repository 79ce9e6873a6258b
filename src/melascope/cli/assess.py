"""`melascope assess`: images in, a probability of melanoma and a decision out."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from melascope.cli.image_files import find_images, printable, spreadsheet_cell, tell_left_out
from melascope.cli.options import PATH, image_limits
from melascope.errors import MelascopeError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from melascope.domain.assessment import Assessment
    from melascope.domain.image import RgbImage
    from melascope.imaging.decode import ImageLimits
    from melascope.runtime.assessor import Assessor

_AT_ONCE = 4  # full-size photographs in memory


@dataclass(kw_only=True, slots=True)
class _Report:
    """What came of the images, so far."""

    bundle_id: str
    assessments: list[Assessment] = field(default_factory=list)
    problems: list[tuple[Path, MelascopeError]] = field(default_factory=list)
    heatmap_files: list[Path] = field(default_factory=list)  #: one an assessment, or none


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="PATH...")
@click.option(
    "--bundle",
    "bundle_name",
    metavar="NAME",
    help="Bundle: a name, an id or a path. [default: the active one]",
)
@click.option(
    "--format", "output", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True
)
@click.option(
    "--heatmap",
    "heatmap_folder",
    type=PATH,
    metavar="DIR",
    help="Save a heatmap of each image there.",
)
@click.option(
    "--operating-point", metavar="NAME", help="One of the bundle's; `melascope bundle show` lists them."
)
@click.option(
    "--prevalence",
    type=float,
    metavar="FRACTION",
    help="Share of melanomas among your lesions; moves probabilities only.",
)
@click.option("--threads", type=int, metavar="N", help="Threads of the network. [default: all processors]")
@image_limits
def command(
    paths: tuple[Path, ...],
    bundle_name: str | None,
    output: Literal["table", "json", "csv"],
    heatmap_folder: Path | None,
    operating_point: str | None,
    prevalence: float | None,
    threads: int | None,
    limits: ImageLimits,
) -> int:
    """Assess images: the probability of melanoma and a decision for each.

    PATH is an image or a folder. In a folder, files named as images are taken, in depth; files left out
    are told. An image that cannot be read is reported with its reason, the others are assessed, and the
    exit status is 3.
    """
    from melascope.bundle.catalogue import load_bundle
    from melascope.runtime.assessor import Assessor

    found = find_images(paths)
    tell_left_out(found)
    assessor = Assessor(load_bundle(bundle_name), threads=threads)
    report = _Report(bundle_id=assessor.bundle.id)
    saver = HeatmapFolder(heatmap_folder) if heatmap_folder else None
    for images in _read(found.images, report, limits):
        assessments = assessor.assess(
            images, operating_point=operating_point, melanoma_prevalence=prevalence, heatmap=saver is not None
        )
        report.assessments += assessments
        if saver is not None:
            for image, assessment in zip(images, assessments, strict=True):
                report.heatmap_files.append(saver.save(image, assessment))
    {"table": _print_table, "json": _print_json, "csv": _print_csv}[output](report, assessor)
    for _, fault in report.problems:
        click.echo(f"melascope: {printable(fault)} [{fault.code}]", err=True)
    return 3 if report.problems else 0


def _read(paths: tuple[Path, ...], report: _Report, limits: ImageLimits) -> Iterator[list[RgbImage]]:
    """Decoded images, a few at a time; those that cannot be decoded go into the report."""
    from melascope.imaging.decode import read_image

    for start in range(0, len(paths), _AT_ONCE):
        images = []
        for path in paths[start : start + _AT_ONCE]:
            try:
                images.append(read_image(path, limits=limits))
            except MelascopeError as fault:
                report.problems.append((path, fault))
        if images:
            yield images


class HeatmapFolder:
    """Saves heatmaps as PNG, named after their images; two images of one name get two files.

    Raises
    ------
    UsageError
        The folder cannot be made, or a file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise self._unwritable(fault) from fault

    def save(self, image: RgbImage, assessment: Assessment) -> Path:
        """Draw and write the heatmap of one image."""
        from PIL import Image

        from melascope.runtime.explain import render_heatmap

        if assessment.heatmap is None:
            raise ValueError("the assessment has no heatmap")
        path = self._folder / self._free_name(Path(image.name).stem[:100])
        try:
            Image.fromarray(render_heatmap(image, assessment.heatmap)).save(path, format="PNG")
        except OSError as fault:
            raise self._unwritable(fault) from fault
        return path

    def _free_name(self, stem: str) -> str:
        name, count = f"{stem}.heatmap.png", 1
        while name.casefold() in self._taken:  # file systems may not tell upper from lower case
            count += 1
            name = f"{stem}-{count}.heatmap.png"
        self._taken.add(name.casefold())
        return name

    def _unwritable(self, fault: OSError) -> UsageError:
        return UsageError(
            f"{printable(self._folder)}: the heatmap cannot be written ({fault.strerror or fault}).",
            remedy="Choose a folder of yours with enough space.",
        )


def _print_table(report: _Report, assessor: Assessor) -> None:
    from rich.console import Console
    from rich.text import Text

    from melascope.runtime.reasons import percent

    console = Console(highlight=False)
    if report.assessments:
        table, cautions = _table(report.assessments)
        console.print(table)
        console.print()
        # One image gets all its reasons, the caution among them.
        notes = report.assessments[0].reasons if len(report.assessments) == 1 else cautions
        for note in notes:
            console.print(Text(note))
        if notes:
            console.print()
    for file in report.heatmap_files:
        console.print(Text(f"Heatmap: {printable(file)}"), soft_wrap=True)
    if report.assessments:
        used = assessor.manifest.operating_point(report.assessments[0].operating_point)
        threshold = percent(used.threshold, decimals=1)
        console.print(f"Bundle {report.bundle_id}; operating point {used.name}, threshold {threshold}.")
    console.print(Text(assessor.manifest.intended_use, style="italic"))


def _table(assessments: Sequence[Assessment]) -> tuple[Table, list[str]]:
    """A row an image, and the cautions of the rows that are marked with (!)."""
    from rich.table import Table
    from rich.text import Text

    from melascope.domain.assessment import Decision
    from melascope.runtime.reasons import other_malignancy, percent

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Image", overflow="fold", ratio=2)
    table.add_column("Melanoma", justify="right", no_wrap=True)
    table.add_column("Decision", no_wrap=True)
    table.add_column("Most probable diagnoses", ratio=3)
    cautions: list[str] = []
    file_names = [Path(assessment.image.name).name for assessment in assessments]
    unique = len(set(file_names)) == len(file_names)
    for assessment, file_name in zip(assessments, file_names, strict=True):
        name = file_name if unique else assessment.image.name
        decision = Text(assessment.decision.label, style="green")
        if assessment.decision is Decision.REFER:
            decision.style = "bold red"
        elif caution := other_malignancy(assessment.decision, assessment.probabilities):
            decision = Text(f"{decision} (!)", style="bold yellow")
            cautions.append(f"(!) {name}: {caution}")
        likeliest = sorted(assessment.probabilities.items(), key=lambda item: -item[1])[:3]
        diagnoses = ", ".join(f"{diagnosis.label} {percent(share)}" for diagnosis, share in likeliest)
        table.add_row(
            Text(name),
            percent(assessment.melanoma_probability),
            decision,
            diagnoses.replace(" %", "\N{NO-BREAK SPACE}%"),
        )
    return table, cautions


def _print_json(report: _Report, _assessor: Assessor) -> None:
    from melascope.runtime.assessment_json import to_jsonable

    click.echo(
        json.dumps(
            {
                "bundle_id": report.bundle_id,
                "assessments": [to_jsonable(assessment) for assessment in report.assessments],
                "heatmap_files": [printable(file) for file in report.heatmap_files],
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


def _print_csv(report: _Report, assessor: Assessor) -> None:
    classes = assessor.manifest.classes
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(
        (
            "image", "decision", "melanoma_probability", "melanoma_score", "operating_point", "threshold",
            *(f"probability_{diagnosis}" for diagnosis in classes), "bundle_id", "sha256", "heatmap", "reasons",
        )
    )  # fmt: skip
    files = report.heatmap_files or repeat("")
    for assessment, file in zip(report.assessments, files, strict=False):
        writer.writerow(
            (
                spreadsheet_cell(assessment.image.name),
                assessment.decision,
                assessment.melanoma_probability,
                assessment.melanoma_score,
                assessment.operating_point,
                assessment.threshold,
                *(assessment.probabilities[diagnosis] for diagnosis in classes),
                assessment.bundle_id,
                assessment.image.sha256,
                spreadsheet_cell(printable(file)),
                " ".join(assessment.reasons),
            )
        )
