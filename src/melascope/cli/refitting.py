"""What `melascope bundle refit` does once its options are read: score, fit, judge, write, print."""

from __future__ import annotations

import math
import shlex
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

from melascope.bundle.catalogue import load_bundle
from melascope.bundle.manifest import Figure, Manifest, Measurement, Refit
from melascope.bundle.store import CARD, MODEL, REFERENCE, reference_bytes, write_bundle
from melascope.cli.image_files import load_case, printable
from melascope.cli.options import check_reason
from melascope.cli.progress import counter
from melascope.cli.refit_cases import N_FOLDS, Scored, cases_of, check_copies, check_enough, excused_leak
from melascope.cli.refit_told import (
    print_points,
    print_told,
    refit_card,
    tell_refused,
    warn_of_doubtful_cases,
)
from melascope.cli.useless_points import warn_of_useless_points
from melascope.decision.novelty import NoveltyLimits, fit_limits
from melascope.domain.case import UNNAMED, Case
from melascope.errors import MelascopeError, UsageError
from melascope.evaluation.holdout import ALL, FittedDecision, fit_decision, splits_named
from melascope.evaluation.judged import cross_judge, judge
from melascope.evaluation.measure import Metrics, headline, measure
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.predictions import Predictions, write_predictions
from melascope.imaging.decode import ImageLimits
from melascope.runtime.assessor import Assessor
from melascope.runtime.scoring import score

_MAIN_POINT = "sensitivity-95"


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
    kept_path = _check_plan(plan, base.manifest, destination)
    cases = cases_of(table_path, plan.split)
    allowed_leak = excused_leak(cases, base.manifest, plan.allow_leak)
    check_enough(cases, base.manifest if plan.novelty else None)
    scored = _score(Assessor(base, threads=plan.threads), cases, limits)
    rows = scored.predictions
    check_copies(scored)
    if scored.refused:
        check_enough(rows.cases, base.manifest if plan.novelty else None)
    decision = fit_decision(rows)
    before, now = (
        judge(rows, _decision_of(base.manifest), prior="uniform"),
        cross_judge(rows, N_FOLDS, prior="uniform"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # told as "undefined"
        measured_before, measured = (
            measure(judged, n_bootstrap=plan.n_bootstrap) for judged in (before, now)
        )
    fields = _fields(base.manifest, name, scored, decision, measured, plan, kept_path.name, allowed_leak)
    files = {
        MODEL: base.model,
        REFERENCE: reference_bytes(base.reference),
        CARD: refit_card(base, fields, measured_before, kept_path.name).encode(),
    }
    write_predictions(rows, kept_path)
    try:
        refitted = write_bundle(destination, fields, files)
    except MelascopeError:
        kept_path.unlink()
        raise
    warn_of_useless_points(decision.operating_points)
    warn_of_doubtful_cases(rows, refitted.manifest)
    print_points(refitted, base.manifest, measured_before, measured, destination)
    print_told(before, base.manifest, now, refitted.manifest)
    click.echo(
        "Compare “before” and “now”; if now is better: melascope bundle install "
        f"{shlex.quote(printable(destination))}, then melascope bundle use {refitted.manifest.name}"
    )
    return tell_refused(scored.refused)


def _check_plan(plan: Plan, base: Manifest, destination: Path) -> Path:
    """What would else be found only after the photographs are scored.

    Returns
    -------
    Path
        Where the predictions go.

    Raises
    ------
    UsageError
        A reason that is none, limits of novelty for a bundle that has none, something that is there already.
    """
    check_reason(plan.allow_leak)
    if plan.novelty and base.novelty is None:
        raise UsageError(
            f"{base.id} has no limits of novelty: it cannot tell what is unlike its training images.",
            remedy="Leave --novelty out.",
        )
    if not destination.name:
        raise UsageError(
            f"--out {printable(destination)} has no name.", remedy="Name a folder or a .zip to write."
        )
    stem = destination.stem if destination.suffix.lower() == ".zip" else destination.name
    kept_path = destination.with_name(f"{stem}-predictions.csv")
    for path in (destination, kept_path):
        if path.exists():
            raise UsageError(
                f"{printable(path)} is there already, and would be replaced.",
                remedy="Choose another --name or --out, or move it away.",
            )
    return kept_path


def _score(assessor: Assessor, cases: Sequence[Case], limits: ImageLimits) -> Scored:
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
    return Scored(
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
    scored: Scored,
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
                command=f"melascope evaluate {kept} --split all --cross-fit {N_FOLDS} --prior uniform",
            ),
        ),
    }


def _novelty(before: NoveltyLimits, rows: Predictions) -> NoveltyLimits:
    """The limits anew, at the same rates of false alarms."""
    if rows.novelty_N is None:
        raise AssertionError("a bundle with limits gives scores")
    return fit_limits(
        rows.novelty_N,
        rows.lesions_N,
        unusual=before.false_alarm_unusual,
        foreign=before.false_alarm_foreign,
        method=before.method,
    )
