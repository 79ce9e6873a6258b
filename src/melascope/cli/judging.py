"""What `melascope evaluate` does once its options are read: fit, judge, write, print."""

from __future__ import annotations

import hashlib
import json
import math
import re
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
from melascope.bundle.manifest import Manifest
from melascope.cli.image_files import printable
from melascope.cli.options import check_reason
from melascope.cli.useless_points import warn_of_useless_points
from melascope.datasets.leaks import check_split
from melascope.datasets.table import read_cases
from melascope.decision.prevalence import Prior
from melascope.domain.case import UNNAMED
from melascope.errors import LeakError, TableError, UsageError
from melascope.evaluation.evaluate import Evaluation, Fitted, Subject, evaluate
from melascope.evaluation.holdout import (
    ALL,
    check_no_leak,
    check_unseen,
    fit_decision_on,
    rows_of_split,
    splits_named,
)
from melascope.evaluation.isic_scores import PER_CATEGORY, isic_scores
from melascope.evaluation.judged import Judged, cross_judge, judge
from melascope.evaluation.measure import CLASS_FIGURES, MELANOMA_FIGURES
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.predictions import Predictions, read_predictions
from melascope.evaluation.report import FIGURE_NAMES, format_figure, promise, write_report
from melascope.evaluation.triaged import DECISIONS

#: Column heading -> figure of an operating point.
_POINT_COLUMNS = {
    "sensitivity (lesions)": "lesion_sensitivity",
    "specificity (lesions)": "lesion_specificity",
}
_MAIN_POINT = "sensitivity-95"
#: Files of a finished run.
_PREDICTIONS, _CASES, _FACTS = "predictions.csv", "cases.csv", "run.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Which rows are judged, and by what; the fields are the command's options."""

    split: str
    calibrate_on: str | None
    bundle: str | None
    cross_fit: int | None
    prior: Prior
    allow_leak: str | None


def run_evaluation(
    path: Path,
    plan: Plan,
    *,
    out: Path | None,
    n_bootstrap: int,
    seed: int,
    other: Path | None,
    output: str,
) -> None:
    """Judge a run folder or predictions table; the parameters are the command's options."""
    check_reason(plan.allow_leak)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # the tables say "undefined" where it is so
        mine = _candidate(path, plan)
        theirs = None if other is None else _candidate(other, plan)
        overrides = [*mine.overrides, *(theirs.overrides if theirs else ())]
        evaluation = evaluate(
            mine.judged,
            mine.fitted,
            Subject(
                name=mine.name,
                sha256=hashlib.sha256(mine.table_path.read_bytes()).hexdigest(),
                split=plan.split,
                leak_override="; ".join(dict.fromkeys(overrides)) or None,
            ),
            n_bootstrap=n_bootstrap,
            seed=seed,
            other=(theirs.name, theirs.judged) if theirs else None,
        )
    warn_of_useless_points(mine.fitted.operating_points)
    paths = write_report(evaluation, out or _folder_beside(mine.table_path, plan.split))
    if output == "json":
        click.echo(json.dumps(evaluation.to_dict(), allow_nan=False))
        return
    _print(evaluation)
    for written in paths:
        click.echo(f"wrote {written}")


def _folder_beside(table_path: Path, split: str) -> Path:
    """One for each table and split, so that no judgement takes another's place."""
    table = [] if table_path.name == _PREDICTIONS else [table_path.stem]
    judged = [] if split == "test" else [split]
    return table_path.parent / re.sub(r"[^\w.+-]", "_", "-".join(["evaluation", *table, *judged]))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """A model's judged rows, and what decided on them."""

    table_path: Path
    judged: Judged
    fitted: Fitted
    overrides: tuple[str, ...]  #: why it was trained or is judged although figures of it may flatter it

    @property
    def name(self) -> str:
        """The run's folder says more than "predictions.csv"."""
        return f"{self.table_path.resolve().parent.name}/{self.table_path.name}"


def _candidate(path: Path, plan: Plan) -> _Candidate:
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
    rows = rows_of_split(predictions, plan.split)
    checks = [partial(check_no_leak, predictions)]
    if run is not None:
        checks.append(partial(_check_trained_split, run))
    if plan.bundle is not None:
        manifest = load_bundle(plan.bundle).manifest
        if run is not None:
            _check_made_of(manifest, run)
        # Of bundles that do not say it, "test" may have been fitted on too.
        fitted_on = ("test",) if manifest.fitted_on is None else manifest.fitted_on
        checks.append(partial(check_unseen, rows, fitted_on=fitted_on, sources=manifest.training.sources))
        if manifest.refit is not None:
            checks.append(partial(_check_not_refitted_on, rows, manifest))
    excused = _excused(checks, plan.allow_leak)
    trained = None if run is None else _audit_override(run)
    fitted = _fitted(predictions, plan)
    return _Candidate(
        table_path=table_path,
        judged=judge(rows, fitted, prior=plan.prior)
        if plan.cross_fit is None
        else cross_judge(rows, plan.cross_fit, prior=plan.prior),
        fitted=fitted,
        overrides=tuple(reason for reason in (trained, excused) if reason),
    )


