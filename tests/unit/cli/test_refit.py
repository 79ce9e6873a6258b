"""`melascope bundle refit`: the decision of a bundle, fitted anew on one's own cases."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import lesion
from markdown_it import MarkdownIt
from PIL import Image

from melascope.bundle.store import CAM_WEIGHT, Bundle, read_bundle, reference_bytes
from melascope.decision.calibration import METHODS
from melascope.errors import BundleError
from melascope.evaluation.holdout import fit_decision
from melascope.evaluation.predictions import read_predictions

Cli = Callable[..., Any]
N_MELANOMA, N_NEVUS = 45, 25


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn lesions, the melanomas among them darker."""
    folder = tmp_path_factory.mktemp("clinic")
    for n in range(N_MELANOMA + N_NEVUS):
        pixels = lesion(64, 48, seed=n)
        Image.fromarray(pixels // 2 if n < N_MELANOMA else pixels).save(folder / f"i{n:02}.png")
    return folder


@pytest.fixture
def cases(photographs: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a case table: `cases(rows=[0, 1], source="clinic", **columns)`."""

    def write(rows: Sequence[int] = range(N_MELANOMA + N_NEVUS), **columns: str) -> Path:
        path = tmp_path / "own.csv"
        header = ["image_id", "path", "diagnosis", *({"source": "clinic"} | columns)]
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for n in rows:
                known = "MEL" if n < N_MELANOMA else "NV"
                values = ({"source": "clinic"} | columns).values()
                writer.writerow([f"i{n:02}", photographs / f"i{n:02}.png", known, *values])
        return path

    return write


def test_the_decision_is_that_of_the_same_predictions(
    melascope_cli: Cli, cases: Callable[..., Path], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    table, out = cases(), tmp_path / "own.zip"
    done = melascope_cli("bundle", "refit", table, "--name", "own", "--out", out, "--bootstrap", 50)
    assert done.status == 0, done.err
    refitted = read_bundle(out)
    assert refitted.model == tiny_bundle.model
    assert np.array_equal(refitted.reference[CAM_WEIGHT], tiny_bundle.reference[CAM_WEIGHT])
    assert melascope_cli("predict", table, "--out", tmp_path / "p.csv").status == 0
    expected = fit_decision(read_predictions(tmp_path / "p.csv"))
    manifest = refitted.manifest
    assert manifest.calibration == expected.calibration
    assert manifest.operating_points == expected.operating_points
    assert manifest.conformal == expected.conformal
    assert manifest.calibration != tiny_bundle.manifest.calibration
    kept = ("classes", "architecture", "preprocess", "training", "licence", "attributions", "intended_use")
    assert all(getattr(manifest, field) == getattr(tiny_bundle.manifest, field) for field in kept)
    assert manifest.refit is not None
    assert manifest.refit.base == tiny_bundle.id
    assert manifest.refit.sources == {"clinic": N_MELANOMA + N_NEVUS}
    assert manifest.fitted_on == ()


def test_its_figures_come_from_the_command_that_it_names(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "own.zip"
    done = melascope_cli("bundle", "refit", cases(), "--name", "own", "--out", out)
    (measured,) = read_bundle(out).manifest.measurements
    assert measured.name == "clinic"
    program, *arguments = measured.command.split()
    assert program == "melascope"
    monkeypatch.chdir(tmp_path)
    again = json.loads(melascope_cli(*arguments, "--format", "json").out)["metrics"]
    for figure in ("melanoma_auroc", "balanced_accuracy"):
        assert measured.figures[figure].model_dump() == again["figures"][figure]
    told = again["operating_points"]["sensitivity-95"]["lesion_sensitivity"]
    assert measured.figures["lesion_sensitivity@sensitivity-95"].model_dump() == told
    assert f"{100 * told['value']:.1f} %" in done.out


def test_the_card_says_what_was_fitted_anew_and_keeps_the_one_before(
    melascope_cli: Cli, cases: Callable[..., Path], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "own.zip"
    assert melascope_cli("bundle", "refit", cases(), "--out", out, "--bootstrap", 0).status == 0
    card = read_bundle(out).card
    assert card.startswith("# tiny-refit\n")
    assert f"The network of `{tiny_bundle.id}`" in card
    assert f"## The card of {tiny_bundle.id}" in card
    assert "### Tiny\n\nFor tests." in card
    shown = melascope_cli("bundle", "show", out).out
    assert "fitted anew on 70 images: clinic 70" in " ".join(shown.split())


def test_its_default_operating_point_keeps_a_promise(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "own.zip"
    done = melascope_cli("bundle", "refit", cases(), "--out", out, "--bootstrap", 0)
    assert read_bundle(out).manifest.operating_point().guaranteed
    assert "sensitivity-95 promises: sensitivity at least 95 % with 90 % confidence" in done.out


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        (range(1, 70), "44 lesions with melanoma and 25 without"),
        (range(57), "45 lesions with melanoma and 12 without"),
    ],
)
def test_too_few_lesions_are_refused_with_their_number(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path, rows: range, counts: str
) -> None:
    done = melascope_cli("bundle", "refit", cases(rows), "--out", tmp_path / "own.zip")
    assert done.status == 2
    assert counts in done.err
    assert not (tmp_path / "own.zip").exists()


@pytest.mark.parametrize("split", ["", "train", "val", "3"])
def test_cases_such_as_the_bundle_has_seen_are_refused_but_for_a_reason(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path, split: str
) -> None:
    table, out = cases(source="drawn", split=split), tmp_path / "own.zip"
    done = melascope_cli("bundle", "refit", table, "--out", out)
    assert done.status == 5
    assert ": 70)" in done.err
    assert not out.exists()
    done = melascope_cli("bundle", "refit", table, "--out", out, "--bootstrap", 0, "--allow-leak", "a drill")
    assert done.status == 0
    refitted = read_bundle(out)
    assert refitted.manifest.refit is not None
    assert refitted.manifest.refit.allowed_leak == "a drill"
    assert (
        "**The network may have learnt from these cases**; they were used because: a drill." in refitted.card
    )


def test_unnamed_cases_are_refused_where_the_network_learnt_from_unnamed_ones(
    melascope_cli: Cli, cases: Callable[..., Path], make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    training = {
        "sources": {"unnamed": 10}, "n_images": 10, "n_groups": 10, "class_counts": {}, "fingerprint": "0" * 64,
    }  # fmt: skip
    make_bundle(tmp_path / "b.zip", training=training)
    line = (
        "bundle",
        "refit",
        cases(source=""),
        "--bundle",
        tmp_path / "b.zip",
        "--out",
        tmp_path / "own.zip",
    )
    done = melascope_cli(*line)
    assert (done.status, "no split, from unnamed: 70" in done.err) == (5, True)


def test_a_split_of_ones_own_is_not_taken_for_the_makers(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "own.zip"
    done = melascope_cli("bundle", "refit", cases(split="val"), "--split", "val", "--out", out)
    assert done.status == 0, done.err
    manifest = read_bundle(out).manifest
    assert manifest.fitted_on == ("val",)
    assert manifest.measurements[0].name == "clinic, val"


@pytest.mark.parametrize("columns", [{}, {"source": ""}, {"split": "val"}])
def test_what_it_was_fitted_on_does_not_judge_it(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path, columns: dict[str, str]
) -> None:
    out = tmp_path / "own.zip"
    assert melascope_cli("bundle", "refit", cases(**columns), "--out", out, "--bootstrap", 0).status == 0
    done = melascope_cli("evaluate", tmp_path / "own-predictions.csv", "--bundle", out, "--split", "all")
    assert done.status == 5
    out = tmp_path / "b.zip"  # the network has learnt from none of them: another refit is no leak
    again = melascope_cli("bundle", "refit", cases(**columns), "--bundle", tmp_path / "own.zip", "--out", out)
    assert again.status == 0, again.err


def test_a_photograph_that_cannot_be_read_is_left_out_and_told(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path
) -> None:
    table = cases()
    (tmp_path / "bad.png").write_bytes(b"junk")
    table.write_text(table.read_text() + f"bad,{tmp_path / 'bad.png'},NV,clinic\n")
    done = melascope_cli("bundle", "refit", table, "--out", tmp_path / "own.zip", "--bootstrap", 0)
    assert done.status == 3
    assert "1 images could not be read" in done.err
    assert "bad: " in done.err
    assert read_bundle(tmp_path / "own.zip").manifest.calibration.n_cases == N_MELANOMA + N_NEVUS


def test_cases_of_unknown_outcome_are_left_out_and_told(
    melascope_cli: Cli, cases: Callable[..., Path], photographs: Path, tmp_path: Path
) -> None:
    table = cases()
    table.write_text(table.read_text() + f"odd,{photographs / 'i00.png'},,clinic\n")
    done = melascope_cli("bundle", "refit", table, "--out", tmp_path / "own.zip", "--bootstrap", 0)
    assert done.status == 0
    assert "1 cases are left out" in done.err


def test_outcomes_alone_suffice(melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path) -> None:
    table = cases()
    rows = [line.replace(",MEL,", ",1,").replace(",NV,", ",0,") for line in table.read_text().splitlines()]
    table.write_text("\n".join(rows).replace("diagnosis", "melanoma", 1) + "\n")
    done = melascope_cli("bundle", "refit", table, "--out", tmp_path / "own.zip", "--bootstrap", 0)
    assert done.status == 0, done.err
    assert read_bundle(tmp_path / "own.zip").manifest.calibration.method in METHODS


def with_column(table: Path, name: str, value: Callable[[int], object]) -> Path:
    head, *rows = table.read_text().splitlines()
    table.write_text(
        "\n".join([f"{head},{name}", *(f"{row},{value(n)}" for n, row in enumerate(rows))]) + "\n"
    )
    return table


def test_what_the_cases_may_lack_is_told(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path
) -> None:
    line = ("--bootstrap", 0, "--out")
    err = " ".join(melascope_cli("bundle", "refit", cases(), *line, tmp_path / "a.zip").err.split())
    assert "70 of 70 images name no lesion and count as one each" in err
    assert "of BCC, AKIEC there are too few lesions to tell when they may be ruled out" in err
    assert "of 9 lesions of each at least" in err
    assert "62 % of the lesions are melanomas" in err
    named = with_column(cases(), "lesion_id", lambda n: f"l{n}")
    assert "name no lesion" not in melascope_cli("bundle", "refit", named, *line, tmp_path / "b.zip").err


def test_what_doctors_would_have_been_told_is_told(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path
) -> None:
    out = melascope_cli("bundle", "refit", cases(), "--bootstrap", 0, "--out", tmp_path / "a.zip").out
    (now,) = [line.split() for line in out.splitlines() if line.split()[:2] == ["benign", "before"]]
    assert sum(map(int, now[2:])) == N_NEVUS
    assert "95 % intervals" not in out


@pytest.mark.parametrize("patients", [1, 4, 12])
def test_too_few_patients_are_refused(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path, patients: int
) -> None:
    table = with_column(cases(), "patient_id", lambda n: f"p{n % patients if n < N_MELANOMA else n}")
    done = melascope_cli("bundle", "refit", table, "--out", tmp_path / "own.zip")
    assert (done.status, f"with melanoma are of {patients} patients" in done.err) == (2, True)


def test_one_file_as_two_lesions_is_refused(
    melascope_cli: Cli, cases: Callable[..., Path], photographs: Path, tmp_path: Path
) -> None:
    table = cases()
    table.write_text(table.read_text() + f"copy,{photographs / 'i60.png'},NV,clinic\n")
    done = melascope_cli("bundle", "refit", table, "--out", tmp_path / "own.zip")
    assert (done.status, "'i60' and 'copy' are the same file" in done.err) == (2, True)
    assert not list(tmp_path.glob("own*zip"))


def test_a_lesion_with_two_outcomes_is_refused(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path
) -> None:
    table = with_column(cases(), "lesion_id", lambda n: "both" if n in (3, 60) else f"l{n}")
    done = melascope_cli("bundle", "refit", table, "--out", tmp_path / "own.zip")
    assert (done.status, "1 lesions are called melanoma in one row and not in another" in done.err) == (
        2,
        True,
    )
    assert "'both' ('i03')" in done.err


def test_images_of_the_archive_under_another_name_are_refused(
    melascope_cli: Cli, cases: Callable[..., Path], make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    training = {
        "sources": {"ham10000": 10}, "n_images": 10, "n_groups": 10, "class_counts": {}, "fingerprint": "0" * 64,
    }  # fmt: skip
    make_bundle(tmp_path / "b.zip", training=training)
    table = cases()
    table.write_text(table.read_text().replace("\ni07,", "\nMEL/ISIC_0024310.jpg,"))
    line = ("bundle", "refit", table, "--bundle", tmp_path / "b.zip", "--out", tmp_path / "own.zip")
    done = melascope_cli(*line)
    assert (done.status, "1 are called as in the ISIC archive" in done.err) == (5, True)
    assert melascope_cli(*line, "--allow-leak", "taken in 2026", "--bootstrap", 0).status == 0


@pytest.mark.parametrize("reason", ["", "  ", "x\x1b[31m"])
def test_a_reason_that_says_nothing_is_refused(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path, reason: str
) -> None:
    for line in (("bundle", "refit", cases()), ("evaluate", tmp_path / "own.csv", "--bundle", "tiny")):
        done = melascope_cli(*line, "--allow-leak", reason, "--out", tmp_path / "own.zip")
        assert done.status == 2
        assert not (tmp_path / "own.zip").exists()


@pytest.mark.parametrize("column", ["source", "split"])
@pytest.mark.parametrize("value", ["Klinik\u00a0Nord", "a\u202eb"])
def test_names_that_cannot_be_printed_are_refused_before_the_work(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path, column: str, value: str
) -> None:
    done = melascope_cli("bundle", "refit", cases(**{column: value}), "--out", tmp_path / "own.zip")
    assert done.status == 2
    assert f"{column} of 'i00' is {value!r}" in done.err


def test_names_are_no_markdown(melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path) -> None:
    table = cases(source="[x](http://evil.example) *z*|")
    assert (
        melascope_cli("bundle", "refit", table, "--out", tmp_path / "own.zip", "--bootstrap", 0).status == 0
    )
    html = MarkdownIt("commonmark").enable("table").render(read_bundle(tmp_path / "own.zip").card)
    assert "<a " not in html
    assert "<em>" not in html
    assert "<th>[x](http://evil.example) *z*|</th>" in html


def test_nothing_that_is_there_is_replaced(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path
) -> None:
    table = cases().rename(tmp_path / "own-predictions.csv")
    before = table.read_bytes()
    done = melascope_cli("bundle", "refit", table, "--out", tmp_path / "own.zip")
    assert (done.status, "own-predictions.csv is there already" in done.err) == (2, True)
    assert table.read_bytes() == before
    base = tmp_path / "base.zip"
    base.write_bytes(b"mine")
    assert melascope_cli("bundle", "refit", table, "--out", base).status == 2
    assert base.read_bytes() == b"mine"
    for folder in (tmp_path, ".", "/"):
        assert melascope_cli("bundle", "refit", table, "--out", folder).status == 2


def test_a_bundle_that_cannot_be_written_leaves_no_predictions(
    melascope_cli: Cli, cases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise BundleError("full", remedy="Make room.")

    monkeypatch.setattr("melascope.cli.refitting.write_bundle", full)
    done = melascope_cli("bundle", "refit", cases(), "--out", tmp_path / "own.zip", "--bootstrap", 0)
    assert done.status == 6
    assert [path.name for path in tmp_path.glob("own*")] == ["own.csv"]


def test_a_bundle_of_other_operating_points_is_refitted_to_those_of_ours(
    melascope_cli: Cli,
    cases: Callable[..., Path],
    make_bundle: Callable[..., Bundle],
    tiny_bundle: Bundle,
    tmp_path: Path,
) -> None:
    (point, *_) = tiny_bundle.manifest.operating_points
    other = replace(point, name="screening")
    make_bundle(tmp_path / "b.zip", operating_points=(other,), default_operating_point="screening")
    line = (
        "bundle",
        "refit",
        cases(),
        "--bundle",
        tmp_path / "b.zip",
        "--bootstrap",
        0,
        "--out",
        tmp_path / "c.zip",
    )
    done = melascope_cli(*line)
    assert done.status == 0, done.err
    assert read_bundle(tmp_path / "c.zip").manifest.default_operating_point == "sensitivity-95"
    assert "sensitivity-95 now" in " ".join(done.out.split())


def test_an_unknown_split_and_an_impossible_name_are_refused(
    melascope_cli: Cli, cases: Callable[..., Path]
) -> None:
    done = melascope_cli("bundle", "refit", cases(), "--split", "mine")
    assert (done.status, "no case is of the split 'mine'; found (none) (70)" in done.err) == (2, True)
    assert melascope_cli("bundle", "refit", cases(), "--name", "My Own").status == 2


def test_the_limits_of_novelty_stay_unless_they_are_asked_for(
    melascope_cli: Cli,
    cases: Callable[..., Path],
    make_bundle: Callable[..., Bundle],
    tiny_bundle: Bundle,
    tmp_path: Path,
) -> None:
    done = melascope_cli("bundle", "refit", cases(), "--novelty", "--out", tmp_path / "own.zip")
    assert (done.status, "Leave --novelty out" in done.err) == (
        2,
        True,
    )  # the tiny bundle has no novelty model
    n_features = tiny_bundle.reference[CAM_WEIGHT].shape[1]
    arrays = {
        CAM_WEIGHT: np.asarray(tiny_bundle.reference[CAM_WEIGHT]),
        "novelty_embedding_weight": np.ones(n_features, np.float32),
        "novelty_appearance_weight": np.ones(28, np.float32),
        "novelty_bias": np.zeros(1, np.float32),
    }
    before = {
        "method": "ones", "unusual": 1e5, "foreign": 1e6, "false_alarm_unusual": 0.2, "false_alarm_foreign": 0.1,
        "n_images": 99,
    }  # fmt: skip
    base = make_bundle(
        tmp_path / "base.zip", files={"reference.npz": reference_bytes(arrays)}, novelty=before
    )
    for options, kept in (((), True), (("--novelty",), False)):
        out = tmp_path / f"own{kept}.zip"
        line = ("bundle", "refit", cases(), "--bundle", tmp_path / "base.zip", "--out", out, "--bootstrap", 0)
        done = melascope_cli(*line, *options)
        assert done.status == 0, done.err
        limits = read_bundle(out).manifest.novelty
        assert (limits == base.manifest.novelty) is kept
    assert limits is not None
    scores = read_predictions(tmp_path / "ownFalse-predictions.csv").novelty_N
    assert scores is not None
    assert limits.unusual <= limits.foreign < 1e5
    assert np.mean(scores > limits.unusual) <= 0.2
