"""`melascope train`: a recipe and a split case table become a run."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import click

from melascope.cli.options import PATH
from melascope.errors import UsageError


@click.command()
@click.argument("recipe_path", metavar="RECIPE", type=PATH, required=False)
@click.option("--cases", "table", type=PATH, help="A case table with splits (see `data split`).")
@click.option("--out", type=PATH, help="The run's folder. [default: runs/NAME of the recipe]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe (repeatable)."
)
@click.option("--fold", help="Validate on this fold and train on the other numbered folds.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--cache", type=PATH, default="cache", show_default=True, help="Where decoded pixels are kept.")
@click.option(
    "--allow-leak", metavar="REASON", help="Train on a leaking split; the reason is kept in the bundle."
)
@click.option(
    "--accelerator", default="auto", show_default=True, help="cpu, gpu, ... as Lightning knows them."
)
@click.option("--devices", default="auto", show_default=True, help="How many, or which.")
@click.option("--nodes", default=1, show_default=True)
@click.option("--strategy", default="auto", show_default=True, help="ddp, fsdp, ... as Lightning knows them.")
@click.option("--workers", default=0, show_default=True, help="Processes that load batches.")
@click.option("--mlflow", metavar="ADDRESS", help="Log to this MLflow server or folder too.")
@click.option("--help-recipe", is_flag=True, help="List every key of a recipe.")
def command(
    recipe_path: Path | None,
    table: Path | None,
    out: Path | None,
    overrides: tuple[str, ...],
    fold: str | None,
    resume: bool,
    cache: Path,
    allow_leak: str | None,
    accelerator: str,
    devices: str,
    nodes: int,
    strategy: str,
    workers: int,
    mlflow: str | None,
    help_recipe: bool,
) -> None:
    """Train a network by RECIPE; writes the checkpoint, predictions.csv, recipe.toml and run.json."""
    from melascope.learning.recipe import describe_keys, load_recipe

    if help_recipe:
        for key, default, sentence in describe_keys():
            click.echo(f"{key} = {default}\n    {' '.join(sentence.split())}")
        return
    if recipe_path is None or table is None:
        raise UsageError(
            "`melascope train` needs RECIPE and --cases.", remedy="See `melascope train --help`."
        )
    recipe = load_recipe(recipe_path, overrides)

    from melascope.cli.progress import counter
    from melascope.datasets.leaks import check_split, refuse_leaks
    from melascope.datasets.table import read_cases
    from melascope.learning.epoch_lines import EpochLines
    from melascope.learning.fit import RunOptions, fit

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its tips are advertisements
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # between Lightning and torch
    cases = read_cases(table)
    if not allow_leak:
        refuse_leaks(check_split(cases))
    folder = out or Path("runs") / recipe.name
    with counter("Caching pixels") as progress:
        options = RunOptions(
            folder=folder,
            cache_folder=cache,
            fold=fold,
            resume=resume,
            accelerator=accelerator,
            devices=devices,
            nodes=nodes,
            strategy=strategy,
            workers=workers,
            mlflow=mlflow,
            audit_override=allow_leak,
            progress=progress,
            callbacks=(EpochLines(),),
        )
        try:
            fit(recipe, cases, options)
        except KeyboardInterrupt:
            click.echo("The last whole epoch is kept: go on with the same command and --resume.", err=True)
            raise
    following = (
        f"melascope evaluate {folder}" if fold is None else "the other folds, then melascope data join-folds"
    )
    click.echo(f"The run is in {folder}. Next: {following}")