def _run_of(path: Path) -> Path | None:
    """The finished run that a folder, or the predictions in it, is of; None for any other table."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not (path.name == _PREDICTIONS and (folder / _FACTS).is_file()):
        return None
    if not folder.exists():
        raise UsageError(f"{folder}: there is no such folder.", remedy="Name the folder of a finished run.")
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


def _check_made_of(manifest: Manifest, run: Path) -> None:
    """Refuse to judge a run by the decision of a bundle that was not made of it."""
    of_run = (_fact(run, "parameters"), _fact(run, "training", "fingerprint"))
    if of_run != (manifest.architecture.parameters, manifest.training.fingerprint):
        raise UsageError(
            f"{run}: the bundle {manifest.id} was not made of this run; "
            "its thresholds promise nothing for another network.",
            remedy="Leave --bundle out, or name the bundle that was exported from this run.",
        )


def _check_not_refitted_on(rows: Predictions, manifest: Manifest) -> None:
    """Refuse rows of the datasets that a decision was fitted anew on, but for splits that were left out of it."""
    own = {} if manifest.refit is None else manifest.refit.sources
    seen = [
        case
        for case in rows.cases
        if (case.source or UNNAMED) in own
        and not (manifest.fitted_on and case.split and case.split not in manifest.fitted_on)
    ]
    if seen:
        raise LeakError(
            f"{len(seen)} of the rows to judge are such as the decision of {manifest.id} was fitted anew on, the first "
            f"is {printable(seen[0].image_id)}.",
            remedy="Split first, refit on one split and judge another; or say with --allow-leak why these are others.",
        )


def _audit_override(run: Path) -> str | None:
    """The reason that was given for training on a split that leaks."""
    reason = _fact(run, "training", "audit_override")
    return None if reason is None else f"trained on a split that leaks: {reason}"


def _fact(run: Path, *keys: str) -> Any:
    """What `run.json` has under these keys.

    Raises
    ------
    TableError
        It is not what training writes.
    """
    try:
        value = json.loads((run / _FACTS).read_text(encoding="utf-8"))
        for key in keys:
            value = value[key]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise TableError(
            f"{run / _FACTS}: does not say how the model was trained ({fault!r}).",
            remedy="Name the folder of a run as `melascope train` left it.",
        ) from fault
    return value


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


def _fitted(predictions: Predictions, plan: Plan) -> Fitted:
    """What decides: a bundle's own, or fitted on rows of the same table."""
    given = {"--bundle": plan.bundle, "--calibrate-on": plan.calibrate_on, "--cross-fit": plan.cross_fit}
    chosen = [option for option, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise UsageError(f"Both {chosen[0]} and {chosen[1]} were given.", remedy="Give one of them.")
    if plan.bundle is not None:
        return _as_bundled(predictions, plan.bundle)
    if plan.cross_fit is not None:
        fitting = plan.split
        origin = f"fitted on these lesions, in {plan.cross_fit} parts, each judged by what the others fit"
    else:
        fitting = plan.calibrate_on or "val"
        shared = splits_named(plan.split) & splits_named(fitting)
        if shared or ALL in splits_named(plan.split) | splits_named(fitting):
            raise UsageError(
                f"The rows to judge (split {plan.split}) hold rows that calibration is fitted on "
                f"(split {fitting}).",
                remedy="Judge another split, or fit and judge in turn with --cross-fit 5.",
            )
        origin = f"fitted on the split “{fitting}” of the same file"
    decision = fit_decision_on(predictions, fitting)
    return Fitted(
        calibration=decision.calibration,
        operating_points=decision.operating_points,
        conformal=decision.conformal,
        novelty=None,
        n_folds=plan.cross_fit,
        main_point=_MAIN_POINT,
        origin=origin,
        other_lesions=True,
    )


def _as_bundled(predictions: Predictions, bundle: str) -> Fitted:
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
        conformal=manifest.conformal,
        novelty=manifest.novelty,
        n_folds=None,
        main_point=manifest.default_operating_point,
        origin=f"as in the bundle {manifest.id}",
        other_lesions=False,
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
        Column("operating point", no_wrap=True),
        "refer from",
        *_POINT_COLUMNS,
        "promise",
        box=None,
        pad_edge=False,
    )
    for point in evaluation.fitted.operating_points:
        figures = measured.operating_points[point.name]
        cells = (format_figure(figures[name], name) for name in _POINT_COLUMNS.values())
        at_points.add_row(point.name, f"{point.threshold:.4f}", *cells, promise(point))
    console.print(at_points)
    console.print(_told(evaluation))
    if evaluation.comparison is not None:
        against = Table("difference", f"this - {evaluation.compared_with}", box=None, pad_edge=False)
        for name, figure in evaluation.comparison.difference.items():
            against.add_row(name, format_figure(figure, name))
        console.print(against)


def _told(evaluation: Evaluation) -> Table:
    """Lesions by what they were and what is said of them."""
    triage = evaluation.triage
    table = Table(
        Column(f"told at {triage.operating_point}", no_wrap=True),
        *(Column(decision.label, min_width=11) for decision in DECISIONS),
        box=None,
        pad_edge=False,
    )
    for truth, counts in triage.counts.items():
        shares = triage.shares[truth]
        cells = (f"{n} ({100 * shares[told].value:.0f} %)" for told, n in counts.items())
        table.add_row(truth, *cells)
    return table


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
