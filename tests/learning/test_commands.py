"""The commands train, evaluate, export and assess, one after the other, on drawn lesions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w

from melascope.bundle.store import read_bundle
from melascope.datasets.table import write_cases
from melascope.domain.case import Case
from melascope.learning.recipe import Recipe


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, cases: list[Case]) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True)))
    write_cases(cases, tmp_path / "cases.csv")
    return tmp_path


def test_from_a_recipe_to_an_assessment(here: Path, melascope_cli: Callable, cases: list[Case]) -> None:
    trained = melascope_cli("train", "tiny.toml", "--cases", "cases.csv", "--set", "train.epochs=2")
    assert trained.status == 0, trained.err
    assert trained.out.count("epoch ") == 2
    evaluated = melascope_cli("evaluate", "runs/tiny", "--bootstrap", "20")
    assert evaluated.status == 0, evaluated.err
    assert (here / "runs" / "tiny" / "evaluation" / "report.html").exists()
    exported = melascope_cli(
        "export", "runs/tiny", "--without-novelty", "--bootstrap", "20", "--parity-images", "8"
    )
    assert exported.status == 0, exported.err
    bundle = read_bundle(here / "bundles" / "tiny.zip")
    assert bundle.manifest.licence.startswith("Not stated: ask the owner")
    assert "its figures are unknown" in bundle.card
    assert "Europe" not in bundle.card
    assert "are not recognised" in bundle.card  # it has no novelty
    assert "| Figure | test |" in bundle.card
    assessed = melascope_cli("assess", cases[0].path, "--bundle", "bundles/tiny.zip")
    assert assessed.status == 0, assessed.err
    assert bundle.id in assessed.out.replace("\n", "")


@pytest.mark.parametrize("out", [[], ["--out", "x.zip"]])
def test_a_folder_that_is_no_run_is_not_exported(here: Path, melascope_cli: Callable, out: list[str]) -> None:
    exported = melascope_cli("export", "runs/absent", *out)
    assert exported.status == 2
    assert "runs/absent: there is no such folder" in exported.err.replace("\n", " ")
    (here / "runs" / "absent").mkdir(parents=True)
    exported = melascope_cli("export", "runs/absent", *out)
    assert "runs/absent: recipe.toml is missing; this is no finished run" in exported.err.replace("\n", " ")


def test_a_name_that_no_bundle_can_have_is_refused_at_once(here: Path, melascope_cli: Callable) -> None:
    exported = melascope_cli("export", "runs/absent", "--name", "a/b")
    assert (exported.status, "--name is 'a/b'" in exported.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["tiny.toml"], 2, "--cases"),
        (["absent.toml", "--cases", "cases.csv"], 4, "absent.toml"),
        (["tiny.toml", "--cases", "absent.csv"], 4, "absent.csv"),
        (["tiny.toml", "--cases", "cases.csv", "--set", "train.epoch=3"], 4, "train.epoch"),
        (["tiny.toml", "--cases", "cases.csv", "--fold", "7"], 4, "There is no fold '7'"),
        (["tiny.toml", "--cases", "cases.csv", "--devices", "many"], 2, "--devices"),
        (["tiny.toml", "--cases", "cases.csv", "--resume"], 2, "no run to resume"),
    ],
)
def test_a_fault_is_told_in_words(
    here: Path, melascope_cli: Callable, arguments: list[str], status: int, said: str
) -> None:
    result = melascope_cli("train", *arguments)
    assert (result.status, "Traceback" in result.err) == (status, False), result.err
    assert said in result.err


def test_a_leaking_split_needs_a_reason_which_the_card_tells(
    here: Path, melascope_cli: Callable, cases: list[Case]
) -> None:
    leaking = [
        replace(case, lesion_id="one" if i % 25 == 0 else case.lesion_id) for i, case in enumerate(cases)
    ]
    write_cases(leaking, here / "leaking.csv")
    arguments = ["train", "tiny.toml", "--cases", "leaking.csv", "--set", "train.epochs=1"]
    assert melascope_cli(*arguments).status == 5
    assert not (here / "runs").exists()
    assert melascope_cli(*arguments, "--allow-leak", "a rehearsal").status == 0
    assert (
        melascope_cli(
            "export", "runs/tiny", "--without-novelty", "--bootstrap", "5", "--parity-images", "4"
        ).status
        == 0
    )
    card = read_bundle(here / "bundles" / "tiny.zip").card
    assert "a rehearsal" in card
    assert "No lesion, patient or file is on two sides" not in card


def test_every_key_of_a_recipe_is_listed(melascope_cli: Callable) -> None:
    listed = melascope_cli("train", "--help-recipe")
    assert listed.status == 0
    assert "loss.imbalance = 'logit-adjustment'" in listed.out
