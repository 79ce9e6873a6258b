"""`melascope assess`: images in, a probability of melanoma and a decision out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from melascope.cli.image_files import find_images, printable, tell_left_out
from melascope.cli.options import PATH, image_limits
from melascope.errors import MelascopeError, UsageError

if TYPE_CHECKING:
    from melascope.cli.assess_output import Report
    from melascope.domain.assessment import Heatmap
    from melascope.domain.image import RgbImage
    from melascope.imaging.decode import ImageLimits

_AT_ONCE = 4  # full-size photographs in memory


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
    help="Share of melanomas among your lesions; moves probabilities, never takes a referral away, may take "
    "a reassurance away.",
)
@click.option(
    "--lesion", "one_lesion", is_flag=True, help="All images show the same lesion: one answer for it."
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
    one_lesion: bool,
    threads: int | None,
    limits: ImageLimits,
) -> int:
    """Assess images: the probability of melanoma and a decision for each, or with --lesion one for all.

    PATH is an image or a folder. In a folder, files named as images are taken, in depth; files left out
    are told. An image that cannot be read is reported with its reason, the others are assessed, and the
    exit status is 3.
    """
    from melascope.bundle.catalogue import load_bundle
    from melascope.cli.assess_output import Report, print_csv, print_json, print_table
    from melascope.runtime.assessor import Assessor
    from melascope.runtime.lesion import combine

    found = find_images(paths)
    tell_left_out(found)
    assessor = Assessor(load_bundle(bundle_name), threads=threads)
    report = Report(bundle_id=assessor.bundle.id, prevalence_is_stated=prevalence is not None)
    saver = HeatmapFolder(heatmap_folder) if heatmap_folder else None
    for images in _read(found.images, report, limits):
        assessments = assessor.assess(
            images, operating_point=operating_point, melanoma_prevalence=prevalence, heatmap=saver is not None
        )
        report.assessments += assessments
        if saver is not None:
            for image, assessment in zip(images, assessments, strict=True):
                report.heatmap_files.append(saver.save(image, assessment.images[0].heatmap))
    if one_lesion and report.assessments:
        report.assessments = [combine(report.assessments)]
    {"table": print_table, "json": print_json, "csv": print_csv}[output](report, assessor)
    for _, fault in report.problems:
        click.echo(f"melascope: {printable(fault)} [{fault.code}]", err=True)
    return 3 if report.problems else 0


def _read(paths: tuple[Path, ...], report: Report, limits: ImageLimits) -> Iterator[list[RgbImage]]:
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

    def save(self, image: RgbImage, heatmap: Heatmap | None) -> Path | None:
        """Draw and write the heatmap of one image; nothing where there is none."""
        if heatmap is None:
            return None
        from PIL import Image

        from melascope.runtime.explain import render_heatmap

        path = self._folder / self._free_name(Path(image.name).stem[:100])
        try:
            Image.fromarray(render_heatmap(image, heatmap)).save(path, format="PNG")
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
