import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from melascope.cli.evaluate import command
from melascope.domain.case import Case
from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.errors import LeakError, MelascopeError, TableError, UsageError
from melascope.evaluation.predictions import Predictions, read_predictions, write_predictions


@pytest.fixture
def run_folder(tmp_path):
    return write_run(tmp_path / "mine", seed=0)


def write_run(folder, *, seed, n=400, leak=False):
    truth, noise = np.random.default_rng(42), np.random.default_rng(seed)
    classes_N = truth.choice(7, n, p=(0.2, 0.5, 0.08, 0.06, 0.1, 0.03, 0.03))
    cases = tuple(
        Case(
            image_id=f"ISIC_{i}",
            path="",
            diagnosis=ISIC2018_CLASSES[c],
            melanoma=ISIC2018_CLASSES[c] is Diagnosis.MEL,
            lesion_id=f"L{i - leak * (i == n - 1)}",
            source="ham10000",
            split="val" if i % 2 else "test",
        )
        for i, c in enumerate(classes_N)
    )
    logits_NC = noise.normal(0, 1, (n, 7)) + 2.5 * np.eye(7)[classes_N]
    write_predictions(
        Predictions(classes=ISIC2018_CLASSES, logits_NC=logits_NC, cases=cases), folder / "predictions.csv"
    )
    return folder


def invoke(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=True)


def refuse(error, *arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, error), result.output
    return str(result.exception)


def test_a_run_is_judged_on_test_and_both_files_are_written(run_folder):
    result = invoke(run_folder, "--bootstrap", 50)
    assert result.exit_code == 0, result.output
    assert "sensitivity-95" in result.output
    assert "200 images of 200 lesions" in result.output
    told = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    assert told["subject"]["split"] == "test"
    assert told["metrics"]["n_images"] == 200
    assert told["fitted"]["calibration"]["n_cases"] == 200
    assert (run_folder / "evaluation" / "report.html").is_file()


def test_json_out_and_compare(run_folder, tmp_path):
    other = write_run(tmp_path / "other", seed=1)
    result = invoke(
        run_folder / "predictions.csv",
        "--compare",
        other,
        "--out",
        tmp_path / "out",
        "--bootstrap",
        20,
        "--format",
        "json",
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert json.loads(result.stdout)["compared_with"] == "other/predictions.csv"


def test_rows_that_were_fitted_on_are_not_judged(run_folder):
    assert "fitted on" in refuse(UsageError, run_folder, "--split", "val")
    assert "fitted on" in refuse(UsageError, run_folder, "--split", "all")
    assert "fitted on" in refuse(UsageError, run_folder, "--calibrate-on", "test")
    assert "'holdout'" in refuse(MelascopeError, run_folder, "--split", "holdout")


def test_a_leaking_table_is_refused_unless_a_reason_is_given_and_kept(tmp_path):
    leaking = write_run(tmp_path / "leaking", seed=0, leak=True)
    assert "ham10000/lesion/L398" in refuse(LeakError, leaking)
    result = invoke(leaking, "--allow-leak", "looking at the leak", "--bootstrap", 0)
    assert result.exit_code == 0, result.output
    told = json.loads((leaking / "evaluation" / "metrics.json").read_text())
    assert told["subject"]["leak_override"] == "looking at the leak"


def test_a_reason_without_a_leak_is_not_recorded(run_folder):
    invoke(run_folder, "--allow-leak", "just in case", "--bootstrap", 0)
    told = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    assert told["subject"]["leak_override"] is None


def test_a_bundle_gives_calibration_and_thresholds_for_every_row(run_folder, tiny_bundle_path):
    result = invoke(run_folder, "--bundle", tiny_bundle_path, "--split", "all", "--bootstrap", 0)
    assert result.exit_code == 0, result.output
    told = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    assert told["metrics"]["n_images"] == 400
    assert "bundle" in told["fitted"]["origin"]
    refuse(UsageError, run_folder, "--bundle", tiny_bundle_path, "--calibrate-on", "val")


def test_a_bundle_of_other_classes_is_refused(run_folder, tiny_bundle_path):
    whole = read_predictions(run_folder / "predictions.csv")
    fewer = replace(whole, classes=whole.classes[:6], logits_NC=whole.logits_NC[:, :6])
    write_predictions(fewer, run_folder / "predictions.csv")
    assert "VASC" in refuse(UsageError, run_folder, "--bundle", tiny_bundle_path, "--split", "all")


def test_official_scores_of_a_submission(tmp_path):
    header = "image," + ",".join(ISIC2018_CLASSES)
    rows = [f"ISIC_{k}," + ",".join("1.0" if k == c else "0.0" for c in range(7)) for k in range(7)]
    (tmp_path / "truth.csv").write_text("\n".join([header, *rows]))
    wrong = [*rows[:6], "ISIC_6,0.5,0.5,0.0,0.0,0.0,0.0,0.0"]
    (tmp_path / "p.csv").write_text("\n".join([header, *wrong]))
    result = invoke(tmp_path / "p.csv", "--official", tmp_path / "truth.csv")
    assert f"balanced accuracy {6 / 7!r}" in result.output
    told = json.loads(
        invoke(tmp_path / "p.csv", "--official", tmp_path / "truth.csv", "--format", "json").stdout
    )
    assert told["balanced_accuracy"] == 6 / 7
    assert told["per_category"]["VASC"]["ppv"] == 1.0
    refuse(TableError, tmp_path / "p.csv", "--official", tmp_path / "gone.csv")
