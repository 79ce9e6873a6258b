"""A finished training run: what is told of it, and how it is read back from its folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from melascope.datasets.table import read_cases
from melascope.domain.case import UNNAMED, Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import UsageError
from melascope.evaluation.predictions import Predictions, read_predictions
from melascope.learning.backbones import Classifier, build_network
from melascope.learning.losses import allowed_classes, class_counts
from melascope.learning.parts import trained_on, validated_on
from melascope.learning.recipe import Recipe, load_recipe

EARLIER = (
    "earlier.csv"  #: in a run's folder, where it has earlier runs: what these learnt from and were chosen by
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A finished training run."""

    name: str  #: of its folder
    recipe: Recipe
    network: Classifier  #: on the CPU, float32, evaluation mode
    predictions: Predictions
    cases: tuple[Case, ...]  #: the split case table it was trained on
    facts: dict[str, Any]  #: run.json
    earlier: tuple[Case, ...] = ()  #: see `known_of`

    @property
    def learnt(self) -> list[Case]:
        """The cases that it, or a run it came from, was trained on."""
        own = trained_on(self.cases, self.facts["fold"])
        return distinct(own, (case for case in self.earlier if case.split == "train"))

    @property
    def chosen_by(self) -> list[Case]:
        """The cases by which its epoch, or that of a run it came from, was chosen."""
        own = validated_on(self.cases, self.facts["fold"])
        return distinct(own, (case for case in self.earlier if case.split == "val"))


def check_finished(folder: Path) -> None:
    """Raise a UsageError if a file of a finished run is missing."""
    if not folder.exists():
        raise UsageError(f"{folder}: there is no such folder.", remedy="Name the folder of a finished run.")
    for name in ("recipe.toml", "best.ckpt", "predictions.csv", "cases.csv", "run.json"):
        if not (folder / name).exists():
            raise UsageError(
                f"{folder}: {name} is missing; this is no finished run.",
                remedy="Finish it with `melascope train ... --resume`.",
            )


def load_run(folder: Path) -> Run:
    """Read a run.

    Raises
    ------
    UsageError
        A file of a finished run is missing.
    """
    check_finished(folder)
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    has_earlier = bool(facts["start_from"] or facts["teachers"])
    if has_earlier and not (folder / EARLIER).exists():
        raise UsageError(
            f"{folder}: {EARLIER} is missing, which says what the runs before it learnt from.",
            remedy="Copy the whole folder of the run, or train it again.",
        )
    recipe = load_recipe(folder / "recipe.toml")
    bare = recipe.model.model_copy(update={"weights": "none"})  # all weights are in the checkpoint
    network = build_network(bare, in_chans=recipe.preprocess.channels)
    state = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict(
        {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    )
    return Run(
        name=folder.resolve().name,
        recipe=recipe,
        network=network.float().eval(),
        predictions=read_predictions(folder / "predictions.csv"),
        cases=tuple(read_cases(folder / "cases.csv")),
        facts=facts,
        earlier=tuple(read_cases(folder / EARLIER)) if has_earlier else (),
    )


def known_of(runs: Sequence[Run]) -> tuple[Case, ...]:
    """What runs learnt from, as `train`, and were chosen by, as `val`."""
    learnt = [replace(case, split="train") for run in runs for case in run.learnt]
    chosen_by = [replace(case, split="val") for run in runs for case in run.chosen_by]
    known, names = distinct(learnt, chosen_by), set[str]()
    for number, case in enumerate(known):  # a table names no two cases alike, two datasets may
        if case.image_id in names:
            known[number] = replace(case, image_id=f"{case.image_id} of {case.source}")
        names.add(known[number].image_id)
    return tuple(known)


def distinct(*tables: Iterable[Case]) -> list[Case]:
    """The cases of several tables, each as it stands in the first."""
    kept: dict[tuple[str | None, str], Case] = {}
    for case in chain(*tables):
        kept.setdefault((case.source, case.image_id), case)
    return list(kept.values())


def training_facts(
    train: Sequence[Case],
    classes: Sequence[Diagnosis],
    *,
    audit_override: str | None,
    teachers: Sequence[str],
) -> dict[str, Any]:
    """What is told of the cases that were learnt from, here or by earlier runs, in run.json and the manifest."""
    counts_C = class_counts(allowed_classes(train, classes))
    digests = sorted(case.sha256 or "" for case in train)
    return {
        "sources": dict(Counter(case.source or UNNAMED for case in train)),
        "n_images": len(train),
        "n_groups": len({case.group for case in train}),
        "class_counts": {str(c): sum(case.diagnosis is c for case in train) for c in classes},
        "coarse_labels": sum(case.diagnosis not in classes for case in train),
        "expected_class_counts": {str(c): round(float(n), 1) for c, n in zip(classes, counts_C, strict=True)},
        "fingerprint": sha256("\n".join(digests).encode()).hexdigest(),
        "audit_override": audit_override,
        "teachers": list(teachers),
    }
