"""Which bundle answers: precedence, names, ids, paths, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from melascope.bundle import catalogue
from melascope.bundle.store import Bundle
from melascope.errors import BundleError

Make = Callable[..., Bundle]


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, empty; no embedded bundles."""
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, str(tmp_path / "mine"))
    monkeypatch.delenv(catalogue.BUNDLE_VARIABLE, raising=False)
    (tmp_path / "embedded").mkdir()
    monkeypatch.setattr(catalogue, "embedded_folder", lambda: tmp_path / "embedded")
    return tmp_path / "mine"


def test_without_any_bundle_the_error_says_what_to_do() -> None:
    assert catalogue.list_bundles() == []
    with pytest.raises(BundleError, match="no bundle 'melascope-small'") as caught:
        catalogue.load_bundle()
    assert "bundle install" in str(caught.value)


def test_precedence(mine: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = make_bundle(catalogue.embedded_folder() / "melascope-small.zip", name="melascope-small")
    bundles = {name: make_bundle(mine / f"{name}.zip", name=name) for name in ("chosen", "stated", "asked")}
    assert catalogue.load_bundle().id == embedded.id
    assert catalogue.use("chosen").id == bundles["chosen"].id
    assert catalogue.load_bundle().id == bundles["chosen"].id
    monkeypatch.setenv(catalogue.BUNDLE_VARIABLE, "stated")
    assert catalogue.load_bundle().id == bundles["stated"].id
    assert catalogue.load_bundle("asked").id == bundles["asked"].id
    assert catalogue.active().chosen_by == "the environment variable MELASCOPE_BUNDLE"


def test_a_bundle_is_found_by_name_id_and_path(mine: Path, tmp_path: Path, make_bundle: Make) -> None:
    installed = make_bundle(mine / "x.zip")
    elsewhere = make_bundle(tmp_path / "else" / "y", name="other")
    assert catalogue.load_bundle("tiny").id == catalogue.load_bundle(installed.id).id == installed.id
    assert catalogue.load_bundle(tmp_path / "else" / "y").id == elsewhere.id


def test_two_bundles_of_one_name_must_be_told_apart(mine: Path, make_bundle: Make) -> None:
    ids = [make_bundle(mine / "1.zip").id, make_bundle(mine / "2.zip", licence="MIT").id]
    with pytest.raises(BundleError, match="2 bundles are called 'tiny'") as caught:
        catalogue.load_bundle("tiny")
    assert all(found in str(caught.value) for found in ids)
    assert catalogue.load_bundle(ids[1]).id == ids[1]


def test_use_remembers_the_exact_bundle_even_if_the_name_gets_a_second(
    mine: Path, tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_bundle(mine / "1.zip")
    catalogue.use("tiny")
    make_bundle(mine / "2.zip", licence="MIT")
    assert catalogue.load_bundle().id == first.id
    away = make_bundle(tmp_path / "away.zip", name="away")
    monkeypatch.chdir(tmp_path)
    catalogue.use("away.zip")
    monkeypatch.chdir(mine)
    assert catalogue.load_bundle().id == away.id


def test_a_choice_that_is_gone_says_who_chose_it(mine: Path, make_bundle: Make) -> None:
    make_bundle(mine / "1.zip")
    catalogue.use("tiny")
    (mine / "1.zip").unlink()
    with pytest.raises(BundleError, match="chosen by `melascope bundle use`"):
        catalogue.load_bundle()


def test_a_damaged_bundle_is_listed_with_its_fault_and_cannot_be_used(mine: Path, make_bundle: Make) -> None:
    make_bundle(mine / "good.zip")
    (mine / "bad.zip").write_bytes(b"junk")
    listed = {entry.path.name: entry for entry in catalogue.list_bundles()}
    assert listed["good.zip"].fault is None
    assert "not a zip" in (listed["bad.zip"].fault or "")
    with pytest.raises(BundleError, match=r"bad\.zip"):
        catalogue.use("bad")
    assert catalogue.active().reference == catalogue.DEFAULT_NAME


def test_install_packs_a_folder_under_its_id(mine: Path, tmp_path: Path, make_bundle: Make) -> None:
    bundle = make_bundle(tmp_path / "folder")
    assert catalogue.install(tmp_path / "folder") == mine / f"{bundle.id}.zip"
    assert catalogue.load_bundle("tiny").id == bundle.id


def test_the_embedded_folder_is_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert (catalogue.embedded_folder() / "README.md").is_file()
