"""Several runs as one bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from melascope.datasets.files import open_case_bytes
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import LeakError, UsageError
from melascope.evaluation.predictions import read_predictions
from melascope.imaging.decode import decode_image
from melascope.imaging.preprocess import PreprocessSpec, preprocess
from melascope.learning.backbones import build_network, side_by_side
from melascope.learning.ensemble import join_runs
from melascope.learning.export import export_run
from melascope.learning.fit import RunOptions, fit
from melascope.learning.quantise import N_FIRST_LEFT
from melascope.learning.recipe import ModelPart, Recipe
from melascope.learning.run import load_run
from melascope.runtime.assessor import Assessor


@pytest.fixture(scope="module")
def dealt(cases: list[Case]) -> list[Case]:
    """The training lesions in two folds, the others as they are."""
    return [replace(c, split=str(n // 2 % 2)) if c.split == "train" else c for n, c in enumerate(cases)]


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe, dealt: list[Case]) -> list[Path]:
    folder = tmp_path_factory.mktemp("folds")
    short = recipe.model_copy(
        update={
            "train": recipe.train.model_copy(update={"epochs": 1}),
            "model": recipe.model.model_copy(update={"mirrors": 2, "zooms": (1.0, 0.75)}),
        }
    )
    return [
        fit(
            short,
            dealt,
            RunOptions(
                folder=folder / fold, cache_folder=folder / "cache", accelerator="cpu", devices="1", fold=fold
            ),
        )
        for fold in "01"
    ]


def test_an_ensemble_answers_the_mean_and_is_judged_by_what_nobody_learnt(
    folds: list[Path], dealt: list[Case], tmp_path: Path
) -> None:
    runs = [load_run(folder) for folder in folds]
    joined = join_runs(runs)
    pixels = torch.randn(3, 3, 28, 28)
    with torch.no_grad():
        alone, together = [run.network(pixels) for run in runs], joined.network(pixels)
    torch.testing.assert_close(together.logits, torch.stack([out.logits for out in alone]).mean(dim=0))
    torch.testing.assert_close(together.features, torch.cat([out.features for out in alone], dim=1))
    assert {c.image_id for c in joined.predictions.cases} == {
        c.image_id for c in dealt if c.split in {"val", "test"}
    }
    assert {c.image_id for c in joined.learnt} == {c.image_id for c in dealt if c.split in {"0", "1"}}

    bundle, parity = export_run(folds, tmp_path / "both.zip", n_bootstrap=5, parity_images=6)
    assert max(parity.graph_against_torch, parity.graph_against_predictions) < 1e-4
    manifest = bundle.manifest
    assert manifest.name == "tiny-ensemble"
    assert manifest.architecture.parameters == sum(run.facts["parameters"] for run in runs)
    assert manifest.training.n_images == len(joined.learnt)
    assert manifest.measurements[0].command.startswith("melascope evaluate both-predictions.csv --split test")
    assert "the mean of the logits of 2 networks: tiny, seed 1, fold 0; tiny, seed 1, fold 1" in bundle.card
    kept = read_predictions(tmp_path / "both-predictions.csv")
    path_of = {case.image_id: case.path for case in dealt}
    images = [decode_image(open_case_bytes(path_of[c.image_id]), name=c.image_id) for c in kept.cases[:20]]
    np.testing.assert_allclose(Assessor(bundle).logits(images), kept.logits_NC[:20], atol=1e-4)
    assessor = Assessor(bundle)
    seen_B = assessor.look([assessor.prepare(image) for image in images], activation=True)
    melanoma = manifest.classes.index(Diagnosis.MEL)
    for image, seen in zip(images, seen_B, strict=True):
        pixels = torch.from_numpy(preprocess([image.pixels_HWC], manifest.preprocess))
        with torch.no_grad():
            maps = [
                torch.einsum("f,fhw->hw", run.network.head.weight[melanoma], run.network(pixels).features[0])
                for run in runs
            ]
        mean_HW = torch.stack(maps).mean(dim=0).clamp(min=0).numpy()
        np.testing.assert_allclose(seen.activation_HW, mean_HW / (mean_HW.max() or 1.0), atol=1e-3)


def test_an_ensemble_goes_into_integers_but_for_the_first_convolutions_of_each_network(
    folds: list[Path], tmp_path: Path
) -> None:
    bundle, parity = export_run(
        folds, tmp_path / "both-1.0.zip", name="own", n_bootstrap=5, parity_images=6, precision="int8"
    )
    assert bundle.manifest.name == "own"
    assert parity.rounding is not None
    assert bundle.manifest.architecture.precision == "int8"
    graph = onnx.load_from_string(bundle.model).graph
    rounded = {name for node in graph.node if node.op_type == "QuantizeLinear" for name in node.input}
    assert "pixels" not in rounded
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    weights = [made_by.get(node.input[1]) for node in graph.node if node.op_type == "Conv"]
    assert weights.count("DequantizeLinear") == len(weights) - 2 * N_FIRST_LEFT == 2 * 4  # of 8 in each
    assert len(read_predictions(tmp_path / "both-1.0-predictions.csv").cases) > 20


def test_networks_of_other_kinds_and_other_normalisation_go_together() -> None:
    first, second = (
        build_network(ModelPart(backbone=name, weights="none", zooms=(1.0, 0.75)), in_chans=3).eval()
        for name in ("resnet18", "mobilenetv2_100")
    )
    ours = PreprocessSpec(size_px=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    theirs = PreprocessSpec(size_px=64)
    joined = side_by_side([first, second], [ours, theirs])
    seen = torch.rand(2, 3, 64, 64)  # in [0, 1]
    for_first, for_second = (
        (seen - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
        for spec in (ours, theirs)
    )
    with torch.no_grad():
        alone = first(for_first), second(for_second)
        together = joined(for_first)
    torch.testing.assert_close(together.logits, (alone[0].logits + alone[1].logits) / 2, rtol=1e-4, atol=1e-5)
    features = torch.cat([out.features for out in alone], dim=1)
    torch.testing.assert_close(together.features, features, rtol=1e-3, atol=1e-4)


def test_feature_maps_are_compared_at_the_size_of_a_view() -> None:
    first, second = (
        build_network(ModelPart(backbone=name, weights="none", zooms=(1.0, 0.8)), in_chans=3).eval()
        for name in ("legacy_xception", "mobilenetv2_100")
    )
    spec = PreprocessSpec(size_px=128)  # 4 x 4 cells of both; of the view of 102 px 3 x 3 and 4 x 4
    with pytest.raises(UsageError, match="feature maps are of 3 x 3 and 4 x 4 cells"):
        side_by_side([first, second], [spec, spec])


def test_an_ensemble_of_two_kinds_says_so_and_reads_pixels_as_the_first(folds: list[Path]) -> None:
    first, second = (load_run(folder) for folder in folds)
    part = ModelPart(
        backbone="resnet18", classes=first.recipe.model.classes, weights="none", mirrors=2, zooms=(1.0, 0.75)
    )
    preprocess = replace(second.recipe.preprocess, mean=(0.1, 0.2, 0.3))
    other = replace(second, recipe=second.recipe.model_copy(update={"model": part, "preprocess": preprocess}))
    joined = join_runs([first, other])
    assert joined.recipe.model.backbone == "simple_cnn + resnet18"
    assert joined.recipe.preprocess == first.recipe.preprocess
    coarser = replace(other, network=build_network(part, in_chans=3).eval())
    with pytest.raises(UsageError, match=r"feature maps are of 1 x 1 and \d x \d cells"):
        join_runs([first, coarser])


def test_runs_that_do_not_go_together_are_refused(folds: list[Path]) -> None:
    first, second = (load_run(folder) for folder in folds)
    other = replace(
        second,
        recipe=second.recipe.model_copy(
            update={"model": second.recipe.model.model_copy(update={"mirrors": 4})}
        ),
    )
    with pytest.raises(UsageError, match=r"differ in model\.mirrors: 0 has 2, 1 4"):
        join_runs([first, other])
    rows = replace(
        second.predictions, logits_NC=second.predictions.logits_NC[:1], cases=second.predictions.cases[:1]
    )
    with pytest.raises(UsageError, match="No image was judged by every run"):
        join_runs([first, replace(second, predictions=rows)])
    sibling = first.predictions.cases[-1]
    more = replace(first.learnt[0], lesion_id=sibling.lesion_id, image_id="another of it", split="0")
    with pytest.raises(UsageError, match="named twice"):
        join_runs([first, second, first])
    with pytest.raises(LeakError, match="lesions of"):
        join_runs([first, replace(second, cases=(*second.cases, more))])
    judged = next(case for case in first.cases if case.image_id == sibling.image_id)
    copy = replace(first.learnt[0], image_id="a copy of it", sha256=judged.sha256, split="0")
    with pytest.raises(LeakError, match="lesions of"):
        join_runs([first, replace(second, cases=(*second.cases, copy))])
    renamed = [replace(c, sha256="0" * 64) if c.image_id == judged.image_id else c for c in second.cases]
    with pytest.raises(UsageError, match=f"called alike and are other files, the first is {judged.image_id}"):
        join_runs([first, replace(second, cases=tuple(renamed))])


def test_what_an_ensemble_learnt_is_known_without_a_common_val(folds: list[Path]) -> None:
    runs = []
    for run in map(load_run, folds):
        rows = [row for row, case in enumerate(run.predictions.cases) if case.split == "test"]
        cases = tuple(run.predictions.cases[row] for row in rows)
        predictions = replace(run.predictions, logits_NC=run.predictions.logits_NC[rows], cases=cases)
        runs.append(replace(run, predictions=predictions))
    joined = join_runs(runs)
    assert {c.split for c in joined.predictions.cases} == {"test"}
    assert {c.image_id for c in joined.learnt} == {c.image_id for run in runs for c in run.learnt}


def test_a_member_that_learnt_nothing_has_no_seed(folds: list[Path]) -> None:
    first, second = (load_run(folder) for folder in folds)
    joined = join_runs([first, replace(second, facts={**second.facts, "epochs": 0})])
    assert joined.facts["members"] == ["tiny, seed 1, fold 0", "tiny, fold 1"]
