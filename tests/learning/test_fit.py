"""A whole run on drawn lesions: it learns, it resumes as if nothing had happened, it becomes a bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from melascope.bundle.store import Bundle, read_bundle
from melascope.datasets.files import open_case_bytes
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import ParityError, RecipeError, TableError, UsageError
from melascope.evaluation.holdout import fit_decision, rows_of_split
from melascope.evaluation.predictions import Predictions, read_predictions, write_predictions
from melascope.imaging.decode import decode_image
from melascope.imaging.preprocess import preprocess
from melascope.learning.datamodule import EpochSampler
from melascope.learning.export import export_run
from melascope.learning.fit import RunOptions, fit, precision_here
from melascope.learning.parts import divide
from melascope.learning.quantise import N_FIRST_LEFT
from melascope.learning.recipe import Recipe, parse_recipe
from melascope.learning.run import load_run
from melascope.runtime.assessor import Assessor


class StopAfter(Callback):
    """Breaks a run as a power cut would, after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("power cut")


def options(folder: Path, cache: Path, **changes: object) -> RunOptions:
    return RunOptions(folder=folder, cache_folder=cache, accelerator="cpu", devices="1", **changes)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe, cases: list[Case]) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return fit(recipe, cases, options(folder / "run", folder / "cache"))


def test_a_run_writes_what_was_asked_and_learns(run_folder: Path, cases: list[Case]) -> None:
    predictions = read_predictions(run_folder / "predictions.csv")
    judged = [case for case in cases if case.split != "train"]
    assert {case.image_id for case in predictions.cases} == {case.image_id for case in judged}
    known = predictions.class_index_N >= 0
    accuracy = (predictions.logits_NC.argmax(axis=1) == predictions.class_index_N)[known].mean()
    assert accuracy > 0.6  # a third by chance
    facts = json.loads((run_folder / "run.json").read_text())
    train = [case for case in cases if case.split == "train"]
    assert facts["training"]["n_images"] == len(train)
    assert facts["training"]["coarse_labels"] == sum(case.diagnosis is Diagnosis.UNK for case in train) > 0
    assert facts["precision"] == "32-true"
    assert list((run_folder / "tensorboard").glob("events*"))
    logged = (run_folder / "logs" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    for name in ("accuracy", "sensitivity", "specificity", "auroc", "balanced_accuracy"):
        assert f"val_{name}" in logged


@pytest.mark.parametrize(
    ("asked", "computes", "expected"),
    [
        ("auto", True, "bf16-mixed"),
        ("auto", False, "32-true"),
        ("bf16-mixed", False, "bf16-mixed"),
        ("32-true", True, "32-true"),
    ],
)
def test_a_cpu_that_only_imitates_bfloat16_is_spared_it_unless_a_recipe_insists(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, asked: str, computes: bool, expected: str
) -> None:
    monkeypatch.setattr("melascope.learning.fit.computes_bfloat16", lambda: computes)
    train = recipe.train.model_copy(update={"precision": asked})
    assert precision_here(recipe.model_copy(update={"train": train}), "cpu") == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_equals_an_uninterrupted_one(
    run_folder: Path, tmp_path: Path, recipe: Recipe, cases: list[Case], workers: int
) -> None:
    folder, cache = tmp_path / "run", run_folder.parent / "cache"
    with pytest.raises(RuntimeError, match="power cut"):
        fit(recipe, cases, options(folder, cache, workers=workers, callbacks=(StopAfter(2),)))
    fit(recipe, cases, options(folder, cache, workers=workers, resume=True))
    whole, resumed = (read_predictions(one / "predictions.csv") for one in (run_folder, folder))
    np.testing.assert_array_equal(resumed.logits_NC, whole.logits_NC)
    assert len(list((folder / "logs").glob("*/metrics.csv"))) == 2  # of both sessions


def test_a_network_is_trained_on_images_that_grow(
    run_folder: Path, recipe: Recipe, cases: list[Case]
) -> None:
    seen: list[tuple[int, ...]] = []

    class Note(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if batch_idx == 0:
                seen.append(tuple(batch.pixels.shape[2:]))

    train = recipe.train.model_copy(update={"epochs": 2, "first_size_px": 28, "size_px": 32})
    folder = run_folder.parent / "grown"
    grown = recipe.model_copy(update={"train": train})
    fit(grown, cases, options(folder, run_folder.parent / "cache", callbacks=(Note(),)))
    assert seen == [(28, 28), (32, 32)]
    assert read_predictions(folder / "predictions.csv").logits_NC.shape[0] == 120


def test_a_run_that_was_moved_still_knows_its_best_epoch(
    run_folder: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    class Spoil(Callback):
        def on_validation_start(self, trainer, pl_module) -> None:
            torch.nn.init.constant_(pl_module.network.head.bias, 0.0)
            torch.nn.init.constant_(pl_module.network.head.weight, 9.0)

    folder, moved, cache = tmp_path / "run", tmp_path / "elsewhere" / "run", run_folder.parent / "cache"
    with pytest.raises(RuntimeError, match="power cut"):
        fit(recipe, cases, options(folder, cache, callbacks=(StopAfter(2),)))
    best = torch.load(folder / "best.ckpt", weights_only=True)
    moved.parent.mkdir()
    folder.rename(moved)
    fit(recipe, cases, options(moved, cache, resume=True, callbacks=(Spoil(),)))
    facts = json.loads((moved / "run.json").read_text())
    assert facts["epochs"] == 4
    assert facts["best_epoch"] == best["epoch"] <= 1
    (state,) = (s for s in best["callbacks"].values() if s.get("monitor") == "val_loss" and "dirpath" in s)
    assert facts["monitor"]["value"] == float(state["best_model_score"])
    assert not folder.exists()


def test_a_run_is_neither_overwritten_nor_resumed_under_another_recipe(
    run_folder: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    with pytest.raises(UsageError, match="run already"):
        fit(recipe, cases, options(run_folder, tmp_path))
    other = recipe.model_copy(update={"purpose": "another"})
    with pytest.raises(RecipeError, match="another recipe"):
        fit(other, cases, options(run_folder, tmp_path, resume=True))
    with pytest.raises(UsageError, match="no run to resume"):
        fit(recipe, cases, options(tmp_path / "absent", tmp_path, resume=True))
    redealt = [
        replace(case, split={"train": "val", "val": "train"}.get(str(case.split), case.split))
        for case in cases
    ]
    with pytest.raises(UsageError, match="other cases, another split, fold"):
        fit(recipe, redealt, options(run_folder, tmp_path, resume=True))


def test_a_monitor_that_the_cases_do_not_define_is_refused(
    tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    coarse = [
        case if case.diagnosis is Diagnosis.MEL else replace(case, diagnosis=Diagnosis.UNK, melanoma=False)
        for case in cases
    ]
    asked = recipe.model_copy(update={"train": recipe.train.model_copy(update={"monitor": "val_mean_auroc"})})
    with pytest.raises(RecipeError, match=r"val_mean_auroc.*do not define.*val_auroc"):
        fit(asked, coarse, options(tmp_path / "run", tmp_path / "cache"))


def test_training_that_diverges_says_so(
    run_folder: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    class Diverge(Callback):
        def on_validation_start(self, trainer, pl_module) -> None:
            torch.nn.init.constant_(pl_module.network.head.bias, float("nan"))

    with pytest.raises(RecipeError, match="diverged"):
        fit(recipe, cases, options(tmp_path / "run", run_folder.parent / "cache", callbacks=(Diverge(),)))


def test_what_the_machine_does_not_have_is_an_error_in_words(
    run_folder: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    asked = replace(options(tmp_path / "run", run_folder.parent / "cache"), accelerator="gpu")
    with pytest.raises(UsageError, match="cannot train so"):
        fit(recipe, cases, asked)


@pytest.mark.parametrize(
    ("loss", "optim", "train"),
    [
        ({"imbalance": "sampling"}, {"schedule": "one-cycle", "freeze_epochs": 1}, {"patience": 1}),
        ({"imbalance": "class-weights", "focal_gamma": 2.0}, {"schedule": "constant", "accumulate": 2}, {}),
        ({"label_smoothing": 0.1, "by_source": False}, {"backbone_lr_factor": 0.0, "clip_norm": 0}, {"ema_decay": 0.0}),
    ],
)  # fmt: skip
def test_the_options_of_a_recipe_train_by_fold(
    run_folder: Path, tmp_path: Path, recipe: Recipe, cases: list[Case], loss: dict, optim: dict, train: dict
) -> None:
    values = recipe.model_dump(mode="json", exclude_none=True)
    values["loss"] |= loss
    values["optim"] |= optim
    values["train"] |= {"epochs": 2} | train
    folded = [replace(case, split=str(i // 2 % 3)) for i, case in enumerate(cases)]
    folder = fit(
        parse_recipe(values, name="options"),
        folded,
        replace(options(tmp_path / "run", run_folder.parent / "cache"), fold="1"),
    )
    predictions = read_predictions(folder / "predictions.csv")
    assert {case.split for case in predictions.cases} == {"val"}
    assert {case.image_id for case in predictions.cases} == {c.image_id for c in folded if c.split == "1"}


def test_a_fold_alone_is_no_ground_for_a_bundle(
    run_folder: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    folded = [replace(case, split=str(i // 2 % 3)) for i, case in enumerate(cases)]
    quick = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 1})})
    asked = replace(options(tmp_path / "run", run_folder.parent / "cache"), fold="1")
    with pytest.raises(UsageError, match="no split is left to measure on"):
        export_run([fit(quick, folded, asked)], tmp_path / "out.zip")
    with pytest.raises(UsageError, match="no split is left to measure on"):
        export_run([run_folder], tmp_path / "out.zip", calibrate_on="all")


def test_the_bundle_of_a_run_answers_as_the_run_did(
    run_folder: Path, tmp_path: Path, cases: list[Case]
) -> None:
    bundle, parity = export_run([run_folder], tmp_path / "tiny.zip", n_bootstrap=20, parity_images=12)
    assert parity.n_images == 12
    assert max(parity.graph_against_torch, parity.graph_against_predictions) < 1e-4
    assert read_bundle(tmp_path / "tiny.zip").id == bundle.id
    predictions = read_predictions(run_folder / "predictions.csv")
    path_of = {case.image_id: case.path for case in cases}
    images = [decode_image(open_case_bytes(path_of[c.image_id]), name=c.image_id) for c in predictions.cases]
    np.testing.assert_allclose(Assessor(bundle).logits(images), predictions.logits_NC, atol=1e-4)
    figure = bundle.manifest.measurements[0].figures["melanoma_auroc"]
    assert figure.value is not None
    assert f"{figure.value:.3f}" in bundle.card


def test_a_bundle_of_integers_is_judged_by_what_it_answers(
    run_folder: Path, tmp_path: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(run_folder, tmp_path / "run")
    plain, _ = export_run([run], tmp_path / "plain.zip", n_bootstrap=5, parity_images=4)
    bundle, parity = export_run(
        [run], tmp_path / "int8.zip", n_bootstrap=20, parity_images=4, precision="int8"
    )
    assert (plain.manifest.architecture.precision, bundle.manifest.architecture.precision) == (
        "float32",
        "int8",
    )
    assert bundle.manifest.name == "tiny-int8"
    assert len(bundle.model) < 0.6 * len(plain.model)
    convolutions = [node for node in onnx.load_from_string(bundle.model).graph.node if node.op_type == "Conv"]
    rounded = ["Dequantize" in node.input[1] for node in convolutions]
    assert rounded == [False] * N_FIRST_LEFT + [True] * (len(rounded) - N_FIRST_LEFT)
    assert any(rounded)

    predictions = read_predictions(run / "predictions.csv")
    kept = read_predictions(tmp_path / "int8-predictions.csv")
    path_of = {case.image_id: case.path for case in cases}
    images = [decode_image(open_case_bytes(path_of[c.image_id]), name=c.image_id) for c in kept.cases]
    np.testing.assert_allclose(Assessor(bundle).logits(images), kept.logits_NC, atol=1e-4)
    assert parity.rounding is not None
    moved = np.abs(kept.logits_NC - predictions.logits_NC).mean()
    assert parity.rounding.mean_difference == pytest.approx(moved, abs=1e-4)
    assert 0 < moved < 1
    assert "eight-bit integers" in bundle.card
    assert "eight-bit" not in plain.card
    [measurement] = bundle.manifest.measurements
    assert measurement.command == "melascope evaluate int8-predictions.csv --split test --prior uniform"
    fitted = fit_decision(rows_of_split(kept, "val"))
    assert bundle.manifest.calibration == fitted.calibration

    monkeypatch.setattr("melascope.learning.parity.MOST_LOST", -1.0)
    with pytest.raises(ParityError, match="In int8 the AUROC"):
        export_run([run], tmp_path / "refused.zip", n_bootstrap=5, parity_images=4, precision="int8")
    assert not [*tmp_path.glob("refused*")]
    assert not [*tmp_path.glob("plain-*")]


def test_weights_of_sixteen_bits_halve_the_graph_and_hardly_move_a_logit(
    run_folder: Path, tmp_path: Path, cases: list[Case]
) -> None:
    run = shutil.copytree(run_folder, tmp_path / "run")
    plain, _ = export_run([run], tmp_path / "plain.zip", n_bootstrap=0, parity_images=4)
    bundle, parity = export_run(
        [run], tmp_path / "half.zip", n_bootstrap=20, parity_images=4, precision="float16"
    )
    assert (bundle.manifest.name, bundle.manifest.architecture.precision) == ("tiny-float16", "float16")
    assert len(bundle.model) < 0.6 * len(plain.model)
    kept = read_predictions(tmp_path / "half-predictions.csv")
    path_of = {case.image_id: case.path for case in cases}
    images = [decode_image(open_case_bytes(path_of[c.image_id]), name=c.image_id) for c in kept.cases]
    np.testing.assert_allclose(Assessor(bundle).logits(images), kept.logits_NC, atol=1e-4)
    exact = read_predictions(run / "predictions.csv").logits_NC
    assert 0 < np.abs(kept.logits_NC - exact).max() < 1e-2 * np.abs(exact).max()

    weights = {t.name: onnx.numpy_helper.to_array(t) for t in graph_of(plain).initializer}
    halved = {t.name: onnx.numpy_helper.to_array(t) for t in graph_of(bundle).initializer}
    convolutions = [node.input[1] for node in graph_of(bundle).node if node.op_type == "Conv"]
    assert convolutions
    for name in convolutions:
        np.testing.assert_array_equal(halved[f"{name}.float16"], weights[name].astype(np.float16))
    others = weights.keys() - set(convolutions)
    assert others == halved.keys() - {f"{name}.float16" for name in convolutions}
    assert parity.rounding is not None
    assert "rounded to float16" in bundle.card


def graph_of(bundle: Bundle) -> onnx.GraphProto:
    return onnx.load_from_string(bundle.model).graph


def test_an_export_that_does_not_answer_as_measured_is_refused(run_folder: Path, tmp_path: Path) -> None:
    altered = tmp_path / "run"
    altered.mkdir()
    for path in run_folder.glob("*.*"):
        if path.is_file():
            (altered / path.name).write_bytes(path.read_bytes())
    predictions = read_predictions(altered / "predictions.csv")
    shifted = Predictions(
        classes=predictions.classes, logits_NC=predictions.logits_NC + 0.01, cases=predictions.cases
    )
    write_predictions(shifted, altered / "predictions.csv")
    with pytest.raises(ParityError):
        export_run([altered], tmp_path / "refused.zip", n_bootstrap=5)
    assert not (tmp_path / "refused.zip").exists()


def test_the_heatmap_equals_grad_cam_on_the_torch_network(
    run_folder: Path, tmp_path: Path, cases: list[Case]
) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    bundle, _ = export_run([run_folder], tmp_path / "tiny.zip", n_bootstrap=5, parity_images=4)
    network = load_run(run_folder).network
    images = [decode_image(open_case_bytes(case.path), name=case.image_id) for case in cases[:6]]

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
            return self.network(pixels_NCHW).logits

    assessor = Assessor(bundle)
    seen_B = assessor.look([assessor.prepare(image) for image in images], activation=True)
    target = ClassifierOutputTarget(bundle.manifest.classes.index(Diagnosis.MEL))
    for image, seen in zip(images, seen_B, strict=True):
        pixels = torch.from_numpy(preprocess([image.pixels_HWC], bundle.manifest.preprocess))
        with GradCAM(model=Logits(), target_layers=[network.backbone]) as grad_cam:
            expected_HW = grad_cam(pixels, targets=[target])[0]
        assert seen.activation_HW is not None
        assert seen.activation_HW.max() in (0.0, pytest.approx(1.0))
        height, width = expected_HW.shape  # its own enlarging, which scales before and after
        resized_HW = scale_cam_image(scale_cam_image(seen.activation_HW[None], (width, height)))[0]
        np.testing.assert_allclose(resized_HW, expected_HW, atol=0.02)
    assert any(seen.activation_HW.max() > 0 for seen in seen_B)  # none where nothing speaks for it


def test_cases_are_divided_by_split_or_by_fold(cases: list[Case]) -> None:
    parts = divide(cases, None)
    assert {case.split for case in parts.train} == {"train"}
    assert {case.split for case in parts.val} == {"val"}
    assert {case.split for case in parts.evaluate} == {"val", "test"}
    folded = [replace(case, split=str(i % 3)) for i, case in enumerate(cases)]
    folded[0] = replace(folded[0], split="test")
    parts = divide(folded, "1")
    assert {case.split for case in parts.train} == {"0", "2"}
    assert [case.split for case in parts.evaluate[: len(parts.val)]] == ["1"] * len(parts.val)
    assert parts.evaluate[len(parts.val) :] == (folded[0],)


@pytest.mark.parametrize(
    ("split", "fold", "said"),
    [
        (None, None, "no split"),
        ("train", None, "0 to validate"),
        ("0", None, "0 cases to train on"),
        ("0", "0", "0 cases to train on"),
        ("0", "7", "no fold '7'; the folds are 0"),
        ("test", "test", "no fold 'test'; the case table has none"),
    ],
)
def test_nothing_to_train_or_validate_on_is_an_error(
    cases: list[Case], split: str | None, fold: str | None, said: str
) -> None:
    with pytest.raises(TableError, match=said):
        divide([replace(case, split=split) for case in cases], fold)


def test_the_sampler_goes_by_seed_and_epoch_and_deals_to_processes() -> None:
    def order(epoch: int, rank: int = 0, world_size: int = 1) -> list[int]:
        sampler = EpochSampler(50, 8, seed=1, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)
        return [row for batch in sampler for row in batch]

    assert order(0) == order(0) != order(1)
    assert len(set(order(0))) == 48  # full batches only
    assert set(order(2, 0, 2)) & set(order(2, 1, 2)) == set()
