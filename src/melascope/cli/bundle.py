"""`melascope bundle`: which bundles there are, what they say of themselves, and which one answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from melascope.cli.image_files import printable
from melascope.cli.options import DRAWS, PATH, check_name, image_limits

if TYPE_CHECKING:
    from melascope.bundle.manifest import Figure, Manifest
    from melascope.imaging.decode import ImageLimits

_FORMAT = click.option(
    "--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
Output = Literal["table", "json"]


@click.group()
def command() -> None:
    """List, show, verify, choose and refit bundles.

    NAME is a name, an id (name@digest) or a path. The bundle that answers is named by --bundle, else by the
    environment variable MELASCOPE_BUNDLE, else by `bundle use`, else it is the embedded default.
    """


@command.command("list")
@_FORMAT
def list_command(output: Output) -> int:
    """List the embedded bundles and yours; the one that answers has a star."""
    from melascope.bundle.catalogue import active, list_bundles, user_folder

    reference = active().reference
    rows = [
        {
            "active": entry.manifest is not None and reference in (entry.manifest.id, entry.manifest.name),
            "id": entry.manifest.id if entry.manifest else None,
            "origin": entry.origin,
            "created": entry.manifest.created.date().isoformat() if entry.manifest else None,
            "backbone": entry.manifest.architecture.backbone if entry.manifest else None,
            "licence": entry.manifest.licence if entry.manifest else None,
            "path": printable(entry.path),
            "fault": entry.fault and printable(entry.fault),
        }
        for entry in list_bundles()
    ]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return 0
    if not rows:
        click.echo(
            "There is no bundle yet. `melascope export` makes one of a training run; "
            f"`melascope bundle install PATH` copies one into {printable(user_folder())}."
        )
        return 0
    for row in rows:
        star = "*" if row["active"] else " "
        if row["fault"]:
            click.echo(f"{star} {row['path']}: cannot be read: {row['fault']}")
        else:
            click.echo(f"{star} {row['id']}  ({row['origin']}, {row['created']}, {row['backbone']})")
    return 0


@command.command("show")
@click.argument("name", required=False)
@_FORMAT
def show_command(name: str | None, output: Output) -> int:
    """Show the facts of a bundle and its model card; without NAME, of the one that answers."""
    from melascope.bundle.catalogue import load_bundle

    bundle = load_bundle(name)
    if output == "json":
        click.echo(bundle.manifest.model_dump_json(indent=2))
    else:
        _print_facts(bundle.manifest)
        click.echo("\n" + bundle.card)
    return 0


@command.command("verify")
@click.argument("name", required=False)
def verify_command(name: str | None) -> int:
    """Verify every file of a bundle and run its network; without NAME, of the one that answers.

    The network must answer, and its last layer must be the one that the heatmap is computed with.
    """
    from melascope.bundle.catalogue import load_bundle
    from melascope.runtime.assessor import Assessor
    from melascope.runtime.verify import check_head

    bundle = load_bundle(name)
    Assessor(bundle).time_network_ms()
    check_head(bundle)
    click.echo(f"{bundle.id} verifies: its files are unaltered and its network answers as the contract says.")
    return 0


@command.command("use")
@click.argument("name")
def use_command(name: str) -> int:
    """Let a bundle answer from now on."""
    from melascope.bundle.catalogue import use

    click.echo(f"{use(name).id} answers from now on.")
    return 0


@command.command("install")
@click.argument("path", type=PATH)
def install_command(path: Path) -> int:
    """Verify a bundle and copy it among yours."""
    from melascope.bundle.catalogue import install

    installed = install(path)
    click.echo(f"Installed {printable(installed)}. `melascope bundle use {installed.stem}` lets it answer.")
    return 0


@command.command("refit")
@click.argument("table", type=PATH, metavar="CASES.CSV")
@click.option("--bundle", "base", metavar="NAME", help="The bundle to refit. [default: the active one]")
@click.option("--name", help="Of the new bundle. [default: NAME-refit]")
@click.option("--out", type=PATH, help="Folder or .zip to write. [default: bundles/NAME.zip]")
@click.option(
    "--split",
    default="all",
    show_default=True,
    help="Cases to fit on; several splits joined with +, 'all' for every case.",
)
@click.option(
    "--novelty",
    is_flag=True,
    help="Fit anew also which photographs are unusual or foreign: fewer false alarms on your own, and more "
    "pictures that show no lesion get an answer.",
)
@click.option(
    "--allow-leak", metavar="REASON", help="Fit on cases that the bundle may have seen; the reason is kept."
)
@click.option(
    "--bootstrap", type=DRAWS, default=1000, show_default=True, help="Draws for the intervals; 0 for none."
)
@click.option("--threads", type=int, metavar="N", help="Threads of the network. [default: all processors]")
@image_limits
def refit_command(
    table: Path,
    base: str | None,
    name: str | None,
    out: Path | None,
    split: str,
    novelty: bool,
    allow_leak: str | None,
    bootstrap: int,
    threads: int | None,
    limits: ImageLimits,
) -> int:
    """Fit a bundle's decision anew on cases of your own.

    Calibration, thresholds and prediction sets are fitted on the photographs of CASES.CSV, whose diagnoses are known;
    the network stays as it is, and no image leaves this machine. Tells how the bundle did on your cases before, and
    how it does now, each lesion judged by what the others fit. Images that cannot be read are told and left out, and
    the exit status is 3.

    \b
    melascope data import folders IMAGES --out own.csv
    melascope bundle refit own.csv --name own
    melascope bundle install bundles/own.zip
    melascope bundle use own
    """
    from melascope.cli.refitting import Plan, run_refit

    check_name(name)
    plan = Plan(
        base=base,
        split=split,
        name=name,
        out=out,
        novelty=novelty,
        allow_leak=allow_leak,
        n_bootstrap=bootstrap,
        threads=threads,
    )
    return run_refit(table, plan, limits)


def _print_facts(manifest: Manifest) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from melascope.runtime.reasons import percent

    spec, calibration, training = manifest.preprocess, manifest.calibration, manifest.training
    sources = ", ".join(f"{source} {n_images:,}" for source, n_images in training.sources.items())
    facts = {
        "Bundle": manifest.id,
        "Created": manifest.created.isoformat(timespec="seconds"),
        "Intended use": manifest.intended_use,
        "Licence": manifest.licence,
        "Network": f"{manifest.architecture.backbone}, {manifest.architecture.parameters:,} parameters",
        "Input": f"{spec.size_px} x {spec.size_px} px, {spec.resize}, {spec.colour}",
        "Classes": ", ".join(f"{diagnosis.label} ({diagnosis})" for diagnosis in manifest.classes),
        "Trained on": f"{training.n_images:,} images: {sources}",
        "Calibration": f"{calibration.method}, {calibration.n_cases:,} images",
    }
    if refit := manifest.refit:
        own = ", ".join(f"{source} {n_images:,}" for source, n_images in refit.sources.items())
        facts["Decision"] = f"fitted anew on {refit.n_images:,} images: {own}; before it was {refit.base}"
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(value))
    points = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("Operating point", "Threshold", "Sensitivity", "Specificity"):
        points.add_column(column, justify="left" if column == "Operating point" else "right")
    for point in manifest.operating_points:
        default = " (default)" if point.name == manifest.default_operating_point else ""
        points.add_row(
            Text(point.name + default),
            percent(point.threshold, decimals=1),
            percent(point.sensitivity, decimals=1),
            percent(point.specificity, decimals=1),
        )
    console = Console(highlight=False)
    console.print(table)
    console.print()
    console.print(points)
    for measurement in manifest.measurements:
        console.print()
        size = f"{measurement.n_images:,} images, {measurement.n_melanoma:,} of melanoma"
        console.print(Text(f"{measurement.name}: {size}", style="bold"))
        for name, figure in measurement.figures.items():
            console.print(Text(f"  {name}: {_figure(figure)}"))


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "undefined"
    interval = (
        "" if figure.low is None or figure.high is None else f" ({figure.low:.3f} to {figure.high:.3f})"
    )
    return f"{figure.value:.3f}{interval}"
