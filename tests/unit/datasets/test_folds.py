"""Runs of a cross-validation become one table in which no network judges what it learnt from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from melascope.datasets.folds import join_folds
from melascope.datasets.table import write_cases
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import LeakError, MelascopeError, TableError, UsageError
from melascope.evaluation.predictions import Predictions, read_predictions, write_predictions

CLASSES = (Diagnosis.MEL, Diagnosis.NV)


def dealt(n: int = 60) -> list[Case]:
    """Three folds, a test part, and a part that is itself called "val"."""
    splits = ("0", "1", "2", "test", "val")
    return [
        Case(
            image_id=f"i{i:02}",
            path=f"/i{i}",
            diagnosis=CLASSES[i % 2],
            melanoma=i % 2 == 0,
            lesion_id=f"L{i}",
            source="drawn",
            split=splits[i % 5],
        )
        for i in range(n)
    ]


def write_run(
    folder: Path,
    fold: str | None,
    *,
    cases: list[Case] | None = None,
    classes: tuple[Diagnosis, ...] = CLASSES,
) -> Path:
    """As training leaves it: the fold's own rows are called "val", the logits tell which run gave them."""
    cases = cases or dealt()
    judged = [replace(c, split="val") if c.split == fold else c for c in cases]
    judged = [c for c in judged if not (c.split or "").isdecimal()]
    logits_NC = np.array([[float(fold or 0), *(i,) * (len(classes) - 1)] for i in range(len(judged))])
    table = Predictions(classes=classes, logits_NC=logits_NC, cases=tuple(judged))
    write_predictions(table, folder / "predictions.csv")
    write_cases(cases, folder / "cases.csv")
    (folder / "run.json").write_text(json.dumps({"fold": fold}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [write_run(tmp_path / fold, fold) for fold in "012"]


def test_each_case_of_a_fold_is_there_once_by_its_own_run(runs: list[Path]) -> None:
    joined, absent = join_folds(runs)
    assert absent == []
    fold_of = {case.image_id: case.split for case in dealt()}
    assert sorted(case.image_id for case in joined.cases) == sorted(
        i for i, s in fold_of.items() if s in "012"
    )
    assert [str(int(first)) for first in joined.logits_NC[:, 0]] == [
        fold_of[c.image_id] for c in joined.cases
    ]
    assert {case.split for case in joined.cases} == {"oof"}
    assert all(case.lesion_id and case.melanoma is not None for case in joined.cases)


def test_the_command_writes_the_table_and_tells_the_absent_fold(
    melascope_cli: Callable, runs: list[Path], tmp_path: Path
) -> None:
    done = melascope_cli("data", "join-folds", runs[0], runs[2], "--out", tmp_path / "new" / "oof.csv")
    assert done.status == 0, done.err
    assert "without fold 1," in done.err
    assert "24 predictions of 2 folds" in done.out
    assert {case.split for case in read_predictions(tmp_path / "new" / "oof.csv").cases} == {"oof"}


def refuse(error: type[MelascopeError], *runs: Path) -> str:
    with pytest.raises(error) as caught:
        join_folds(runs)
    return str(caught.value)


def test_what_is_no_cross_validation_is_refused(runs: list[Path], tmp_path: Path) -> None:
    assert "fold 1 is named twice" in refuse(UsageError, runs[1], write_run(tmp_path / "again", "1"))
    assert "was not trained with --fold" in refuse(UsageError, runs[0], write_run(tmp_path / "whole", None))
    redealt = [replace(c, split={"0": "1", "1": "0"}.get(str(c.split), c.split)) for c in dealt()]
    other = write_run(tmp_path / "other", "1", cases=redealt)
    assert "another split than" in refuse(UsageError, runs[0], other)
    classes = write_run(tmp_path / "classes", "1", classes=(*CLASSES, Diagnosis.BKL))
    assert "the classes are MEL, NV, BKL" in refuse(TableError, runs[0], classes)


@pytest.mark.parametrize("name", ["predictions.csv", "cases.csv", "run.json"])
def test_a_folder_that_is_no_finished_run_is_refused(runs: list[Path], name: str) -> None:
    (runs[1] / name).unlink()
    assert f"{name} is missing" in refuse(UsageError, *runs)


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_run_that_does_not_say_its_fold_is_refused(runs: list[Path], text: str) -> None:
    (runs[2] / "run.json").write_text(text)
    assert "which fold" in refuse(TableError, *runs)


def test_a_lesion_in_two_folds_is_refused(tmp_path: Path) -> None:
    leaking = [replace(case, lesion_id="L0") if case.image_id == "i01" else case for case in dealt()]
    runs = [write_run(tmp_path / fold, fold, cases=leaking) for fold in "01"]
    assert "L0" in refuse(LeakError, *runs)
