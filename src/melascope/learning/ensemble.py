"""Several runs as one, whose logits are the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from melascope.domain.case import Case
from melascope.errors import LeakError, UsageError
from melascope.evaluation.predictions import Predictions
from melascope.learning.backbones import side_by_side
from melascope.learning.earlier import differences, marks
from melascope.learning.run import Run, known_of, training_facts

_ALIKE = (
    "model.classes",
    "model.mirrors",
    "model.zooms",
    "preprocess.size_px",
    "preprocess.resize",
    "preprocess.zoom",
    "preprocess.interpolation",
    "preprocess.colour",
    "loss.imbalance",
    "loss.power",
)


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
    backbones = dict.fromkeys(run.recipe.model.backbone for run in runs)
    for run in runs[1:]:
        for key, theirs, ours in differences(run.recipe, first.recipe, _ALIKE):
            raise UsageError(
                f"The runs differ in {key}: {first.name} has {ours}, {run.name} {theirs}.",
                remedy="Join runs that look alike; a run of no epochs judges one anew with other mirrors and zooms.",
            )
    if len({run.predictions.logits_NC.tobytes() for run in runs}) < len(runs):
        raise UsageError("A run is named twice.", remedy="Name each run once.")
    predictions = _mean_predictions(runs)
    case_of = {case.image_id: case for case in first.cases}
    judged = [replace(case_of[case.image_id], split=case.split) for case in predictions.cases]
    _check_same_files(runs, judged)
    known = known_of(runs)
    learnt = [case for case in known if case.split == "train"]
    in_training, in_choosing = marks(learnt), marks(known)
    if seen := [
        case.image_id
        for case in judged
        if marks([case]) & (in_training if case.split == "val" else in_choosing)
    ]:
        raise LeakError(
            f"The runs learnt from, or were chosen by, lesions of {len(seen)} images that they are judged by, the "
            f"first is {seen[0]}.",
            remedy="Join runs of one split, or of its folds.",
        )
    told = [run.facts["training"] for run in runs]
    classes = first.recipe.model.classes
    return Run(
        name="+".join(run.name for run in runs),
        recipe=first.recipe.model_copy(
            update={
                "name": f"{first.recipe.name}-ensemble",
                "purpose": f"An ensemble of {len(runs)} networks: {', '.join(run.recipe.name for run in runs)}.",
                "model": first.recipe.model.model_copy(update={"backbone": " + ".join(backbones)}),
            }
        ),
        network=side_by_side([run.network for run in runs], [run.recipe.preprocess for run in runs]),
        predictions=predictions,
        cases=(*learnt, *judged),
        facts={
            **first.facts,
            "fold": None,
            "members": [f"{run.recipe.name}{_seed(run)}{_fold(run)}" for run in runs],
            "parameters": sum(run.facts["parameters"] for run in runs),
            "pretrained": "; ".join(dict.fromkeys(run.facts["pretrained"] for run in runs)),
            "training": training_facts(
                learnt,
                classes,
                audit_override=next(filter(None, (facts["audit_override"] for facts in told)), None),
                teachers=[*dict.fromkeys(name for facts in told for name in facts["teachers"])],
            ),
        },
    )


def _check_same_files(runs: Sequence[Run], judged: Sequence[Case]) -> None:
    for run in runs[1:]:
        theirs = {case.image_id: case.sha256 for case in run.cases}
        if other := [case.image_id for case in judged if case.sha256 != theirs[case.image_id]]:
            raise UsageError(
                f"{runs[0].name} and {run.name} were judged by {len(other)} images that are called alike and are other "
                f"files, the first is {other[0]}.",
                remedy="Join runs of one case table.",
            )


def _seed(run: Run) -> str:
    return f", seed {run.recipe.train.seed}" if run.facts["epochs"] else ""  # else it learnt nothing by it


def _fold(run: Run) -> str:
    return "" if run.facts["fold"] is None else f", fold {run.facts['fold']}"


def _mean_predictions(runs: Sequence[Run]) -> Predictions:
    """Of the images that every run was judged by, and calls by one split."""
    rows = [
        {(case.source, case.image_id, case.split): row for row, case in enumerate(run.predictions.cases)}
        for run in runs
    ]
    common = [key for key in rows[0] if all(key in of_run for of_run in rows)]
    if not common:
        raise UsageError(
            "No image was judged by every run.",
            remedy="Join runs of one split, or of folds that leave a part out, as `data split --fixed test` does.",
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
