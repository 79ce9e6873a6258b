"""The README's way, command by command, on a few hundred real photographs: dataset to assessment."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from melascope.datasets.table import read_cases, write_cases

DATA = Path(os.environ.get("MELASCOPE_DATA", Path(__file__).parents[3] / "shared/data"))
RECIPE = """\
name = "way"
[model]
backbone = "simple_cnn"
weights = "none"
[preprocess]
size_px = 64
[optim]
backbone_lr_factor = 1.0
[train]
epochs = 1
cache_px = 72
batch_size = 32
precision = "32-true"
"""

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "ham10000").is_dir(), reason=f"the real data are not in {DATA}"),
]


def melascope(folder: Path, *arguments: object, status: int = 0) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "melascope", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == status, f"{arguments}\n{ended.stdout}\n{ended.stderr}"
    assert "Traceback" not in ended.stderr
    return ended.stdout


def test_from_dataset_to_assessment(tmp_path: Path) -> None:
    melascope(tmp_path, "data", "import", "ham10000", DATA / "ham10000", "--out", "all.csv")
    # A few lesions a diagnosis, so that the way is short; 20 melanomas in each part that judges or calibrates.
    lesions = defaultdict(set)
    for case in read_cases(tmp_path / "all.csv"):
        if len(lesions[case.diagnosis]) < 130 or case.lesion_id in lesions[case.diagnosis]:
            lesions[case.diagnosis].add(case.lesion_id)
    kept = [case for case in read_cases(tmp_path / "all.csv") if case.lesion_id in lesions[case.diagnosis]]
    write_cases(kept, tmp_path / "cases.csv")

    melascope(tmp_path, "data", "audit", "cases.csv", "--out", "audit")
    assert (tmp_path / "audit" / "audit.html").exists()
    fractions = "train=0.6,val=0.2,test=0.2"
    arguments = ("--audit", "audit/audit.json", "--fractions", fractions, "--out", "split.csv")
    melascope(tmp_path, "data", "split", "cases.csv", *arguments)

    (tmp_path / "way.toml").write_text(RECIPE)
    melascope(tmp_path, "train", "way.toml", "--cases", "split.csv")
    evaluated = melascope(tmp_path, "evaluate", "runs/way", "--bootstrap", "50")
    assert "AUROC" in evaluated
    melascope(tmp_path, "export", "runs/way", "--without-novelty", "--out", "way.zip", "--bootstrap", "50")
    melascope(tmp_path, "bundle", "verify", "way.zip")

    image = kept[0].path
    out = melascope(
        tmp_path, "assess", image, "--bundle", "way.zip", "--format", "json", "--heatmap", "heatmaps"
    )
    assessment = json.loads(out)["assessments"][0]
    assert assessment["decision"] in ("refer", "no-sign-of-melanoma")
    assert sum(assessment["probabilities"].values()) == pytest.approx(1)
    assert list((tmp_path / "heatmaps").glob("*.png"))

    # What the table of predictions says of an image is what assessing it says.
    melascope(tmp_path, "predict", "split.csv", "--bundle", "way.zip", "--out", "p.csv", "--format", "csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["image_id"] == kept[0].image_id)
    assert float(row["melanoma_score"]) == pytest.approx(assessment["melanoma_score"], abs=1e-5)
    assert row["decision"] == assessment["decision"]


def test_a_leaking_split_is_refused_by_training(tmp_path: Path) -> None:
    melascope(tmp_path, "data", "import", "ham10000", DATA / "ham10000", "--out", "all.csv")
    cases = [
        replace(case, split=("train", "val")[i % 2])
        for i, case in enumerate(read_cases(tmp_path / "all.csv"))
    ]
    write_cases(cases, tmp_path / "leaking.csv")
    (tmp_path / "way.toml").write_text(RECIPE)
    melascope(tmp_path, "train", "way.toml", "--cases", "leaking.csv", status=5)
    assert not (tmp_path / "runs").exists()
