"""`melascope predict`: whole folders and tables, interrupted and taken up again."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn import encode, lesion
from PIL import Image

from melascope.bundle.store import Bundle
from melascope.cli import predict
from melascope.cli.predict import FORMATS
from melascope.decision.prevalence import at_prevalence
from melascope.domain.diagnosis import Diagnosis
from melascope.evaluation.predictions import read_predictions
from melascope.interop.isic_submission import FORMATS as SUBMISSIONS

Cli = Callable[..., object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """22 images, two of them bad."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(20):
        pixels = lesion(200, 150, seed=seed)
        Image.fromarray(pixels).save(folder / f"i{seed:02}.png")
    (folder / "i05b.png").write_bytes(b"junk")
    (folder / "i17b.png").touch()
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_choices_are_those_that_can_be_written() -> None:
    assert set(FORMATS) == {"predictions", "csv", *SUBMISSIONS}


def test_good_images_are_scored_in_order_and_bad_ones_listed(
    melascope_cli: Cli, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "p.csv"
    done = melascope_cli("predict", folder, "--out", out)
    assert done.status == 3
    assert done.out == ""
    assert "20 images scored" in done.err
    predictions = read_predictions(out)
    assert [case.image_id for case in predictions.cases] == [f"i{n:02}" for n in range(20)]
    assert predictions.classes[0] is Diagnosis.MEL
    assert [(row["image_id"], row["code"]) for row in rows(tmp_path / "out" / "p.csv.errors.csv")] == [
        ("i05b", "image-not-an-image"),
        ("i17b", "image-empty"),
    ]
    assert names(tmp_path / "out") == {"p.csv", "p.csv.errors.csv"}


def test_errors_of_earlier_work_do_not_linger(melascope_cli: Cli, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    melascope_cli("predict", folder, "--out", out)
    for bad in ("i05b.png", "i17b.png"):
        (folder / bad).unlink()
    assert melascope_cli("predict", folder, "--out", out).status == 0
    assert not (tmp_path / "p.csv.errors.csv").exists()


def test_submissions_hold_calibrated_probabilities_at_the_prior(
    melascope_cli: Cli, folder: Path, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    tables = {}
    for name, options in {
        "logits": (),
        "trained": ("--format", "isic2018"),
        "even": ("--format", "isic2018", "--prior", "uniform"),
    }.items():
        melascope_cli("predict", folder, "--out", tmp_path / f"{name}.csv", *options)
    logits_NC = read_predictions(tmp_path / "logits.csv").logits_NC
    for name in ("trained", "even"):
        found = rows(tmp_path / f"{name}.csv")
        tables[name] = np.array([[float(v) for k, v in row.items() if k != "image"] for row in found])
        assert list(found[0]) == ["image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    calibration = tiny_bundle.manifest.calibration
    np.testing.assert_allclose(tables["trained"], calibration.probabilities(logits_NC), rtol=1e-12)
    even_NC = at_prevalence(
        calibration.log_probabilities(logits_NC), fitted_C=calibration.prevalence_C, wanted_C=(1 / 7,) * 7
    )
    np.testing.assert_allclose(tables["even"], even_NC, rtol=1e-12)


def test_a_row_has_the_decision_and_its_reasons(
    melascope_cli: Cli, folder: Path, tmp_path: Path, make_bundle: Callable[..., Bundle], tiny_fields
) -> None:  # type: ignore[no-untyped-def]
    calibration = tiny_fields()["calibration"] | {"bias_C": (-30.0, 0.0, 30.0, 0.0, 0.0, 0.0, 0.0)}
    make_bundle(tmp_path / "carcinoma.zip", calibration=calibration)
    options = ("--format", "csv", "--bundle", tmp_path / "carcinoma.zip")
    melascope_cli("predict", folder, "--out", tmp_path / "p.csv", *options)
    for row in rows(tmp_path / "p.csv"):
        assert row["decision"] == "uncertain"
        assert row["reasons"].startswith("malignancy-not-excluded")
    melascope_cli("predict", folder, "--out", tmp_path / "q.csv", "--format", "csv")
    for row in rows(tmp_path / "q.csv"):
        shares = {n.removeprefix("probability_"): float(v) for n, v in row.items() if n.startswith("prob")}
        owed = row["decision"] != "refer" and Diagnosis(max(shares, key=lambda n: shares[n])).malignant
        assert ("malignancy-not-excluded" in row["reasons"].split()) is owed


def test_a_case_table_keeps_its_order_and_its_columns(
    melascope_cli: Cli, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "cases.csv"
    table.write_text(
        "image_id,path,diagnosis,lesion_id,split\n"
        "second,images/i02.png,NV,L2,test\nfirst,images/i01.png,MEL,L1,val\ngone,images/absent.png,MEL,L3,val\n"
    )
    assert melascope_cli("predict", table, "--out", tmp_path / "p.csv").status == 3
    cases = read_predictions(tmp_path / "p.csv").cases
    assert [(c.image_id, c.diagnosis, c.lesion_id, c.split) for c in cases] == [
        ("second", Diagnosis.NV, "L2", "test"),
        ("first", Diagnosis.MEL, "L1", "val"),
    ]
    assert rows(tmp_path / "p.csv.errors.csv")[0]["image_id"] == "gone"


@pytest.mark.parametrize("format_name", ["predictions", "csv", "isic2019"])
@pytest.mark.parametrize("stop_at", [0, 1, 9, 15, 21])
def test_interrupted_work_taken_up_equals_uninterrupted_work(
    melascope_cli: Cli,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format_name: str,
    stop_at: int,
) -> None:
    options = ("--format", format_name, "--batch-size", "4")
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    melascope_cli("predict", folder, "--out", whole, *options)
    loaded: list[str] = []
    load = predict.load_case

    def load_until(case, limits):  # type: ignore[no-untyped-def]
        loaded.append(case.image_id)
        if case.image_id == sorted(path.stem for path in folder.iterdir())[stop_at]:
            raise KeyboardInterrupt
        return load(case, limits)

    monkeypatch.setattr(predict, "load_case", load_until)
    assert melascope_cli("predict", folder, "--out", cut, *options).status == 130
    assert not cut.exists()
    with (tmp_path / "cut.csv.partial").open("ab") as partial:
        partial.write(b"i99,torn li")  # as if killed while writing
    monkeypatch.setattr(
        predict, "load_case", lambda case, limits: loaded.append(case.image_id) or load(case, limits)
    )
    loaded.clear()
    assert melascope_cli("predict", folder, "--out", cut, *options).status == 3
    assert cut.read_bytes() == whole.read_bytes()
    assert Path(f"{cut}.errors.csv").read_bytes() == Path(f"{whole}.errors.csv").read_bytes()
    assert len(loaded) == 22 - stop_at // 4 * 4
    assert names(tmp_path) == {"images", "whole.csv", "whole.csv.errors.csv", "cut.csv", "cut.csv.errors.csv"}


def interrupt(melascope_cli: Cli, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_case, _limits):  # type: ignore[no-untyped-def]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(predict, "load_case", stop)
        assert melascope_cli("predict", folder, "--out", out).status == 130


def test_work_with_other_options_or_images_is_not_taken_up(
    melascope_cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.csv"
    interrupt(melascope_cli, folder, out, monkeypatch)
    other = melascope_cli("predict", folder, "--out", out, "--format", "csv")
    assert other.status == 2
    assert "another format" in other.err
    (folder / "i00.png").unlink()
    other = melascope_cli("predict", folder, "--out", out)
    assert "another set of images" in other.err
    assert melascope_cli("predict", folder, "--out", out, "--restart").status == 3
    assert len(rows(out)) == 19


@pytest.mark.parametrize("change", ["replaced", "touched", "gone", "come"])
def test_work_is_not_taken_up_when_an_image_was_changed_since(
    melascope_cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    out, image = tmp_path / "p.csv", folder / "i03.png"
    table = tmp_path / "cases.csv"
    table.write_text("image_id,path\n" + "".join(f"i{n:02},images/i{n:02}.png\n" for n in range(20)))
    if change == "come":
        image.rename(tmp_path / "elsewhere")
    interrupt(melascope_cli, table, out, monkeypatch)
    match change:
        case "replaced":
            image.write_bytes((folder / "i04.png").read_bytes())
        case "touched":
            os.utime(image, ns=(0, 0))
        case "gone":
            image.unlink()
        case "come":
            (tmp_path / "elsewhere").rename(image)
    done = melascope_cli("predict", table, "--out", out)
    assert done.status == 2
    assert f"{image} was changed since" in done.err
    assert "--restart" in done.err
    assert not out.exists()
    assert melascope_cli("predict", table, "--out", out, "--restart").status == (3 if change == "gone" else 0)
    assert names(tmp_path) <= {"images", "cases.csv", "p.csv", "p.csv.errors.csv"}


@pytest.mark.parametrize("format_name", FORMATS)
def test_file_names_bring_no_control_characters_into_a_table(
    melascope_cli: Cli, tmp_path: Path, format_name: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in (b"esc\x1b[2Jape.png", b"new\nline.png", b"not-utf8-\xff.png"):
        (folder / os.fsdecode(name)).write_bytes(encode(lesion(), "PNG"))
        (folder / os.fsdecode(b"bad" + name)).touch()
    out = tmp_path / "p.csv"
    assert melascope_cli("predict", folder, "--out", out, "--format", format_name).status == 3
    ids = [next(iter(row.values())) for row in rows(out)]
    assert ids == ["esc\\x1b[2Jape", "new\\nline", "not-utf8-\\udcff"]
    for path in (out, tmp_path / "p.csv.errors.csv"):
        assert all(character.isprintable() for line in path.read_text().split("\n") for character in line)


@pytest.mark.parametrize("damage", ["progress", "table", "errors", "inputs"])
def test_damaged_work_is_not_taken_up(
    melascope_cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    out = tmp_path / "p.csv"
    interrupt(melascope_cli, folder, out, monkeypatch)
    suffix = {
        "progress": ".progress.json",
        "table": ".partial",
        "errors": ".errors.csv.partial",
        "inputs": ".inputs.partial",
    }[damage]
    Path(f"{out}{suffix}").write_bytes(b"")
    done = melascope_cli("predict", folder, "--out", out)
    assert done.status == 2
    assert "--restart" in done.err
    assert melascope_cli("predict", folder, "--out", out, "--restart").status == 3


def test_two_images_of_one_id_are_refused_before_any_work(
    melascope_cli: Cli, folder: Path, tmp_path: Path
) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "i03.jpg").touch()
    done = melascope_cli("predict", folder, "--out", tmp_path / "p.csv")
    assert done.status == 2
    assert "Two images have the id 'i03'" in done.err
    assert names(tmp_path) == {"images"}


@pytest.mark.parametrize(
    ("source", "options", "status", "message"),
    [
        ("absent", (), 2, "neither a folder nor a CSV file"),
        ("images", ("--prior", "uniform"), 2, "has no meaning"),
        ("images", ("--out", "/dev/null/p.csv"), 2, "cannot be written"),
        ("images", ("--bundle", "nope"), 6, "no bundle"),
    ],
)
def test_wrong_options_end_with_a_message(
    melascope_cli: Cli,
    folder: Path,
    tmp_path: Path,
    source: str,
    options: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    done = melascope_cli("predict", tmp_path / source, "--out", tmp_path / "p.csv", *options)
    assert done.status == status
    assert message in done.err


def test_a_table_is_written_by_one_run_at_a_time(tmp_path: Path) -> None:
    from melascope.cli.resumable_table import ResumableTable
    from melascope.errors import UsageError

    def begin() -> ResumableTable:
        return ResumableTable(tmp_path / "p.csv", columns=["a"], identity={})

    with begin() as table:
        with pytest.raises(UsageError, match="another run is writing"):
            begin()
        table.append([["1"]], [], done=1)
        table.finish()
    assert (tmp_path / "p.csv").read_text() == "a\n1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv"]
    with begin():
        pass


def test_output_over_an_input_or_a_device_is_refused(
    tmp_path: Path, melascope_cli: Callable, tiny_bundle_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode(lesion(), "PNG"))
    os.mkfifo(tmp_path / "pipe")
    for out in (folder / "a.png", tiny_bundle_path, tmp_path / "pipe"):
        before = out.read_bytes() if out.is_file() else None
        result = melascope_cli("predict", folder, "--bundle", tiny_bundle_path, "--out", out)
        assert result.status == 2, result.err
        assert before is None or out.read_bytes() == before


def test_a_link_to_itself_is_one_bad_image(tmp_path: Path, melascope_cli: Callable) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode(lesion(), "PNG"))
    (folder / "self.jpg").symlink_to("self.jpg")
    result = melascope_cli("predict", folder, "--out", tmp_path / "p.csv")
    assert result.status == 3
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 2
    assert "self.jpg" in (tmp_path / "p.csv.errors.csv").read_text()
