"""`melascope export`: a training run becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from melascope.bundle.manifest import Precision
from melascope.cli.options import DRAWS, PATH, check_name
from melascope.errors import UsageError


@click.command()
@click.argument("runs", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, help="Folder or .zip to write. [default: bundles/NAME.zip]")
@click.option(
    "--name", help="Of the bundle. [default: the recipe's, with -ensemble for several runs and the precision]"
)
@click.option(
    "--calibrate-on",
    default="val",
    show_default=True,
    help="Split that the decision is fitted on; several joined with +.",
)
@click.option(
    "--bootstrap", type=DRAWS, default=1000, show_default=True, help="Draws for the intervals; 0 for none."
)
@click.option(
    "--parity-images",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Photographs that the proof compares.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="float32",
    show_default=True,
    help="float16: weights of half the size. int8: eight-bit integers, a third of the size, faster on a CPU. "
    "Refused where they cost accuracy.",
)
@click.option(
    "--foreign",
    type=PATH,
    metavar="FOLDER",
    help="Pictures that show no lesion, for the novelty model to know more than those that are drawn for it.",
)
@click.option(
    "--without-novelty",
    is_flag=True,
    help="Fit no novelty model; the bundle will take every image for familiar.",
)
def command(
    runs: tuple[Path, ...],
    out: Path | None,
    name: str | None,
    calibrate_on: str,
    bootstrap: int,
    parity_images: int,
    precision: Precision,
    foreign: Path | None,
    without_novelty: bool,
) -> None:
    """Export the training RUN, or several as an ensemble: graph, parity check, calibration, operating points,
    prediction sets, novelty, figures, model card."""
    from melascope.cli.progress import counter
    from melascope.cli.useless_points import warn_of_useless_points
    from melascope.learning.export import bundle_name, export_run
    from melascope.learning.familiarity import Exposure
    from melascope.learning.recipe import load_recipe
    from melascope.learning.run import check_finished

    check_name(name)
    if out is None and name is None:
        check_finished(runs[0])
        recipe = load_recipe(runs[0] / "recipe.toml").name
        name = bundle_name(recipe, ensemble=len(runs) > 1, precision=precision)
    destination = out or Path("bundles") / f"{name}.zip"
    if foreign and without_novelty:
        raise UsageError("--foreign has no meaning with --without-novelty.", remedy="Leave one of them out.")
    with counter("novelty") as progress:
        bundle, parity = export_run(
            runs,
            destination,
            name=name,
            calibrate_on=calibrate_on,
            n_bootstrap=bootstrap,
            parity_images=parity_images,
            precision=precision,
            exposure=None if without_novelty else Exposure(),
            foreign=foreign,
            progress=progress,
        )
    warn_of_useless_points(bundle.manifest.operating_points)
    click.echo(
        f"{bundle.id} is in {destination}. Largest difference of a logit over {parity.n_images} photographs: "
        f"{parity.graph_against_torch:.1e} (graph and torch), {parity.graph_against_predictions:.1e} "
        "(file and predictions.csv)."
    )
    click.echo(f"Next: melascope assess IMAGE --bundle {destination}")
