"""What `melascope evaluate` does once its options are read: fit, judge, write, print."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from melascope.bundle.catalogue import load_bundle
from melascope.cli.image_files import printable
from melascope.cli.useless_points import warn_of_useless_points
from melascope.datasets.leaks import check_split
from melascope.datasets.table import read_cases
from melascope.decision.prevalence import Prior
from melascope.errors import LeakError, TableError, UsageError
from melascope.evaluation.evaluate import Evaluation, Fitted, Subject, evaluate
from melascope.evaluation.holdout import ALL, check_no_leak, check_unseen, fit_decision, rows_of_split
from melascope.evaluation.isic_scores import PER_CATEGORY, isic_scores
from melascope.evaluation.measure import CLASS_FIGURES, MELANOMA_FIGURES, judge
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.predictions import Predictions, read_predictions
from melascope.evaluation.report import FIGURE_NAMES, format_figure, write_report

#: Column heading -> figure of an operating point.
_POINT_COLUMNS = {
    "sensitivity (lesions)": "lesion_sensitivity",
    "specificity (lesions)": "lesion_specificity",
}
_MAIN_POINT = "sensitivity-95"
#: Files of a finished run.
_PREDICTIONS, _CASES, _FACTS = "predictions.csv", "cases.csv", "run.json"


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

    def candidate(named: Path) -> _Candidate:
        return _candidate(named, split=split, calibrate_on=calibrate_on, bundle=bundle, allow_leak=allow_leak)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # the tables say "undefined" where it is so
        mine = candidate(path)
        theirs = None if other is None else candidate(other)
        overrides = [*mine.overrides, *(theirs.overrides if theirs else ())]
        evaluation = evaluate(
            mine.rows,
            mine.fitted,
            Subject(
                name=mine.name,
                sha256=hashlib.sha256(mine.table_path.read_bytes()).hexdigest(),
                split=split,
                leak_override="; ".join(dict.fromkeys(overrides)) or None,
            ),
            prior=prior,
            n_bootstrap=n_bootstrap,
            seed=seed,
            other=(theirs.name, judge(theirs.rows, theirs.fitted.calibration, prior=prior))
            if theirs
            else None,
        )
    warn_of_useless_points(mine.fitted.operating_points)
    paths = write_report(evaluation, out or mine.table_path.parent / "evaluation")
    if output == "json":
        click.echo(json.dumps(evaluation.to_dict(), allow_nan=False))
        return
    _print(evaluation)
    for written in paths:
        click.echo(f"wrote {written}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """A model's rows to judge, and what decides on them."""

    table_path: Path
    rows: Predictions
    fitted: Fitted
    overrides: tuple[str, ...]  #: why it was trained or is judged although figures of it may flatter it

    @property
    def name(self) -> str:
        """The run's folder says more than "predictions.csv"."""
        return f"{self.table_path.resolve().parent.name}/{self.table_path.name}"


def _candidate(
    path: Path, *, split: str, calibrate_on: str | None, bundle: str | None, allow_leak: str | None
) -> _Candidate:
    """Read a run folder or a predictions table.

    Raises
    ------
    UsageError
        A folder that is no finished run; rows to judge that calibration is fitted on.
    LeakError
        What is judged may have been learnt from or fitted on, and no reason is given.
    """
    table_path = path / _PREDICTIONS if path.is_dir() else path
    run = _run_of(path)
    predictions = read_predictions(table_path)
    rows = rows_of_split(predictions, split)
    checks = [partial(check_no_leak, predictions)]
    if run is not None:
        checks.append(partial(_check_trained_split, run))
    if bundle is not None:
        checks.append(partial(check_unseen, rows))
    excused = _excused(checks, allow_leak)
    trained = None if run is None else _audit_override(run)
    return _Candidate(
        table_path=table_path,
        rows=rows,
        fitted=_fitted(predictions, split, calibrate_on, bundle),
        overrides=tuple(reason for reason in (trained, excused) if reason),
    )


def _run_of(path: Path) -> Path | None:
    """The finished run that a folder, or the predictions in it, is of; None for any other table."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not (path.name == _PREDICTIONS and (folder / _FACTS).is_file()):
        return None
    for name in (_PREDICTIONS, _CASES, _FACTS):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder}: {name} is missing; this is no finished run.",
                remedy="Finish it with `melascope train ... --resume`, or name a predictions table itself.",
            )
    return folder


def _check_trained_split(run: Path) -> None:
    """The whole split of a run: its predictions hold no training rows, and cannot show what they leak."""
    leaks = check_split(read_cases(run / _CASES))
    if leaks:
        raise LeakError(
            f"{run / _CASES}: the split that the model was trained on leaks in {len(leaks)} "
            f"place{'s' if len(leaks) > 1 else ''}, the first: {leaks[0]}.",
            remedy="Split with `melascope data split` and train anew, or give a reason with --allow-leak.",
        )


def _audit_override(run: Path) -> str | None:
    """The reason that was given for training on a split that leaks.

    Raises
    ------
    TableError
        `run.json` is not what training writes.
    """
    try:
        reason = json.loads((run / _FACTS).read_text(encoding="utf-8"))["training"]["audit_override"]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise TableError(
            f"{run / _FACTS}: does not say how the model was trained ({fault!r}).",
            remedy="Name the folder of a run as `melascope train` left it.",
        ) from fault
    return None if reason is None else f"trained on a split that leaks: {reason}"


def _excused(checks: Iterable[Callable[[], None]], allow_leak: str | None) -> str | None:
    """The reason given, if a check needs one."""
    try:
        for check in checks:
            check()
    except LeakError:
        if allow_leak is None:
            raise
        return allow_leak
    return None


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
            origin=f"as in the bundle {manifest.id}",
            other_lesions=False,
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
        other_lesions=True,
    )


def _print(evaluation: Evaluation) -> None:
    measured, console = evaluation.measured, Console(highlight=False)
    console.print(
        f"{measured.n_images} images of {measured.n_lesions} lesions, {measured.n_melanoma_lesions} of them "
        f"melanomas ({printable(', '.join(f'{source} {n}' for source, n in measured.sources.items()))}); "
        f"calibration and thresholds {evaluation.fitted.origin}"
    )
    if evaluation.subject.leak_override is not None:
        console.print(
            Text(f"The figures may flatter the model; judged because: {evaluation.subject.leak_override}"),
            style="bold red",
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
