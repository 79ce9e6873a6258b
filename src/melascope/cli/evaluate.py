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
@click.option(
    "--split",
    default="test",
    show_default=True,
    help="Rows to judge; several splits joined with +, 'all' for every row.",
)
@click.option(
    "--calibrate-on",
    default=None,
    help="Rows to fit calibration, thresholds and prediction sets on.  [default: val]",
)
@click.option("--bundle", default=None, help="Take all these from this bundle instead.")
@click.option(
    "--cross-fit",
    type=click.IntRange(min=2),
    metavar="K",
    help="Or fit them on the rows to judge: in K parts, each judged by what the others fit.",
)
@click.option(
    "--out",
    type=PATH,
    help="Folder to write to.  [default: evaluation/ beside the predictions, evaluation-SPLIT/ but for test]",
)
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
    cross_fit: int | None,
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

    Calibration, operating points and prediction sets are fitted on the rows of one split (val) and judged on
    those of another (test). Prints the figures with 95 % intervals, and writes metrics.json and report.html to
    the folder `evaluation` in the run's folder, or beside the predictions that are named; for another split than test
    to `evaluation-SPLIT`, for another table than predictions.csv to `evaluation-TABLE`.

    \b
    melascope evaluate runs/mine
    melascope evaluate predictions.csv --bundle default --split all
    melascope evaluate runs/mine --split val+test --cross-fit 5
    melascope evaluate runs/mine --compare runs/other
    melascope evaluate submission.csv --official ISIC2018_Task3_Test_GroundTruth.csv
    """
    from melascope.cli.judging import Plan, official_scores, run_evaluation

    if truth is not None:
        official_scores(truth, path, output)
        return
    plan = Plan(
        split=split,
        calibrate_on=calibrate_on,
        bundle=bundle,
        cross_fit=cross_fit,
        prior=prior,
        allow_leak=allow_leak,
    )
    run_evaluation(path, plan, out=out, n_bootstrap=bootstrap, seed=seed, other=other, output=output)
