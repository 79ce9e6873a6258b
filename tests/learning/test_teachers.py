"""Distillation: who teaches what, and that it is learnt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import LeakError, RecipeError
from melascope.learning.earlier import teachers_of
from melascope.learning.fit import RunOptions, fit
from melascope.learning.parts import Parts, divide
from melascope.learning.recipe import DistillationPart, LossPart, Recipe, parse_recipe
from melascope.learning.run import load_run
from melascope.learning.teachers import Teachers


def taught(recipe: Recipe, *teachers: Path, **options: float) -> Recipe:
    part = DistillationPart(teachers=tuple(map(str, teachers)), **options)
    augment = recipe.augment.model_copy(update={"mixup_alpha": 0.0, "cutmix_alpha": 0.0})
    return recipe.model_copy(update={"distillation": part, "augment": augment})


def teachers_for(recipe: Recipe, train: Sequence[Case], parts: Parts) -> Teachers:
    return Teachers(recipe, train, teachers_of(recipe, parts))


def train(recipe: Recipe, cases: list[Case], folder: Path, *, epochs: int, fold: str | None = None) -> Path:
    short = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": epochs})})
    options = RunOptions(
        folder=folder, cache_folder=folder.parent / "cache", accelerator="cpu", devices="1", fold=fold
    )
    return fit(short, cases, options)


@pytest.fixture(scope="module")
def dealt(cases: list[Case]) -> list[Case]:
    """The training lesions in two folds, the others as they are but for `val`."""
    fold = {c.lesion_id: str(n // 2 % 2) for n, c in enumerate(c for c in cases if c.split == "train")}
    return [replace(c, split=fold.get(c.lesion_id, "test")) for c in cases]


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe, dealt: list[Case]) -> tuple[Path, Path]:
    """Two runs, each of the other fold; the second sees pixels of another mean and spread."""
    folder = tmp_path_factory.mktemp("folds")
    other = recipe.model_copy(
        update={"preprocess": replace(recipe.preprocess, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))}
    )
    return (
        train(recipe, dealt, folder / "first", epochs=3, fold="0"),
        train(other, dealt, folder / "second", epochs=3, fold="1"),
    )


def test_each_case_is_taught_by_the_fold_that_has_not_learnt_it(
    recipe: Recipe, cases: list[Case], dealt: list[Case], folds: tuple[Path, Path]
) -> None:
    parts = divide(cases, None)
    train_cases = [c for c in dealt if c.split in {"0", "1"}]
    teachers = teachers_for(taught(recipe, *folds), train_cases, parts)
    rows_N = torch.arange(0, len(train_cases), 7)
    views = torch.rand(len(rows_N), 3, 28, 28)
    runs = [load_run(folder) for folder in folds]
    seen = []
    for run in runs:
        spec = run.recipe.preprocess
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
        with torch.no_grad():
            seen.append(run.network((views - mean) / std).logits)
    wanted = torch.stack([seen[int(train_cases[row].split)][n] for n, row in enumerate(rows_N)])
    assert {train_cases[row].split for row in rows_N} == {"0", "1"}
    torch.testing.assert_close(teachers.logits((views - 0.5) / 0.25, rows_N), wanted, atol=1e-4, rtol=1e-4)


def test_what_all_have_learnt_all_teach(recipe: Recipe, cases: list[Case], tmp_path: Path) -> None:
    parts = divide(cases, None)
    other = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": 2})})
    runs = [train(asked, cases, tmp_path / name, epochs=1) for name, asked in (("a", recipe), ("b", other))]
    teachers = teachers_for(taught(recipe, *runs), parts.train, parts)
    pixels = torch.randn(4, 3, 28, 28)
    with torch.no_grad():
        wanted = torch.stack([load_run(run).network(pixels).logits for run in runs]).mean(dim=0)
    torch.testing.assert_close(teachers.logits(pixels, torch.arange(4)), wanted)


def test_the_loss_is_the_divergence_from_what_the_teachers_say(
    recipe: Recipe, cases: list[Case], dealt: list[Case], folds: tuple[Path, Path]
) -> None:
    train_cases = [c for c in dealt if c.split in {"0", "1"}]
    parts = divide(cases, None)
    pixels, rows_N = torch.randn(6, 3, 28, 28), torch.arange(6)
    answer_NC, hard_N = torch.randn(6, 3), torch.rand(6)
    teachers = teachers_for(taught(recipe, *folds, weight=0.3, temperature=4.0), train_cases, parts)
    said_NC = teachers.logits(pixels, rows_N)
    p, q = (log_softmax(v.numpy() / 4.0, axis=1) for v in (said_NC, answer_NC))
    wanted = 0.7 * hard_N.numpy() + 0.3 * 16.0 * (np.exp(p) * (p - q)).sum(axis=1)
    np.testing.assert_allclose(teachers.mix(hard_N, answer_NC, pixels, rows_N), wanted, rtol=1e-4, atol=1e-5)
    alone = teachers_for(taught(recipe, *folds, weight=1.0), train_cases, parts)
    torch.testing.assert_close(alone.mix(hard_N, said_NC, pixels, rows_N), torch.zeros(6), atol=1e-5, rtol=0)


def test_a_student_learns_without_a_label_what_its_teachers_know(
    recipe: Recipe, cases: list[Case], folds: tuple[Path, Path], tmp_path: Path
) -> None:
    unlabelled = [
        replace(c, diagnosis=Diagnosis.UNK, melanoma=None) if c.split == "train" else c for c in cases
    ]
    run = load_run(train(taught(recipe, *folds, weight=1.0), unlabelled, tmp_path / "student", epochs=5))
    assert run.facts["teachers"] == [str(folder) for folder in folds]
    known = [n for n, c in enumerate(run.predictions.cases) if c.diagnosis in run.predictions.classes]
    right = [
        run.predictions.classes[run.predictions.logits_NC[n].argmax()] is run.predictions.cases[n].diagnosis
        for n in known
    ]
    assert np.mean(right) > 0.8
    state = torch.load(tmp_path / "student" / "best.ckpt", map_location="cpu", weights_only=True)[
        "state_dict"
    ]
    assert {name.partition(".")[0] for name in state} == {
        "network",
        "_call",
    }  # the same tensors twice, no teacher
    assert json.loads((folds[0] / "run.json").read_text())["teachers"] == []


def test_teachers_that_know_what_is_judged_are_refused(
    recipe: Recipe, dealt: list[Case], folds: tuple[Path, Path]
) -> None:
    own = divide(dealt, "0")
    with pytest.raises(
        LeakError, match=r"distillation\.teachers: .*second learnt from, or was chosen by, lesions of 90"
    ):
        teachers_of(taught(recipe, *folds), own)


def test_teachers_that_do_not_fit_are_refused(
    recipe: Recipe, cases: list[Case], folds: tuple[Path, Path], tmp_path: Path
) -> None:
    parts = divide(cases, None)
    with pytest.raises(RecipeError, match=r"distillation\.teachers: .*no finished run"):
        teachers_for(taught(recipe, tmp_path), parts.train, parts)
    fewer = recipe.model_copy(
        update={"model": recipe.model.model_copy(update={"classes": recipe.model.classes[::-1]})}
    )
    with pytest.raises(
        RecipeError,
        match=r"second has model.classes MEL, NV, BKL, this run BKL, NV, MEL|first has model.classes",
    ):
        teachers_for(taught(fewer, *folds), parts.train, parts)
    other = taught(recipe.model_copy(update={"loss": LossPart(imbalance="none")}), *folds)
    with pytest.raises(RecipeError, match=r"has loss\.imbalance logit-adjustment, this run none"):
        teachers_for(other, parts.train, parts)
    gray = recipe.model_copy(update={"preprocess": replace(recipe.preprocess, colour="shades_of_gray")})
    with pytest.raises(RecipeError, match=r"has preprocess\.colour rgb, this run shades_of_gray"):
        teachers_for(taught(gray, *folds), parts.train, parts)


def test_two_cases_in_one_view_are_not_taught(recipe: Recipe) -> None:
    values = recipe.model_dump(mode="json", exclude_none=True) | {"distillation": {"teachers": ["runs/one"]}}
    with pytest.raises(RecipeError, match=r"augment\.cutmix_alpha must be 0 with distillation\.teachers"):
        parse_recipe(values, name="mixed")
    values["augment"] |= {"mixup_alpha": 0, "cutmix_alpha": 0}
    assert parse_recipe(values, name="apart").distillation.teachers == ("runs/one",)
