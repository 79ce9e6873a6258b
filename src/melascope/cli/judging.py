"""What `melascope evaluate` does once its options are read: fit, judge, write, print."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from melascope.bundle.catalogue import load_bundle
from melascope.decision.prevalence import Prior
from melascope.errors import LeakError, UsageError
from melascope.evaluation.evaluate import Evaluation, Fitted, Subject, evaluate
from melascope.evaluation.holdout import ALL, check_no_leak, fit_decision, rows_of_split
from melascope.evaluation.isic_scores import PER_CATEGORY, isic_scores
from melascope.evaluation.measure import CLASS_FIGURES, MELANOMA_FIGURES, Judged, judge
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.predictions import Predictions, read_predictions
from melascope.evaluation.report import FIGURE_NAMES, format_figure, write_report

#: Column heading -> figure of an operating point.
_POINT_COLUMNS = {
    "sensitivity (lesions)": "lesion_sensitivity",
    "specificity (lesions)": "lesion_specificity",
}
_MAIN_POINT = "sensitivity-95"


def run_evaluation(
    path: Path,
    *,
    split: str,
    calibrate_on: str | None,
    bundle: str | None,
    out: Path | None,
    prior: Prior,
    n_bootstrap: int,
    seed: int,
    other: Path | None,
    allow_leak: str | None,
    output: str,
) -> None:
    """Judge a run folder or predictions table; the parameters are the command's options."""
    table_path = _table(path)
    predictions, leak_override = _read(table_path, allow_leak)
    fitted = _fitted(predictions, split, calibrate_on, bundle)
    subject = Subject(
        name=_name(table_path),
        sha256=hashlib.sha256(table_path.read_bytes()).hexdigest(),
        split=split,
        leak_override=leak_override,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # the tables say "undefined" where it is so
        evaluation = evaluate(
            rows_of_split(predictions, split),
            fitted,
            subject,
            prior=prior,
            n_bootstrap=n_bootstrap,
            seed=seed,
            other=None
            if other is None
            else _other(_table(other), allow_leak, split, calibrate_on, bundle, prior),
        )
    paths = write_report(evaluation, out or table_path.parent / "evaluation")
    if output == "json":
        click.echo(json.dumps(evaluation.to_dict(), allow_nan=False))
        return
    _print(evaluation)
    for written in paths:
        click.echo(f"wrote {written}")


def _table(path: Path) -> Path:
    return path / "predictions.csv" if path.is_dir() else path


def _name(table_path: Path) -> str:
    """The run's folder says more than "predictions.csv"."""
    return f"{table_path.resolve().parent.name}/{table_path.name}"


def _read(table_path: Path, allow_leak: str | None) -> tuple[Predictions, str | None]:
    """The table, and the reason for judging it if it leaks."""
    predictions = read_predictions(table_path)
    try:
        check_no_leak(predictions)
    except LeakError:
        if allow_leak is None:
            raise
        return predictions, allow_leak
    return predictions, None


def _fitted(predictions: Predictions, split: str, calibrate_on: str | None, bundle: str | None) -> Fitted:
    if bundle is not None:
        if calibrate_on is not None:
            raise UsageError("Both --bundle and --calibrate-on were given.", remedy="Give one of them.")
        manifest = load_bundle(bundle).manifest
        if manifest.classes != predictions.classes:
            raise UsageError(
                f"The predictions have the classes {', '.join(predictions.classes)}; "
                f"the bundle {manifest.id} has {', '.join(manifest.classes)}.",
                remedy="Judge predictions with the bundle that made them.",
            )
        return Fitted(
            calibration=manifest.calibration,
            operating_points=manifest.operating_points,
            main_point=manifest.default_operating_point,
            origin=f"those of the bundle {manifest.id}",
        )
    fitting = calibrate_on or "val"
    if split == fitting or ALL in (split, fitting):
        raise UsageError(
            f"The rows to judge (split {split}) hold rows that calibration is fitted on (split {fitting}).",
            remedy="Judge another split, or take the calibration from a bundle with --bundle.",
        )
    calibration, points = fit_decision(rows_of_split(predictions, fitting))
    return Fitted(
        calibration=calibration,
        operating_points=points,
        main_point=_MAIN_POINT,
        origin=f"fitted on the split “{fitting}” of the same file",
    )


def _other(
    table_path: Path,
    allow_leak: str | None,
    split: str,
    calibrate_on: str | None,
    bundle: str | None,
    prior: Prior,
) -> tuple[str, Judged]:
    """The second model's rows, calibrated in the same way on its own."""
    predictions, _ = _read(table_path, allow_leak)
    fitted = _fitted(predictions, split, calibrate_on, bundle)
    return _name(table_path), judge(rows_of_split(predictions, split), fitted.calibration, prior=prior)


def _print(evaluation: Evaluation) -> None:
    measured, console = evaluation.measured, Console(highlight=False)
    console.print(
        f"{measured.n_images} images of {measured.n_lesions} lesions, {measured.n_melanoma_lesions} of them "
        f"melanomas ({', '.join(f'{source} {n}' for source, n in measured.sources.items())}); "
        f"calibration and thresholds {evaluation.fitted.origin}"
    )
    table = Table(Column("figure", no_wrap=True), "value (95 % interval)", box=None, pad_edge=False)
    for name in MELANOMA_FIGURES + CLASS_FIGURES:
        of = "melanoma: " if name in MELANOMA_FIGURES else "all classes: "
        table.add_row(of + FIGURE_NAMES[name], format_figure(measured.figures[name], name))
    console.print(table)
    at_points = Table(
        Column("operating point", no_wrap=True), "refer from", *_POINT_COLUMNS, box=None, pad_edge=False
    )
    for point in evaluation.fitted.operating_points:
        figures = measured.operating_points[point.name]
        cells = (format_figure(figures[name], name) for name in _POINT_COLUMNS.values())
        at_points.add_row(point.name, f"{point.threshold:.4f}", *cells)
    console.print(at_points)
    if evaluation.comparison is not None:
        against = Table("difference", f"this - {evaluation.compared_with}", box=None, pad_edge=False)
        for name, figure in evaluation.comparison.difference.items():
            against.add_row(name, format_figure(figure, name))
        console.print(against)


def official_scores(truth_path: Path, submission_path: Path, output: str) -> None:
    """Print the official ISIC scores of a submission."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # printed as nan
        scores = isic_scores(truth_path, submission_path)
    if output == "json":
        click.echo(json.dumps(_without_nan(asdict(scores)), allow_nan=False))
        return
    console = Console(highlight=False)
    console.print(f"balanced accuracy {scores.balanced_accuracy!r}")
    short = {"accuracy": "acc", "sensitivity": "sens", "specificity": "spec", "auc_sens_80": "auc80"}
    table = Table("category", *(short.get(name, name) for name in PER_CATEGORY), box=None, pad_edge=False)
    for category, values in (*scores.per_category.items(), ("mean", scores.macro_average)):
        table.add_row(category, *(f"{values[name]:.4f}" for name in PER_CATEGORY))
    console.print(table)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
