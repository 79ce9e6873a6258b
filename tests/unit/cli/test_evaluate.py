import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from melascope.cli.evaluate import command
from melascope.datasets.table import write_cases
from melascope.domain.case import Case
from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.errors import LeakError, MelascopeError, TableError, UsageError
from melascope.evaluation.predictions import Predictions, read_predictions, write_predictions


@pytest.fixture
def run_folder(tmp_path):
    return write_run(tmp_path / "mine", seed=0)


def write_run(folder, *, seed, n=400, leak=False, trained_on=(), audit_override=None, skill=2.5):
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
    logits_NC = noise.normal(0, 1, (n, 7)) + skill * np.eye(7)[classes_N]
    write_predictions(
        Predictions(classes=ISIC2018_CLASSES, logits_NC=logits_NC, cases=cases), folder / "predictions.csv"
    )
    learnt = Case(image_id="ISIC_t", path="t.jpg", lesion_id="L_t", source="ham10000", split="train")
    write_cases([learnt, *trained_on, *(replace(case, path="x.jpg") for case in cases)], folder / "cases.csv")
    (folder / "run.json").write_text(json.dumps({"training": {"audit_override": audit_override}}))
    return folder


def override(folder):
    return json.loads((folder / "evaluation" / "metrics.json").read_text())["subject"]["leak_override"]


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
    assert "told at sensitivity-95" in result.output
    assert "200 images of 200 lesions" in result.output
    told = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    assert told["subject"]["split"] == "test"
    assert told["metrics"]["n_images"] == 200
    assert told["fitted"]["calibration"]["n_cases"] == 200
    assert (run_folder / "evaluation" / "report.html").is_file()


def test_a_point_that_decides_nothing_is_told(tmp_path):
    blind = write_run(tmp_path / "blind", seed=0, skill=0.0)
    result = invoke(blind, "--bootstrap", 0, "--format", "json")
    assert result.exit_code == 0, result.output
    assert "the operating point sensitivity-98 (threshold" in result.stderr
    json.loads(result.stdout)


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


def test_each_table_and_split_has_a_folder_of_its_own(run_folder, tmp_path):
    odd = tmp_path / "odd.csv"
    table = (run_folder / "predictions.csv").read_text()
    odd.write_text(table.replace(",test\n", ",../week 1\n"))
    assert invoke(odd, "--split", "../week 1", "--bootstrap", 0).exit_code == 0
    assert (tmp_path / "evaluation-odd-.._week_1" / "report.html").is_file()
    assert invoke(run_folder, "--bootstrap", 0).exit_code == 0
    before = (run_folder / "evaluation" / "metrics.json").read_bytes()
    assert invoke(run_folder, "--split", "val", "--calibrate-on", "test", "--bootstrap", 0).exit_code == 0
    assert (run_folder / "evaluation-val" / "metrics.json").is_file()
    assert (run_folder / "evaluation" / "metrics.json").read_bytes() == before


def test_rows_that_fit_are_judged_by_what_the_other_parts_fit(run_folder):
    result = invoke(run_folder, "--split", "val+test", "--cross-fit", 2, "--bootstrap", 0)
    assert result.exit_code == 0, result.output
    assert "in 2 parts, each judged by what the others fit" in " ".join(result.output.split())
    told = json.loads((run_folder / "evaluation-val+test" / "metrics.json").read_text())
    assert told["metrics"]["n_images"] == told["fitted"]["calibration"]["n_cases"] == 400
    assert told["fitted"]["n_folds"] == 2
    given = refuse(UsageError, run_folder, "--cross-fit", 5, "--calibrate-on", "val")
    assert "--calibrate-on and --cross-fit" in given


def test_several_splits_are_joined_and_must_not_overlap(run_folder):
    assert "fitted on" in refuse(UsageError, run_folder, "--split", "val+test")
    assert "fitted on" in refuse(UsageError, run_folder, "--split", "test", "--calibrate-on", "val+test")
    assert "'fold'" in refuse(MelascopeError, run_folder, "--split", "test+fold")


def test_a_leaking_table_is_refused_unless_a_reason_is_given_and_kept(tmp_path):
    leaking = write_run(tmp_path / "leaking", seed=0, leak=True)
    assert "ham10000/lesion/L398" in refuse(LeakError, leaking)
    result = invoke(leaking, "--allow-leak", "looking at the leak", "--bootstrap", 0)
    assert result.exit_code == 0, result.output
    assert "may flatter the model; judged because: looking at the leak" in result.output
    assert override(leaking) == "looking at the leak"


def test_a_reason_without_a_leak_is_not_recorded(run_folder):
    invoke(run_folder, "--allow-leak", "just in case", "--bootstrap", 0)
    assert override(run_folder) is None


@pytest.mark.parametrize("named", ["", "predictions.csv"])
def test_a_lesion_trained_on_and_judged_is_refused_though_no_prediction_shows_it(tmp_path, named):
    learnt = Case(image_id="other", path="o.jpg", lesion_id="L0", source="ham10000", split="train")
    leaking = write_run(tmp_path / "leaking", seed=0, trained_on=[learnt])
    told = refuse(LeakError, leaking / named)
    assert "ham10000/lesion/L0 is in test and train" in told
    assert "--allow-leak" in told
    result = invoke(leaking / named, "--allow-leak", "a look at it", "--bootstrap", 0)
    assert result.exit_code == 0, result.output
    assert override(leaking) == "a look at it"


