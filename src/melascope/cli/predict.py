"""`melascope predict`: a folder or a case table in, one CSV file out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from melascope import __version__
from melascope.cli.image_files import find_images, load_case, printable, tell_left_out
from melascope.cli.options import PATH, NamedPath, image_limits
from melascope.cli.resumable_table import ResumableTable
from melascope.domain.case import Case
from melascope.errors import UsageError

if TYPE_CHECKING:
    from melascope.decision.prevalence import Prior
    from melascope.imaging.decode import ImageLimits
    from melascope.runtime.assessor import Assessor

FORMATS = ("predictions", "csv", "isic2018", "isic2019", "isic2020", "isic2024")
PRIORS = ("training", "uniform")
_SHOWN = 20


@click.command()
@click.argument("source", type=PATH, metavar="FOLDER|CASES.CSV")
@click.option("--out", "out_path", type=NamedPath(dir_okay=False), required=True, metavar="FILE")
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="predictions", show_default=True)
@click.option(
    "--prior",
    type=click.Choice(PRIORS),
    default="training",
    show_default=True,
    help="Class frequencies that probabilities assume; `uniform` suits balanced accuracy.",
)
@click.option(
    "--bundle",
    "bundle_name",
    metavar="NAME",
    help="Bundle: a name, an id or a path. [default: the active one]",
)
@click.option("--batch-size", type=click.IntRange(1, 1024), default=16, show_default=True)
@click.option("--threads", type=int, metavar="N", help="Threads of the network. [default: all processors]")
@click.option(
    "--resume/--restart", default=True, help="Take up interrupted work, or begin anew. [default: resume]"
)
@image_limits
def command(
    source: Path,
    out_path: Path,
    format_name: str,
    prior: Prior,
    bundle_name: str | None,
    batch_size: int,
    threads: int | None,
    resume: bool,
    limits: ImageLimits,
) -> int:
    """Score a folder of images, or the images of a case table, into one CSV file.

    The image id of a file in a folder is its name without the suffix. Rows are in the order of the ids,
    or of the table. Images that cannot be read are listed in FILE.errors.csv, the rest is scored, and the
    exit status is 3. Work that was interrupted is taken up where it stopped.

    Formats: `predictions` (raw logits, for `melascope evaluate`), `csv` (calibrated probabilities and the
    decision at the default operating point), and the official submission files of the ISIC challenges.
    """
    from melascope.bundle.catalogue import load_bundle
    from melascope.cli.prediction_formats import row_format
    from melascope.datasets.files import split_reference
    from melascope.runtime.assessor import Assessor

    if format_name == "predictions" and prior != "training":
        raise UsageError(
            f"--prior {prior} has no meaning with --format predictions.",
            remedy="Raw logits assume no class frequencies; choose a format with probabilities.",
        )
    cases = _cases_of(source)
    assessor = Assessor(load_bundle(bundle_name), threads=threads, batch_size=batch_size)
    _refuse_to_overwrite(out_path, [source, *(Path(case.path) for case in cases), Path(bundle_name or "")])
    table_format = row_format(format_name, assessor, prior=prior)
    identity = {
        "version of melascope": __version__,
        "bundle": assessor.bundle.id,
        "format": format_name,
        "prior": prior,
        "batch size": str(batch_size),
        "limit of images": f"{limits.max_bytes} bytes, {limits.max_pixels} pixels",
        "set of images": hashlib.sha256(repr(cases).encode("utf-8", "backslashreplace")).hexdigest(),
    }
    with ResumableTable(
        out_path,
        columns=table_format.header,
        identity=identity,
        inputs=[split_reference(case.path)[0] for case in cases],
        restart=not resume,
    ) as table:
        if table.done:
            click.echo(
                f"melascope: {table.done} of {len(cases)} images were done before; taking it up there",
                err=True,
            )
        _score(assessor, cases, table, table_format.row, limits)
        errors_path = table.finish()
    click.echo(
        f"melascope: {table.n_rows} images scored by {assessor.bundle.id} into {printable(out_path)}",
        err=True,
    )
    if errors_path is None:
        return 0
    click.echo(
        f"melascope: {table.n_refused} images could not be read, see {printable(errors_path)}", err=True
    )
    for line in errors_path.read_text(encoding="utf-8").splitlines()[1 : _SHOWN + 1]:
        click.echo(f"  {printable(line)}", err=True)
    return 3


def _refuse_to_overwrite(out_path: Path, inputs: Sequence[Path]) -> None:
    out = os.path.realpath(out_path)
    for path in inputs:
        if os.path.realpath(path) == out:
            raise UsageError(
                f"--out {printable(out_path)} is an input of this command.",
                remedy="Choose another file for --out.",
            )


def _cases_of(source: Path) -> list[Case]:
    """The cases of a table; or one for each image of a folder, sorted by id.

    Raises
    ------
    UsageError
        Neither a folder nor a table; a folder without images, or with two images of one id.
    TableError
        A case table that does not keep its contract.
    """
    if source.is_file() and source.suffix.lower() == ".csv":
        from melascope.datasets.table import read_cases

        return read_cases(source)
    if not source.is_dir():
        raise UsageError(
            f"{printable(source)} is neither a folder nor a CSV file.",
            remedy="Name a folder of images or a case table; `melascope assess` takes single images.",
        )
    found = find_images([source])
    tell_left_out(found)
    by_id: dict[str, Path] = {}
    for path in found.images:
        image_id = printable(path.stem)  # as in a case table, which is refused where an id is not
        if image_id in by_id:
            raise UsageError(
                f"Two images have the id {image_id!r}: {printable(by_id[image_id])} and {printable(path)}.",
                remedy="An id is a file's name without its suffix: rename one, or list them in a case table.",
            )
        by_id[image_id] = path
    return [Case(image_id=image_id, path=os.path.abspath(path)) for image_id, path in sorted(by_id.items())]


def _score(
    assessor: Assessor,
    cases: Sequence[Case],
    table: ResumableTable,
    row: Callable[..., Sequence[object]],
    limits: ImageLimits,
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from melascope.runtime.scoring import score

    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring", total=len(cases), completed=table.done)
        for batch in score(assessor, [partial(load_case, case, limits) for case in cases], start=table.done):
            table.append(
                [
                    row(cases[n], image, seen)
                    for n, image, seen in zip(batch.scored, batch.prepared, batch.seen, strict=True)
                ],
                [
                    (cases[n].image_id, printable(cases[n].path), fault.code, printable(fault))
                    for n, fault in batch.refused
                ],
                done=batch.stop,
            )
            progress.update(task, completed=batch.stop)
