"""What `melascope bundle refit` does once its options are read: score, fit, judge, write, print."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Column, Table

from melascope.bundle.card_lines import decision_lines, figure_table, novelty_lines, sets_lines
from melascope.bundle.catalogue import load_bundle
from melascope.bundle.manifest import Figure, Manifest, Measurement, Refit
from melascope.bundle.store import CARD, MODEL, REFERENCE, Bundle, reference_bytes, write_bundle
from melascope.cli.image_files import load_case, printable, refuse_to_overwrite
from melascope.cli.progress import counter
from melascope.cli.useless_points import warn_of_useless_points
from melascope.datasets.table import read_cases
from melascope.decision.novelty import NoveltyLimits, fit_limits
from melascope.decision.operating_point import CONFIDENCE, MIN_LESIONS
from melascope.domain.case import Case
from melascope.errors import LeakError, MelascopeError, UsageError
from melascope.evaluation.holdout import (
    ALL,
    UNNAMED,
    FittedDecision,
    check_unseen,
    fit_decision,
    splits_named,
)
from melascope.evaluation.judged import cross_judge, judge
from melascope.evaluation.measure import Metrics, headline, measure
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.predictions import Predictions, write_predictions
from melascope.evaluation.report import format_figure, promise
from melascope.imaging.decode import ImageLimits
from melascope.runtime.assessor import Assessor
from melascope.runtime.scoring import score

_N_FOLDS = 5
#: Lesions that are needed: enough melanomas to promise a sensitivity of 95 %, for thresholds fitted on fewer may be
#: worse than another hospital's (docs/experiments.md), and enough others that four fifths of them can fit.
_LEAST_MELANOMAS = math.ceil(math.log(1 - CONFIDENCE) / math.log(0.95))
_LEAST_OTHERS = math.ceil(MIN_LESIONS * _N_FOLDS / (_N_FOLDS - 1))
_MAIN_POINT = "sensitivity-95"
_SHOWN = 20
_POINT_COLUMNS = ("lesion_sensitivity", "lesion_specificity")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The command's options."""

    base: str | None
    split: str
    name: str | None
    out: Path | None
    novelty: bool
    allow_leak: str | None
    n_bootstrap: int
    threads: int | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Scored:
    """The cases whose photographs could be read."""

    predictions: Predictions
    digests: tuple[str, ...]  #: SHA-256 of each file
    refused: tuple[tuple[Case, MelascopeError], ...]