def test_the_reason_for_training_on_a_leak_follows_the_run_and_what_is_compared_with_it(run_folder, tmp_path):
    forced = write_run(tmp_path / "forced", seed=1, audit_override="no other data")
    for arguments in ((forced,), (run_folder, "--compare", forced, "--out", forced / "evaluation")):
        assert invoke(*arguments, "--bootstrap", 0).exit_code == 0
        assert override(forced) == "trained on a split that leaks: no other data"
    assert "no other data" in (forced / "evaluation" / "report.html").read_text()


@pytest.mark.parametrize("name", ["predictions.csv", "cases.csv", "run.json"])
def test_a_folder_that_is_no_finished_run_is_refused(run_folder, name):
    (run_folder / name).unlink()
    assert f"{name} is missing" in refuse(UsageError, run_folder)


@pytest.mark.parametrize("text", ["", "[]", '{"training": {}}'])
def test_a_run_that_does_not_say_how_it_was_trained_is_refused(run_folder, text):
    (run_folder / "run.json").write_text(text)
    assert "how the model was trained" in refuse(TableError, run_folder)


@pytest.fixture
def bundle_of_run(run_folder, tmp_path, make_bundle):
    """A bundle that was made of the run, its decision fitted on "val"."""
    made = make_bundle(tmp_path / "mine.zip", fitted_on=("val",)).manifest
    facts = json.loads((run_folder / "run.json").read_text())
    facts["parameters"] = made.architecture.parameters
    facts["training"]["fingerprint"] = made.training.fingerprint
    (run_folder / "run.json").write_text(json.dumps(facts))
    return tmp_path / "mine.zip"


def test_a_bundle_gives_calibration_and_thresholds_for_every_row(run_folder, bundle_of_run):
    everything = (run_folder, "--bundle", bundle_of_run, "--split", "all", "--bootstrap", 0)
    assert "(val: 200)" in refuse(LeakError, *everything)
    result = invoke(*everything, "--allow-leak", "the bundle is older than these")
    assert result.exit_code == 0, result.output
    told = json.loads((run_folder / "evaluation-all" / "metrics.json").read_text())
    assert told["subject"]["leak_override"] == "the bundle is older than these"
    assert told["metrics"]["n_images"] == 400
    assert "bundle" in told["fitted"]["origin"]
    refuse(UsageError, run_folder, "--bundle", bundle_of_run, "--calibrate-on", "val")
    assert invoke(run_folder, "--bundle", bundle_of_run, "--bootstrap", 0).exit_code == 0
    assert override(run_folder) is None


@pytest.mark.parametrize("fitted_on", [("test", "val"), None])
def test_rows_that_a_bundle_was_or_may_have_been_fitted_on_are_refused(
    run_folder, bundle_of_run, make_bundle, fitted_on
):
    make_bundle(bundle_of_run, fitted_on=fitted_on)
    assert "(test: 200)" in refuse(LeakError, run_folder, "--bundle", bundle_of_run)


def test_rows_of_no_split_from_a_dataset_that_the_bundle_learnt_from_are_refused(
    run_folder, tiny_bundle_path
):
    table = run_folder.parent / "mine.csv"
    rows = read_predictions(run_folder / "predictions.csv")

    def judge_rows(source):
        cases = tuple(replace(case, split=None, source=source) for case in rows.cases)
        write_predictions(replace(rows, cases=cases), table)
        return table, "--bundle", tiny_bundle_path, "--split", "all", "--bootstrap", 0

    assert "(no split, from drawn: 400)" in refuse(LeakError, *judge_rows("drawn"))
    assert invoke(*judge_rows("mine")).exit_code == 0


def test_a_bundle_promises_nothing_for_another_network(run_folder, bundle_of_run):
    facts = json.loads((run_folder / "run.json").read_text())
    (run_folder / "run.json").write_text(json.dumps(facts | {"parameters": facts["parameters"] + 1}))
    assert "was not made of this run" in refuse(UsageError, run_folder, "--bundle", bundle_of_run)


def test_a_split_of_too_few_melanomas_is_named(run_folder):
    rows = read_predictions(run_folder / "predictions.csv")
    few = [n for n, case in enumerate(rows.cases) if not (case.split == "val" and case.melanoma)]
    write_predictions(
        rows.where([n in set(few) for n in range(len(rows.cases))]), run_folder / "predictions.csv"
    )
    assert str(refuse(MelascopeError, run_folder)).startswith("Split val: ")


def test_a_bundle_of_other_classes_is_refused(run_folder, bundle_of_run):
    whole = read_predictions(run_folder / "predictions.csv")
    fewer = replace(whole, classes=whole.classes[:6], logits_NC=whole.logits_NC[:, :6])
    write_predictions(fewer, run_folder / "predictions.csv")
    assert "VASC" in refuse(UsageError, run_folder, "--bundle", bundle_of_run)


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
