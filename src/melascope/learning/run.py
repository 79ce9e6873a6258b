"""A finished training run: what is told of it, and how it is read back from its folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from melascope.datasets.table import read_cases
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import UsageError
from melascope.evaluation.predictions import Predictions, read_predictions
from melascope.learning.backbones import Classifier, build_network
from melascope.learning.losses import allowed_classes, class_counts
from melascope.learning.parts import divide
from melascope.learning.recipe import Recipe, load_recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A finished training run: what is told of it, and how it is read back from its folder."""

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


def training_facts(
    train: Sequence[Case], classes: Sequence[Diagnosis], audit_override: str | None
) -> dict[str, Any]:
    """What is told of the cases that were learnt from, in run.json and the manifest."""
    counts_C = class_counts(allowed_classes(train, classes))
    digests = sorted(case.sha256 or "" for case in train)
    return {
        "sources": dict(Counter(case.source or "unnamed" for case in train)),
        "n_images": len(train),
        "n_groups": len({case.group for case in train}),
        "class_counts": {str(c): sum(case.diagnosis is c for case in train) for c in classes},
        "coarse_labels": sum(case.diagnosis not in classes for case in train),
        "expected_class_counts": {str(c): round(float(n), 1) for c, n in zip(classes, counts_C, strict=True)},
        "fingerprint": sha256("\n".join(digests).encode()).hexdigest(),
        "audit_override": audit_override,
    }
