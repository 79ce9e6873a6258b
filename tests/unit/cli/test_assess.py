"""`melascope assess`, as its user runs it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn import lesion
from PIL import Image

from melascope.bundle.store import CAM_WEIGHT, reference_bytes
from melascope.runtime.assessment_json import from_json

Cli = Callable[..., object]


def draw(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(lesion(200, 150, seed=seed)).save(path, format="PNG")
    return path


def test_one_image_gets_a_table_with_reasons(melascope_cli: Cli, tmp_path: Path) -> None:
    done = melascope_cli("assess", draw(tmp_path / "lesion.png"))
    assert (done.status, done.err) == (0, "")
    for expected in ("lesion.png", "the threshold of", "Bundle tiny@", "it knows nothing of skin"):
        assert expected in done.out


def test_json_holds_assessments_and_problems(melascope_cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "empty.png").touch()
    done = melascope_cli("assess", tmp_path / "in", tmp_path / "absent.jpg", "--format", "json")
    assert done.status == 3
    report = json.loads(done.out)
    (assessment,) = (from_json(json.dumps(item)) for item in report["assessments"])
    assert assessment.images[0].name == str(tmp_path / "in" / "good.png")
    assert assessment.bundle_id == report["bundle_id"]
    assert [(Path(p["name"]).name, p["code"]) for p in report["problems"]] == [
        ("empty.png", "image-empty"),
        ("absent.jpg", "image-unreadable-path"),
    ]
    assert all(p["remedy"] for p in report["problems"])
    assert "empty.png" in done.err
    assert "absent.jpg" in done.err


def test_csv_cells_are_no_formulas(
    melascope_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "=cmd()|'x'!A1.png")
    done = melascope_cli("assess", "=cmd()|'x'!A1.png", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert row["image"] == "'=cmd()|'x'!A1.png"
    classes = [name for name in row if name.startswith("probability_")]
    assert sum(float(row[name]) for name in classes) == pytest.approx(1)
    assert row["melanoma_probability"] == row["probability_MEL"]


def test_heatmaps_of_one_name_do_not_overwrite_each_other(melascope_cli: Cli, tmp_path: Path) -> None:
    paths = [
        draw(tmp_path / name, seed)
        for seed, name in enumerate(("a/x.png", "b/x.png", "b/X.bmp", "c/x-2.png"))
    ]
    done = melascope_cli("assess", *paths, "--heatmap", tmp_path / "maps", "--format", "json")
    files = [Path(file) for file in json.loads(done.out)["heatmap_files"]]
    assert len({str(file).casefold() for file in files}) == 4 == len(list((tmp_path / "maps").iterdir()))
    assert [np.asarray(Image.open(io.BytesIO(file.read_bytes()))).shape for file in files] == [
        (150, 200, 3)
    ] * 4
    assert len({file.read_bytes() for file in files}) == 4
    again = melascope_cli("assess", *paths, "--heatmap", tmp_path / "maps", "--format", "csv")
    assert [row["heatmap"] for row in csv.DictReader(io.StringIO(again.out))] == [str(file) for file in files]


def test_an_empty_heatmap_is_told(  # type: ignore[no-untyped-def]
    melascope_cli: Cli, tmp_path: Path, make_bundle, tiny_network, tiny_weights
) -> None:
    weight_KF = tiny_weights["weight"].copy()
    weight_KF[0] = -np.abs(weight_KF[0])  # melanoma: features are never negative, so nothing speaks for it
    files = {
        "model.onnx": tiny_network(weight=weight_KF),
        "reference.npz": reference_bytes({CAM_WEIGHT: weight_KF}),
    }
    make_bundle(tmp_path / "blind.zip", files=files)
    told = {}
    for name in ("blind.zip", "tiny"):
        options = ("--bundle", tmp_path / name) if name == "blind.zip" else ()
        done = melascope_cli("assess", draw(tmp_path / "a.png"), "--heatmap", tmp_path / "maps", *options)
        (told[name],) = [line for line in done.out.splitlines() if line.startswith("Heatmap:")]
    assert "no evidence for melanoma anywhere" in told["blind.zip"]
    assert "no evidence" not in told["tiny"]


def test_prevalence_and_operating_point_reach_the_answer(melascope_cli: Cli, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png")
    options = ("--prevalence", "0.01", "--operating-point", "sensitivity-90", "--format", "json")
    (assessment,) = json.loads(melascope_cli("assess", path, *options).out)["assessments"]
    assert assessment["operating_point"] == "sensitivity-90"
    assert assessment["prevalence"]["MEL"] == pytest.approx(0.01)
    assert assessment["melanoma_probability"] < assessment["melanoma_score"]


@pytest.fixture
def carcinoma_bundle_path(tmp_path: Path, make_bundle: Callable[..., object], tiny_fields) -> Path:  # type: ignore[no-untyped-def]
    """A bundle that takes everything for a basal cell carcinoma, and nothing for a melanoma."""
    calibration = tiny_fields()["calibration"] | {"bias_C": (-30.0, 0.0, 30.0, 0.0, 0.0, 0.0, 0.0)}
    path = tmp_path / "carcinoma.zip"
    make_bundle(path, calibration=calibration)
    return path


def test_another_malignant_diagnosis_is_no_reassurance(
    melascope_cli: Cli, tmp_path: Path, carcinoma_bundle_path: Path
) -> None:
    paths = [draw(tmp_path / f"{seed}.png", seed) for seed in range(2)]
    sentence = "A malignant diagnosis cannot be excluded: basal cell carcinoma."
    done = melascope_cli("assess", *paths, "--bundle", carcinoma_bundle_path)
    assert done.out.count("uncertain: ask an expert") == 2
    told = " ".join(done.out.split())
    for name in ("0.png", "1.png"):
        assert f"{name}: {sentence}" in told
    done = melascope_cli("assess", *paths, "--bundle", carcinoma_bundle_path, "--format", "csv")
    for row in csv.DictReader(io.StringIO(done.out)):
        assert row["decision"] == "uncertain"
        assert sentence in row["reasons"]
    one = melascope_cli("assess", paths[0], "--bundle", carcinoma_bundle_path)
    assert " ".join(one.out.split()).count(sentence) == 1


def test_several_images_of_a_lesion_get_one_answer(melascope_cli: Cli, tmp_path: Path) -> None:
    paths = [draw(tmp_path / f"{seed}.png", seed) for seed in range(6)]
    apart = json.loads(melascope_cli("assess", *paths, "--format", "json").out)["assessments"]
    (tmp_path / "torn.png").write_bytes(paths[0].read_bytes()[:100])
    done = melascope_cli(
        "assess",
        "--lesion",
        *paths,
        tmp_path / "torn.png",
        "--heatmap",
        tmp_path / "maps",
        "--format",
        "json",
    )
    assert done.status == 3
    report = json.loads(done.out)
    (lesion,) = report["assessments"]
    assert lesion["melanoma_score"] == max(answer["melanoma_score"] for answer in apart)
    assert [image["name"] for image in lesion["images"]] == [str(path) for path in paths]
    assert len(report["heatmap_files"]) == 6
    (row,) = csv.DictReader(io.StringIO(melascope_cli("assess", "--lesion", *paths, "--format", "csv").out))
    assert len(row["sha256"].split()) == 6
    table = melascope_cli("assess", "--lesion", *paths).out
    assert "the most suspicious speaks for it" in " ".join(table.split())


def test_a_decision_without_caution_is_not_marked(melascope_cli: Cli, tmp_path: Path) -> None:
    done = melascope_cli("assess", draw(tmp_path / "a.png"), draw(tmp_path / "b.png", 1))
    assert "(!)" not in done.out


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--operating-point", "nope"), 2, "no operating point 'nope'"),
        (("--prevalence", "1.5"), 2, "prevalence of melanoma is 1.5"),
        (("--threads", "0"), 2, "threads is 0"),
        (("--bundle", "nope"), 6, "no bundle 'nope'"),
        (("--heatmap", "/dev/null/x"), 2, "heatmap cannot be written"),
    ],
)
def test_wrong_options_end_with_a_message(
    melascope_cli: Cli, tmp_path: Path, options: tuple[str, ...], status: int, message: str
) -> None:
    done = melascope_cli("assess", draw(tmp_path / "a.png"), *options)
    assert done.status == status
    assert message in done.err
    assert done.out == ""


def test_a_folder_is_read_in_depth_and_what_is_left_out_is_told(melascope_cli: Cli, tmp_path: Path) -> None:
    for name in ("b.png", "a/deep.JPG", ".hidden.png", ".cache/x.png"):
        draw(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    done = melascope_cli("assess", tmp_path, "--format", "json")
    names = [Path(item["images"][0]["name"]).name for item in json.loads(done.out)["assessments"]]
    assert (done.status, names) == (0, ["b.png", "deep.JPG"])
    assert "left out 3 " in done.err
    for name in ("notes.txt", ".hidden.png", ".cache"):
        assert name in done.err


def test_a_file_that_is_named_is_read_whatever_it_is_called(melascope_cli: Cli, tmp_path: Path) -> None:
    path = draw(tmp_path / ".hidden.txt")
    done = melascope_cli("assess", path, path, "--format", "json")
    assert len(json.loads(done.out)["assessments"]) == 1


def test_a_folder_without_images_is_an_error(melascope_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    done = melascope_cli("assess", tmp_path)
    assert done.status == 2
    assert "no image" in done.err


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_hostile_file_names_cannot_steer_the_terminal_or_stop_the_work(
    melascope_cli: Cli, tmp_path: Path, output: str
) -> None:
    for name in (b"esc\x1b[2Jape.png", b"not-utf8-\xff.png", b"[red]markup[x].png", b"new\nline.png"):
        draw(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))))
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"bad" + name))).touch()
    done = melascope_cli("assess", tmp_path, "--format", output, "--heatmap", tmp_path / "maps")
    assert done.status == 3
    assert "\x1b" not in done.out + done.err
    assert len(list((tmp_path / "maps").iterdir())) == 4
    if output != "table":
        assert "[red]markup[x].png" in done.out
