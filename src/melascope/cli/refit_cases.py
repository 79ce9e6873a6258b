"""Which cases a bundle's decision may be fitted anew on."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from melascope.bundle.manifest import Manifest
from melascope.datasets.sources import are_public
from melascope.datasets.table import read_cases
from melascope.decision.operating_point import CONFIDENCE, MIN_LESIONS
from melascope.domain.case import UNNAMED, Case
from melascope.errors import LeakError, MelascopeError, UsageError
from melascope.evaluation.holdout import ALL, check_unseen, splits_named
from melascope.evaluation.predictions import Predictions

#: Parts in which the new decision is judged, each by what the others fit.
N_FOLDS = 5
#: Lesions that are needed: enough melanomas to promise a sensitivity of 95 %, for thresholds fitted on fewer may be
#: worse than another hospital's (docs/experiments.md), and enough others, and patients of both kinds, that four fifths
#: of them can fit.
_LEAST_MELANOMAS = math.ceil(math.log(1 - CONFIDENCE) / math.log(0.95))
_LEAST = math.ceil(MIN_LESIONS * N_FOLDS / (N_FOLDS - 1))
_ARCHIVE_ID = re.compile(r"ISIC_\d{7}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """The cases whose photographs could be read."""

    predictions: Predictions
    digests: tuple[str, ...]  #: SHA-256 of each file
    refused: tuple[tuple[Case, MelascopeError], ...]


def cases_of(table_path: Path, split: str) -> list[Case]:
    """The table's cases of the splits asked for whose outcome is known.

    Raises
    ------
    UsageError
        A split that no case is of, a name that cannot be printed, a lesion with and without melanoma.
    """
    cases = read_cases(table_path)
    wanted, found = splits_named(split), Counter(case.split or "(none)" for case in cases)
    if absent := wanted - found.keys() - {ALL}:
        raise UsageError(
            f"{table_path}: no case is of the split {min(absent)!r}; "
            f"found {', '.join(f'{name} ({n})' for name, n in found.most_common())}.",
            remedy=f"Name one of these, several joined with +, or {ALL!r} for every case.",
        )
    chosen = [case for case in cases if ALL in wanted or (case.split or "(none)") in wanted]
    known = [case for case in chosen if case.melanoma is not None]
    for case in known:
        for column in ("source", "split"):
            value = getattr(case, column) or ""
            if not value.isprintable():  # it would reach the card and the pages
                raise UsageError(
                    f"{table_path}: {column} of {case.image_id!r} is {value!r}.",
                    remedy="Replace what is no letter, digit, sign or plain space; a no-break space is none.",
                )
    if disputed := {c.vote for c in known if c.melanoma} & {c.vote for c in known if not c.melanoma}:
        first = next(case for case in known if case.vote in disputed)
        raise UsageError(
            f"{table_path}: {len(disputed)} lesions are called melanoma in one row and not in another, the first is "
            f"{first.lesion_id!r} ({first.image_id!r}).",
            remedy="Mend the label or the lesion_id that is wrong.",
        )
    if left_out := len(chosen) - len(known):
        click.echo(
            f"melascope: {left_out} cases are left out: it is not known whether they are melanomas", err=True
        )
    return known


def excused_leak(cases: Sequence[Case], manifest: Manifest, reason: str | None) -> str | None:
    """The reason given, if the network may have learnt from some of the cases: by their datasets, parts and names.

    Raises
    ------
    LeakError
        There are such cases, and no reason is given.
    """
    doubt = _doubt(cases, manifest)
    if doubt is None:
        return None
    if reason is None:
        raise LeakError(
            doubt,
            remedy="A decision fitted on what the network has learnt promises what it will not keep: take other "
            "cases, or say with --allow-leak why it has not seen these.",
        )
    return reason


def _doubt(cases: Sequence[Case], manifest: Manifest) -> str | None:
    """Why the network may have learnt from some of the cases; None where nothing says so."""
    learnt, what = manifest.training.sources, f"cases to fit {manifest.id} on"
    known = tuple(case for case in cases if (case.source or UNNAMED) in learnt)
    empty = np.empty((len(known), len(manifest.classes)))
    try:
        check_unseen(
            Predictions(classes=manifest.classes, logits_NC=empty, cases=known),
            fitted_on=(),
            sources=learnt,
            what=what,
        )
    except LeakError as fault:
        return fault.message
    archived = [c for c in cases if _ARCHIVE_ID.search(c.image_id) and not are_public([c.source or UNNAMED])]
    if archived and are_public(learnt):
        return (
            f"Of the {what}, {len(archived)} are called as in the ISIC archive, from which its training images came "
            f"too, the first is {archived[0].image_id!r}."
        )
    return None


def check_enough(cases: Sequence[Case], with_novelty: Manifest | None) -> None:
    """Refuse too few lesions or patients.

    Raises
    ------
    UsageError
        Naming how many there are.
    """
    melanomas, others = ({c.vote for c in cases if c.melanoma is kind} for kind in (True, False))
    if len(melanomas) < _LEAST_MELANOMAS or len(others) < _LEAST:
        raise UsageError(
            f"There are {len(melanomas)} lesions with melanoma and {len(others)} without.",
            remedy=f"It takes {_LEAST_MELANOMAS} with melanoma, to promise that 95 % are found, and {_LEAST} "
            "without. With fewer keep the bundle's own decision.",
        )
    ill, well = ({c.group for c in cases if c.melanoma is kind} for kind in (True, False))
    if min(len(ill), len(well)) < _LEAST:
        raise UsageError(
            f"The lesions with melanoma are of {len(ill)} patients, the others of {len(well)}, by their `patient_id`.",
            remedy=f"It takes {_LEAST} patients of each; what a few have in common is no rule for others.",
        )
    limits = with_novelty.novelty if with_novelty else None
    if limits and limits.false_alarm_foreign * (len(melanomas | others) + 1) < 1:
        raise UsageError(
            f"There are {len(melanomas | others)} lesions; so few cannot promise {limits.false_alarm_foreign:.1%} "
            "false alarms of novelty.",
            remedy=f"Take {math.ceil(1 / limits.false_alarm_foreign) - 1} lesions at least, or leave --novelty out.",
        )


def check_copies(scored: Scored) -> None:
    """Refuse one file as several lesions: each would judge itself.

    Raises
    ------
    UsageError
        Naming two of its rows.
    """
    first: dict[str, Case] = {}
    for case, digest in zip(scored.predictions.cases, scored.digests, strict=True):
        other = first.setdefault(digest, case)
        if other.vote != case.vote:
            raise UsageError(
                f"{other.image_id!r} and {case.image_id!r} are the same file, and called two lesions.",
                remedy="Give both one lesion_id, or take one out; `melascope data audit` finds all copies.",
            )
