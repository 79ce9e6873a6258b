"""The runs of a cross-validation as one table: every case predicted by the one network that did not learn from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from melascope.datasets.leaks import check_split, refuse_leaks
from melascope.datasets.table import read_cases
from melascope.domain.case import Case
from melascope.errors import TableError, UsageError
from melascope.evaluation.predictions import Predictions, read_predictions

#: The split of out-of-fold predictions.
OUT_OF_FOLD = "oof"


def join_folds(run_folders: Sequence[Path]) -> tuple[Predictions, list[str]]:
    """Out-of-fold predictions of runs that were trained with `--fold`, each on another fold of one split.

    Returns
    -------
    tuple
        The rows, their split `oof`, run by run; and the numbered folds of the split that no run validated on.

    Raises
    ------
    UsageError
        A folder that is no finished run of a fold; two runs of one fold; runs of different splits.
    TableError
        Runs that tell different classes apart, or a table that does not keep its contract.
    LeakError
        A lesion, patient or picture is in several folds.
    """
    cases = _cases(run_folders[0])
    refuse_leaks(check_split(cases))
    parts: dict[str, Predictions] = {}
    for folder in run_folders:
        dealt = _dealt(_cases(folder))
        fold = _fold(folder)
        if fold in parts:
            raise UsageError(f"{folder}: fold {fold} is named twice.", remedy="Name one run for each fold.")
        if dealt != _dealt(cases):
            raise UsageError(
                f"{folder} was trained on another split than {run_folders[0]}.",
                remedy="Join runs of one case table, each with its own --fold.",
            )
        rows = read_predictions(folder / "predictions.csv")
        first = next(iter(parts.values()), rows)
        if rows.classes != first.classes:
            raise TableError(
                f"{folder}: the classes are {', '.join(rows.classes)}; in {run_folders[0]} they are "
                f"{', '.join(first.classes)}.",
                remedy="Join runs of one recipe.",
            )
        held_out = {case.image_id for case in cases if case.split == fold}
        parts[fold] = rows.where([case.image_id in held_out for case in rows.cases])
    named = tuple(replace(case, split=OUT_OF_FOLD) for rows in parts.values() for case in rows.cases)
    logits_NC = np.concatenate([rows.logits_NC for rows in parts.values()])
    folds = {case.split for case in cases if case.split and case.split.isdecimal()}
    return (
        Predictions(classes=first.classes, logits_NC=logits_NC, cases=named),
        sorted(folds - parts.keys(), key=int),
    )


def _cases(run_folder: Path) -> list[Case]:
    """The split case table that a run was trained on."""
    if not run_folder.exists():
        raise UsageError(
            f"{run_folder}: there is no such folder.", remedy="Name the folders of finished runs."
        )
    for name in ("predictions.csv", "cases.csv", "run.json"):
        if not (run_folder / name).is_file():
            raise UsageError(
                f"{run_folder}: {name} is missing; this is no finished run.",
                remedy="Finish it with `melascope train ... --resume`.",
            )
    return read_cases(run_folder / "cases.csv")


def _fold(run_folder: Path) -> str:
    try:
        fold = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))["fold"]
    except (ValueError, KeyError, TypeError) as fault:
        raise TableError(
            f"{run_folder / 'run.json'}: does not say which fold was validated on ({fault!r}).",
            remedy="Name the folder of a run as `melascope train` left it.",
        ) from fault
    if fold is None:
        raise UsageError(
            f"{run_folder} was not trained with --fold.",
            remedy="Deal folds with `melascope data split --folds 5`, then train one run for each with --fold.",
        )
    return str(fold)


def _dealt(cases: Sequence[Case]) -> set[tuple[str, str | None]]:
    return {(case.image_id, case.split) for case in cases}
