"""Going on from the network of an earlier run, which must not have learnt from what this one is judged by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from melascope.datasets.table import read_cases
from melascope.domain.case import Case
from melascope.errors import LeakError, RecipeError
from melascope.learning.backbones import Classifier
from melascope.learning.parts import divide


def start_from(run_folder: Path, network: Classifier, judged: Sequence[Case]) -> tuple[Case, ...]:
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
    try:
        cases = read_cases(run_folder / "cases.csv")
        facts = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))
        state = torch.load(run_folder / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    except FileNotFoundError as fault:
        raise RecipeError(
            f"model.start_from: {fault.filename} is missing; there is no finished run.",
            remedy="Name the folder of a run that has ended.",
        ) from fault
    learnt = divide(cases, facts.get("fold")).train
    _check_unseen(run_folder, learnt, judged)
    weights = {
        name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")
    }
    own = network.state_dict()
    misfits = sorted(
        name for name in own.keys() | weights.keys()
        if name not in own or name not in weights or own[name].shape != weights[name].shape
    )  # fmt: skip
    if misfits:
        raise RecipeError(
            f"model.start_from: {len(misfits)} tensors of {run_folder} do not fit, the first is {misfits[0]!r}.",
            remedy="Go on with the same backbone, channels and classes.",
        )
    network.load_state_dict(weights)
    return learnt


def _check_unseen(run_folder: Path, learnt: Sequence[Case], judged: Sequence[Case]) -> None:
    marks = {mark for case in learnt for mark in (case.vote, case.group, case.sha256) if mark}
    seen = [case.image_id for case in judged if marks & {case.vote, case.group, case.sha256}]
    if seen:
        raise LeakError(
            f"model.start_from: {run_folder} learnt from lesions of {len(seen)} images that this run is judged by, "
            f"the first is {seen[0]}.",
            remedy="Go on from a run of the same split.",
        )
