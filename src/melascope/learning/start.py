"""What a run takes from earlier runs, which must not have learnt from what it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from melascope.domain.case import Case
from melascope.errors import LeakError, RecipeError, UsageError
from melascope.learning.backbones import Classifier
from melascope.learning.run import Run, load_run


def start_from(folder: Path, network: Classifier, judged: Sequence[Case]) -> tuple[Case, ...]:
    """Give `network` the best weights of an earlier run.

    Parameters
    ----------
    judged
        The cases that the new run is validated or judged by.

    Returns
    -------
    tuple
        The cases that the earlier run learnt from.

    Raises
    ------
    RecipeError
        No finished run is there, or its network is another one.
    LeakError
        The earlier run learnt from a lesion or file of `judged`.
    """
    run = earlier_run("model.start_from", folder, judged)
    weights, own = run.network.state_dict(), network.state_dict()
    misfits = sorted(
        name for name in own.keys() | weights.keys()
        if name not in own or name not in weights or own[name].shape != weights[name].shape
    )  # fmt: skip
    if misfits:
        raise RecipeError(
            f"model.start_from: {len(misfits)} tensors of {folder} do not fit, the first is {misfits[0]!r}.",
            remedy="Go on with the same backbone, channels and classes.",
        )
    network.load_state_dict(weights)
    return run.learnt


def earlier_run(key: str, folder: Path, judged: Sequence[Case]) -> Run:
    """The run that a recipe's `key` names; raises as `start_from` does."""
    try:
        run = load_run(folder)
    except UsageError as fault:
        raise RecipeError(
            f"{key}: {fault.message}", remedy="Name the folder of a run that has ended."
        ) from fault
    learnt = marks(run.learnt)
    seen = [case.image_id for case in judged if learnt & marks([case])]
    if seen:
        raise LeakError(
            f"{key}: {folder} learnt from lesions of {len(seen)} images that this run is judged by, "
            f"the first is {seen[0]}.",
            remedy="Take a run of the same split.",
        )
    return run


def marks(cases: Sequence[Case]) -> set[str]:
    """Lesions, groups and files, by which cases are told to be the same."""
    return {mark for case in cases for mark in (case.vote, case.group, case.sha256) if mark}
