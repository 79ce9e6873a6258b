"""A finished training run, read back from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from melascope.datasets.table import read_cases
from melascope.domain.case import Case
from melascope.errors import UsageError
from melascope.evaluation.predictions import Predictions, read_predictions
from melascope.learning.backbones import Classifier, build_network
from melascope.learning.parts import divide
from melascope.learning.recipe import Recipe, load_recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A finished training run, read back from its folder."""

    recipe: Recipe
    network: Classifier  #: on the CPU, float32, evaluation mode
    predictions: Predictions
    cases: tuple[Case, ...]  #: the split case table it was trained on
    facts: dict[str, Any]  #: run.json

    @property
    def learnt(self) -> tuple[Case, ...]:
        """The cases that it was trained on."""
        return divide(self.cases, self.facts.get("fold")).train


def load_run(folder: Path) -> Run:
    """Read a run.

    Raises
    ------
    UsageError
        A file of a finished run is missing.
    """
    for name in ("recipe.toml", "best.ckpt", "predictions.csv", "cases.csv", "run.json"):
        if not (folder / name).exists():
            raise UsageError(
                f"{folder}: {name} is missing; this is no finished run.",
                remedy="Finish it with `melascope train ... --resume`.",
            )
    recipe = load_recipe(folder / "recipe.toml")
    bare = recipe.model.model_copy(update={"weights": "none"})  # all weights are in the checkpoint
    network = build_network(bare, in_chans=recipe.preprocess.channels)
    state = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict(
        {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    )
    return Run(
        recipe=recipe,
        network=network.float().eval(),
        predictions=read_predictions(folder / "predictions.csv"),
        cases=tuple(read_cases(folder / "cases.csv")),
        facts=json.loads((folder / "run.json").read_text(encoding="utf-8")),
    )
