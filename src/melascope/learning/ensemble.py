"""Several runs as one, whose logits are the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from melascope.errors import LeakError, UsageError
from melascope.evaluation.predictions import Predictions
from melascope.learning.backbones import side_by_side
from melascope.learning.run import Run, training_facts
from melascope.learning.start import marks


def join_runs(runs: Sequence[Run]) -> Run:
    """An ensemble, judged by what no run has learnt from.

    Raises
    ------
    UsageError
        The runs read images in different ways, tell different classes apart, or have no judged image in common.
    LeakError
        A run has learnt from a lesion or file that the ensemble would be judged by.
    """
    first = runs[0]
    for run in runs[1:]:
        for what, ours, theirs in (
            ("classes", first.recipe.model.classes, run.recipe.model.classes),
            ("preprocess", first.recipe.preprocess, run.recipe.preprocess),
            ("mirrors", first.recipe.model.mirrors, run.recipe.model.mirrors),
            ("zooms", first.recipe.model.zooms, run.recipe.model.zooms),
        ):
            if ours != theirs:
                raise UsageError(
                    f"The runs differ in {what}: {ours} and {theirs}.",
                    remedy="Join runs that look at images in one way; a run of no epochs judges one anew in another.",
                )
    predictions = _mean_predictions(runs)
    learnt = {case.image_id: replace(case, split="train") for run in runs for case in run.learnt}
    known = marks([*learnt.values()])
    if seen := [case.image_id for case in predictions.cases if known & marks([case])]:
        raise LeakError(
            f"The runs have learnt from lesions of {len(seen)} images that they are judged by, the first is {seen[0]}.",
            remedy="Join runs of one split, or of its folds.",
        )
    path_of = {case.image_id: case.path for run in runs for case in run.cases}
    judged = [replace(case, path=path_of[case.image_id]) for case in predictions.cases]
    overrides = [run.facts["training"]["audit_override"] for run in runs]
    classes = first.recipe.model.classes
    return Run(
        recipe=first.recipe.model_copy(
            update={
                "name": f"{first.recipe.name}-ensemble",
                "purpose": f"An ensemble of {len(runs)} networks: more accurate, and slower by as many.",
            }
        ),
        network=side_by_side([run.network for run in runs]),
        predictions=predictions,
        cases=(*learnt.values(), *judged),
        facts={
            **first.facts,
            "fold": None,
            "members": [f"{run.recipe.name}, seed {run.recipe.train.seed}{_fold(run)}" for run in runs],
            "parameters": sum(run.facts["parameters"] for run in runs),
            "training": training_facts([*learnt.values()], classes, next(filter(None, overrides), None)),
        },
    )


def _fold(run: Run) -> str:
    return "" if run.facts["fold"] is None else f", fold {run.facts['fold']}"


def _mean_predictions(runs: Sequence[Run]) -> Predictions:
    """Of the images that every run was judged by, and calls by one split."""
    rows = [
        {(case.image_id, case.split): row for row, case in enumerate(run.predictions.cases)} for run in runs
    ]
    common = [key for key in rows[0] if all(key in of_run for of_run in rows)]
    if not common:
        raise UsageError(
            "No image was judged by every run.", remedy="Join runs of one split, or of its folds."
        )
    logits = [
        run.predictions.logits_NC[[of_run[key] for key in common]]
        for run, of_run in zip(runs, rows, strict=True)
    ]
    return Predictions(
        classes=runs[0].predictions.classes,
        logits_NC=np.mean(logits, axis=0),
        cases=tuple(runs[0].predictions.cases[rows[0][key]] for key in common),
    )