def run_refit(table_path: Path, plan: Plan, limits: ImageLimits) -> int:
    """Fit the decision of a bundle anew on a case table, and write the bundle that decides so.

    Returns
    -------
    int
        The exit status: 3 where a photograph could not be read, else 0.
    """
    base = load_bundle(plan.base)
    name = plan.name or f"{base.manifest.name}-refit"
    destination = plan.out or Path("bundles") / f"{name}.zip"
    kept_path = destination.with_name(f"{destination.name.removesuffix('.zip')}-predictions.csv")
    _check_plan(plan, base.manifest, destination)
    cases = _cases_of(table_path, plan.split)
    for written in (destination, kept_path):
        refuse_to_overwrite(
            written, [table_path, Path(plan.base or ""), *(Path(case.path) for case in cases)]
        )
    allowed_leak = _excused_leak(cases, base.manifest, plan.allow_leak)
    _check_enough(cases)
    scored = _score(Assessor(base, threads=plan.threads), cases, limits)
    rows = scored.predictions
    if scored.refused:
        _check_enough(rows.cases)
    decision = fit_decision(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # told as "undefined"
        before = measure(
            judge(rows, _decision_of(base.manifest), prior="uniform"), n_bootstrap=plan.n_bootstrap
        )
        now = measure(cross_judge(rows, _N_FOLDS, prior="uniform"), n_bootstrap=plan.n_bootstrap)
    fields = _fields(base.manifest, name, scored, decision, now, plan, kept_path.name, allowed_leak)
    files = {
        MODEL: base.model,
        REFERENCE: reference_bytes(base.reference),
        CARD: _card(base, fields, before).encode(),
    }
    refitted = write_bundle(destination, fields, files)
    write_predictions(rows, kept_path)
    warn_of_useless_points(decision.operating_points)
    _print(refitted, base.manifest, before, now, destination)
    return _tell_refused(scored.refused)


def _check_plan(plan: Plan, base: Manifest, destination: Path) -> None:
    """What would else be found only after the photographs are scored.

    Raises
    ------
    UsageError
        Limits of novelty for a bundle that has none; a folder that is there already.
    """
    if plan.novelty and base.novelty is None:
        raise UsageError(
            f"{base.id} has no limits of novelty: it cannot tell what is unlike its training images.",
            remedy="Leave --novelty out.",
        )
    if destination.suffix.lower() != ".zip" and destination.exists():
        raise UsageError(
            f"--out {printable(destination)} is there already.",
            remedy="Choose another name, or one that ends in .zip.",
        )


def _cases_of(table_path: Path, split: str) -> list[Case]:
    """The table's cases of these splits whose outcome is known."""
    cases = read_cases(table_path)
    wanted = splits_named(split)
    chosen = [case for case in cases if ALL in wanted or (case.split or "(none)") in wanted]
    if not chosen:
        found = ", ".join(f"{name} ({n})" for name, n in Counter(c.split or "(none)" for c in cases).items())
        raise UsageError(
            f"{table_path}: no case is of the split {split!r}; found {found}.",
            remedy=f"Name one of these, several joined with +, or {ALL!r} for every case.",
        )
    known = [case for case in chosen if case.melanoma is not None]
    if left_out := len(chosen) - len(known):
        click.echo(
            f"melascope: {left_out} cases are left out: it is not known whether they are melanomas", err=True
        )
    if not any(case.lesion or case.patient for case in known):
        click.echo(
            "melascope: warning: no case names its lesion or its patient, so each photograph counts as a lesion; where "
            "several show one, less is promised than it says.",
            err=True,
        )
    return known


def _excused_leak(cases: Sequence[Case], manifest: Manifest, reason: str | None) -> str | None:
    """The reason given, if cases are such as the bundle may have learnt from: of its datasets and parts.

    Raises
    ------
    LeakError
        There are such cases, and no reason is given.
    """
    known = [case for case in cases if (case.source or UNNAMED) in manifest.sources]
    empty = np.empty((len(known), len(manifest.classes)))
    rows = Predictions(classes=manifest.classes, logits_NC=empty, cases=tuple(known))
    fitted_on = ("test",) if manifest.fitted_on is None else manifest.fitted_on
    try:
        check_unseen(rows, fitted_on=fitted_on, sources=manifest.sources)
    except LeakError as fault:
        if reason is None:
            raise LeakError(
                fault.message.replace("Of the rows to judge", f"Of the cases to fit {manifest.id} on"),
                remedy="A decision fitted on them promises what it will not keep: take other cases, or say with "
                "--allow-leak why the bundle has not seen these.",
            ) from None
        return reason
    return None


def _check_enough(cases: Sequence[Case]) -> None:
    """Refuse too few lesions.

    Raises
    ------
    UsageError
        Naming how many there are of each kind.
    """
    melanomas = {case.vote for case in cases if case.melanoma}
    others = {case.vote for case in cases} - melanomas
    if len(melanomas) < _LEAST_MELANOMAS or len(others) < _LEAST_OTHERS:
        raise UsageError(
            f"There are {len(melanomas)} lesions with melanoma and {len(others)} without.",
            remedy=f"It takes {_LEAST_MELANOMAS} with melanoma, to promise that 95 % are found, and {_LEAST_OTHERS} "
            "without. With fewer keep the bundle's own decision.",
        )
    patients = {case.group for case in cases}
    if len(patients) < _N_FOLDS:
        raise UsageError(
            f"All cases are of {len(patients)} patients, by their `patient_id`.",
            remedy=f"Give each patient an id of their own; it takes {_N_FOLDS} to judge some by what the others fit.",
        )


def _score(assessor: Assessor, cases: Sequence[Case], limits: ImageLimits) -> _Scored:
    """What the network makes of each photograph."""
    scored: list[int] = []
    logits, novelty, digests, refused = [], [], [], []
    with counter("scoring") as progress:
        for batch in score(assessor, [partial(load_case, case, limits) for case in cases]):
            scored += batch.scored
            logits += [seen.logits_C for seen in batch.seen]
            novelty += [math.nan if seen.novelty is None else seen.novelty for seen in batch.seen]
            digests += [image.sha256 for image in batch.prepared]
            refused += [(cases[n], fault) for n, fault in batch.refused]
            progress(batch.stop, len(cases))
    classes = assessor.manifest.classes
    return _Scored(
        predictions=Predictions(
            classes=classes,
            logits_NC=np.array(logits).reshape(-1, len(classes)),
            cases=tuple(cases[n] for n in scored),
            novelty_N=None if assessor.manifest.novelty is None else np.array(novelty),
        ),
        digests=tuple(digests),
        refused=tuple(refused),
    )


def _decision_of(manifest: Manifest) -> FittedDecision:
    return FittedDecision(
        calibration=manifest.calibration,
        operating_points=manifest.operating_points,
        conformal=manifest.conformal,
    )


def _fields(
    base: Manifest,
    name: str,
    scored: _Scored,
    decision: FittedDecision,
    now: Metrics,
    plan: Plan,
    kept: str,
    allowed_leak: str | None,
) -> dict[str, Any]:
    """The manifest's fields: those of `base`, but for what was fitted anew and the figures, which were of before."""
    rows = scored.predictions
    sources = dict(Counter(case.source or UNNAMED for case in rows.cases).most_common())
    own = {field: getattr(base, field) for field in Manifest.model_fields if field not in ("id", "files")}
    del own["schema_version"]
    return own | {
        "name": name,
        "created": datetime.now(UTC).replace(microsecond=0),
        "calibration": decision.calibration,
        "operating_points": decision.operating_points,
        "default_operating_point": base.default_operating_point
        if base.default_operating_point in {point.name for point in decision.operating_points}
        else _MAIN_POINT,
        "conformal": decision.conformal,
        "novelty": _novelty(base.novelty, rows) if plan.novelty and base.novelty else base.novelty,
        "fitted_on": tuple(sorted({case.split for case in rows.cases if case.split})),
        "refit": Refit(
            base=base.id,
            sources=sources,
            n_images=len(rows.cases),
            n_groups=len(set(rows.groups_N)),
            fingerprint=sha256("\n".join(sorted(scored.digests)).encode()).hexdigest(),
            allowed_leak=allowed_leak,
        ),
        "measurements": (
            Measurement(
                name=", ".join(sources) + ("" if ALL in splits_named(plan.split) else f", {plan.split}"),
                n_images=now.n_images,
                n_groups=now.n_groups,
                n_melanoma=now.n_melanoma,
                figures={figure: Figure.of(f.value, f.low, f.high) for figure, f in headline(now).items()},
                command=f"melascope evaluate {kept} --split all --cross-fit {_N_FOLDS} --prior uniform",
            ),
        ),
    }


def _novelty(before: NoveltyLimits, rows: Predictions) -> NoveltyLimits:
    """The limits anew, at the same rates of false alarms.

    Raises
    ------
    UsageError
        The lesions are too few.
    """
    if rows.novelty_N is None:
        raise AssertionError("a bundle with limits gives scores")
    try:
        return fit_limits(
            rows.novelty_N,
            rows.lesions_N,
            unusual=before.false_alarm_unusual,
            foreign=before.false_alarm_foreign,
            method=before.method,
        )
    except MelascopeError as fault:
        raise UsageError(fault.message, remedy="Leave --novelty out, or take more lesions.") from fault


def _card(base: Bundle, fields: dict[str, Any], before: Metrics) -> str:
    """The card: what was fitted anew, on what, how good it is there; then the card of the bundle it is made of."""
    refit: Refit = fields["refit"]
    classes, point = fields["classes"], fields["default_operating_point"]
    sources = ", ".join(f"{name} ({n:,} images)" for name, n in refit.sources.items())
    was = [
        f"{kind} {format_figure(before.operating_points[point][figure], figure)}"
        for kind, figure in zip(("sensitivity", "specificity"), _POINT_COLUMNS, strict=True)
        if point in before.operating_points
    ]
    leak = (
        [
            f"**The bundle may have learnt from these cases**; they were used because: {refit.allowed_leak}.",
            "",
        ]
        if refit.allowed_leak
        else []
    )
    measurement: Measurement = fields["measurements"][0]
    return "\n".join(
        [
            f"# {fields['name']}",
            "",
            f"The network of `{refit.base}`, whose decision was fitted anew on cases of its user's own: {sources}.",
            "",
            "## Intended use",
            "",
            fields["intended_use"],
            "",
            "## Figures",
            "",
            *leak,
            *figure_table(fields["measurements"], point),
            "",
            "Intervals are 95 %, from resampling lesions. Class figures count images of known diagnosis and assume "
            f"equal class frequencies. Every lesion was judged by a decision fitted on the others, in {_N_FOLDS} "
            "parts; with the predictions.csv that lies beside the bundle:",
            "",
            f"- {measurement.name}: `{measurement.command}`",
            "",
            *(
                [f"On the same lesions `{refit.base}` had, at its own {point}: {' and '.join(was)}.", ""]
                if was
                else []
            ),
            "## Decision",
            "",
            *decision_lines(
                fields["calibration"], fields["operating_points"], classes, fitted_on="the cases named above"
            ),
            "These shares are those of the lesions on which the thresholds were chosen, one vote a lesion. What is "
            "promised is promised for lesions like these, chosen and photographed in the same way.",
            "",
            *sets_lines(classes, fields["conformal"]),
            *novelty_lines(fields["novelty"]),
            "## Licence",
            "",
            fields["licence"] + ". The program is MIT.",
            "",
            f"## The card of {refit.base}",
            "",
            "Network, training data and limits are as it says; its figures and its decision are those of before.",
            "",
            *(f"##{line}" if line.startswith("#") else line for line in base.card.splitlines()),
            "",
        ]
    )


def _print(bundle: Bundle, base: Manifest, before: Metrics, now: Metrics, destination: Path) -> None:
    click.echo(
        f"{bundle.id} is in {printable(destination)}: the network of {base.id}, its decision fitted on "
        f"{now.n_images} images of {now.n_lesions} lesions, {now.n_melanoma_lesions} of them melanomas."
    )
    table = Table(
        *(
            Column(head, no_wrap=True)
            for head in ("operating point", "", "threshold", "sensitivity", "specificity")
        ),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for point in bundle.manifest.operating_points:
        old = {known.name: known for known in base.operating_points}.get(point.name)
        for when, threshold, measured in (
            ("before", old and old.threshold, before),
            ("now", point.threshold, now),
        ):
            figures = measured.operating_points.get(point.name)
            if threshold is None or figures is None:
                continue
            cells = (format_figure(figures[figure], figure) for figure in _POINT_COLUMNS)
            table.add_row(
                point.name if when == "before" or old is None else "", when, f"{threshold:.4f}", *cells
            )
    console = Console(highlight=False)
    console.print(table)
    console.print("Of lesions, 95 % intervals in brackets; “now” each by a decision fitted on the others.")
    for point in bundle.manifest.operating_points:
        console.print(f"{point.name} promises: {promise(point)}")
    click.echo(
        f"Next: melascope bundle install {printable(destination)}, then melascope bundle use {bundle.manifest.name}"
    )


def _tell_refused(refused: Sequence[tuple[Case, MelascopeError]]) -> int:
    if not refused:
        return 0
    click.echo(f"melascope: {len(refused)} images could not be read and are left out", err=True)
    for case, fault in refused[:_SHOWN]:
        click.echo(f"  {printable(case.image_id)}: {printable(fault)}", err=True)
    return 3
