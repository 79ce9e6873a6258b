"""`melascope evaluate`: judge a model from its predictions alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from melascope.cli.options import DRAWS, PATH

if TYPE_CHECKING:
    from melascope.decision.prevalence import Prior


@click.command("evaluate")
@click.argument("path", type=PATH)
@click.option("--split", default="test", show_default=True, help="Rows to judge; 'all' for every row.")
@click.option(
    "--calibrate-on", default=None, help="Rows to fit calibration and thresholds on.  [default: val]"
)
@click.option("--bundle", default=None, help="Take calibration and thresholds from this bundle instead.")
@click.option("--out", type=PATH, help="Folder to write to.  [default: evaluation/ beside the predictions]")
@click.option(
    "--prior",
    type=click.Choice(["training", "uniform"]),
    default="training",
    show_default=True,
    help="Class frequencies that the figures over all diagnoses assume; uniform suits balanced accuracy.",
)
@click.option(
    "--bootstrap", type=DRAWS, default=1000, show_default=True, help="Draws for the intervals; 0 for none."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option("--compare", "other", type=PATH, help="Another model's run or predictions.")
@click.option(
    "--allow-leak",
    metavar="REASON",
    help="Judge although the model may have seen these lesions; the reason is kept.",
)
@click.option(
    "--official",
    "truth",
    type=PATH,
    metavar="TRUTH.csv",
    help="PATH is a challenge submission: print its official ISIC scores against this truth, nothing else.",
)
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(
    path: Path,
    split: str,
    calibrate_on: str | None,
    bundle: str | None,
    out: Path | None,
    prior: Prior,
    bootstrap: int,
    seed: int,
    other: Path | None,
    allow_leak: str | None,
    truth: Path | None,
    output: str,
) -> None:
    """Judge the model whose run folder or predictions.csv is PATH.

    Calibration and operating points are fitted on the rows of one split (val) and judged on those of another
    (test). Prints the figures with 95 % intervals, and writes metrics.json and report.html to the folder
    `evaluation` in the run's folder, or beside the predictions.csv that is named.

    \b
    melascope evaluate runs/mine
    melascope evaluate predictions.csv --bundle default --split all
    melascope evaluate runs/mine --compare runs/other
    melascope evaluate submission.csv --official ISIC2018_Task3_Test_GroundTruth.csv
    """
    from melascope.cli.judging import official_scores, run_evaluation

    if truth is not None:
        official_scores(truth, path, output)
        return
    run_evaluation(
        path,
        split=split,
        calibrate_on=calibrate_on,
        bundle=bundle,
        out=out,
        prior=prior,
        n_bootstrap=bootstrap,
        seed=seed,
        other=other,
        allow_leak=allow_leak,
        output=output,
    )
