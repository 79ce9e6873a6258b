"""What is told of a decision that was fitted anew: on the terminal, and in the bundle's card."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from melascope.bundle.card_lines import decision_lines, figure_table, novelty_lines, plain, sets_lines
from melascope.bundle.manifest import Manifest, Measurement, Refit
from melascope.bundle.store import Bundle
from melascope.cli.image_files import printable
from melascope.cli.refit_cases import N_FOLDS
from melascope.domain.assessment import Decision
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import MelascopeError
from melascope.evaluation.judged import Judged
from melascope.evaluation.measure import Metrics
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.predictions import Predictions
from melascope.evaluation.report import format_figure, promise
from melascope.evaluation.triaged import measure_triage

_MANY_MELANOMAS = 0.3  #: share of the lesions beyond which they are hardly consecutive
_SHOWN = 20
_TOLD = {
    Decision.REFER: "refer",
    Decision.UNCERTAIN: "uncertain",
    Decision.NO_SIGN: "no sign",
    Decision.CANNOT_ASSESS: "cannot assess",
}
_POINT_COLUMNS = ("lesion_sensitivity", "lesion_specificity")


def refit_card(base: Bundle, fields: dict[str, Any], before: Metrics, kept: str) -> str:
    """The card: what was fitted anew, on what, how good it is there; then the card of the bundle it is made of."""
    refit: Refit = fields["refit"]
    classes, point = fields["classes"], fields["default_operating_point"]
    sources = ", ".join(f"{plain(name)} ({n:,} images)" for name, n in refit.sources.items())
    was = [
        f"{kind} {format_figure(before.operating_points[point][figure], figure)}"
        for kind, figure in zip(("sensitivity", "specificity"), _POINT_COLUMNS, strict=True)
        if point in before.operating_points
    ]
    leak = (
        [
            "**The network may have learnt from these cases**; they were used because: "
            f"{plain(refit.allowed_leak)}.",
            "",
        ]
        if refit.allowed_leak is not None
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
            f"equal class frequencies. Every lesion was judged by a decision fitted on the others, in {N_FOLDS} "
            f"parts; with `{kept}`, which was written beside the bundle:",
            "",
            f"- {plain(measurement.name)}: `{measurement.command}`",
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
            *(_deeper(line) for line in base.card.splitlines()),
            "",
        ]
    )


def _deeper(line: str) -> str:
    """A heading of a card within a card; Markdown has six levels."""
    level = len(line) - len(line.lstrip("#"))
    return f"{'#' * min(level + 2, 6)}{line[level:]}" if level else line


def print_points(bundle: Bundle, base: Manifest, before: Metrics, now: Metrics, destination: Path) -> None:
    """How each operating point did on the lesions before, and how it does now."""
    click.echo(
        f"{bundle.id} is in {printable(destination)}: the network of {base.id}, its decision fitted on "
        f"{now.n_images} images of {now.n_lesions} lesions, {now.n_melanoma_lesions} of them melanomas "
        f"({100 * now.n_melanoma_lesions / now.n_lesions:.0f} %)."
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
    console.print(
        "Shares of lesions"
        + (", 95 % intervals in brackets" if now.n_bootstrap else "")
        + "; “now” each by a decision fitted on four fifths of the cases, the bundle's "
        "own on all. Each threshold is on a calibration of its own."
    )
    for point in bundle.manifest.operating_points:
        console.print(f"{point.name} promises: {promise(point)}")


def print_told(before: Judged, base: Manifest, now: Judged, refitted: Manifest) -> None:
    """What doctors would have been told of these lesions, before and now."""
    table = Table(
        "lesions, and what is told", "", *_TOLD.values(), box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        told = [
            measure_triage(judged, manifest.default_operating_point, manifest.novelty, n_bootstrap=0)
            for judged, manifest in ((before, base), (now, refitted))
        ]
    for truth in told[0].counts:
        for when, figures in zip(("before", "now"), told, strict=True):
            counts = (str(figures.counts[truth][decision]) for decision in _TOLD)
            table.add_row(truth if when == "before" else "", when, *counts)
    Console(highlight=False).print(table)


def warn_of_doubtful_cases(rows: Predictions, manifest: Manifest) -> None:
    """What the new decision cannot do, or does only if the cases are what they seem."""

    def warn(text: str) -> None:
        click.echo(f"melascope: warning: {text}", err=True)

    sets = manifest.conformal
    kept_in = [
        diagnosis
        for diagnosis, promised in zip(manifest.classes, sets.promised_C if sets else (), strict=bool(sets))
        if diagnosis.malignant and not promised
    ]
    if kept_in:
        warn(
            f"of {', '.join(kept_in)} there are too few lesions to tell when they may be ruled out: they always stand "
            f"among the diagnoses to consider, and nobody is told “{Decision.NO_SIGN.label}”. Give diagnoses, of "
            f"{math.ceil(round(sets.coverage / (1 - sets.coverage), 6)) if sets else 0} lesions of each at least."
        )
    if nameless := sum(not case.lesion for case in rows.cases):
        warn(
            f"{nameless} of {len(rows.cases)} images name no lesion and count as one each; where several show the "
            "same, less is promised than it says."
        )
    share = manifest.calibration.prevalence_C[manifest.classes.index(Diagnosis.MEL)]
    if share > _MANY_MELANOMAS:
        warn(
            f"{100 * share:.0f} % of the lesions are melanomas, and probabilities assume that share: take consecutive "
            "lesions, or state the share in your clinic whenever you assess."
        )


def tell_refused(refused: Sequence[tuple[Case, MelascopeError]]) -> int:
    """List the photographs that could not be read; the exit status."""
    if not refused:
        return 0
    click.echo(f"melascope: {len(refused)} images could not be read and are left out", err=True)
    for case, fault in refused[:_SHOWN]:
        click.echo(f"  {printable(case.image_id)}: {printable(fault)}", err=True)
    return 3
