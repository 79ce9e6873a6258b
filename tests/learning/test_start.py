"""Going on from an earlier run's network: its weights, unless it has seen what is judged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback as LightningCallback

from melascope.domain.case import Case
from melascope.errors import LeakError, MelascopeError, RecipeError
from melascope.learning.backbones import Classifier, build_network
from melascope.learning.fit import RunOptions, fit
from melascope.learning.parts import divide
from melascope.learning.recipe import ModelPart, Recipe
from melascope.learning.run import load_run
from melascope.learning.start import start_from


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe, cases: list[Case]) -> Path:
    """A finished run of one epoch."""
    folder = tmp_path_factory.mktemp("earlier")
    return fit(changed(recipe, train={"epochs": 1}), cases, options(folder / "run", folder / "cache"))


def options(folder: Path, cache: Path, **more: object) -> RunOptions:
    return RunOptions(folder=folder, cache_folder=cache, accelerator="cpu", devices="1", **more)


def changed(recipe: Recipe, **parts: dict[str, object]) -> Recipe:
    return recipe.model_copy(
        update={name: getattr(recipe, name).model_copy(update=values) for name, values in parts.items()}
    )


def network(part: ModelPart) -> Classifier:
    return build_network(part, in_chans=3)


def test_a_run_goes_on_with_the_best_weights_of_another(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    begun: dict[str, torch.Tensor] = {}

    class Watch(LightningCallback):
        def on_train_start(self, trainer, pl_module) -> None:
            begun.update({n: w.clone() for n, w in pl_module.network.state_dict().items()})

    asked = changed(recipe, model={"start_from": str(earlier)}, train={"epochs": 1})
    folder = fit(asked, cases, options(tmp_path / "run", earlier.parent / "cache", callbacks=(Watch(),)))
    best = load_run(earlier).network.state_dict()
    assert begun.keys() == best.keys()
    assert all(torch.equal(begun[name], best[name]) for name in best)
    run = load_run(folder)
    assert run.facts["start_from"] == str(earlier)
    assert not torch.equal(run.network.head.weight, best["head.weight"])


def test_no_epoch_judges_the_same_weights_by_other_views(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    asked = changed(
        recipe, model={"start_from": str(earlier), "zooms": (1.0, 0.7), "mirrors": 2}, train={"epochs": 0}
    )
    cache = earlier.parent / "cache"
    before, after = load_run(earlier), load_run(fit(asked, cases, options(tmp_path / "run", cache)))
    weights = before.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in after.network.state_dict().items())
    assert [c.image_id for c in after.predictions.cases] == [c.image_id for c in before.predictions.cases]
    assert not np.allclose(after.predictions.logits_NC, before.predictions.logits_NC, atol=1e-3)
    assert after.facts["epochs"] == 0
    assert np.isfinite(after.facts["monitor"]["value"])

    other = [replace(c, split="test") if c.lesion_id == "lesion_0" else c for c in cases]
    with pytest.raises(MelascopeError, match="learnt from"):
        fit(asked, other, options(tmp_path / "other", cache))
    fewer = [c for c in cases if c.lesion_id != "lesion_0"]
    with pytest.raises(RecipeError, match="learnt from other images"):
        fit(asked, fewer, options(tmp_path / "fewer", cache))


@pytest.mark.parametrize("name", ["cases.csv", "run.json", "best.ckpt"])
def test_a_run_that_has_not_ended_is_refused(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case], name: str
) -> None:
    shutil.copytree(earlier, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(MelascopeError, match=name):
        start_from(tmp_path / "run", network(recipe.model), divide(cases, None).evaluate)


def test_a_network_that_does_not_fit_is_refused(earlier: Path, recipe: Recipe, cases: list[Case]) -> None:
    judged = divide(cases, None).evaluate
    fewer = recipe.model.model_copy(update={"classes": recipe.model.classes[:2]})
    with pytest.raises(RecipeError, match=r"2 tensors .* do not fit, the first is 'head\.bias'"):
        start_from(earlier, network(fewer), judged)
    with pytest.raises(RecipeError, match="do not fit"):
        start_from(earlier, build_network(recipe.model, in_chans=1), judged)


@pytest.mark.parametrize(
    "disguise",
    [
        lambda seen, new: replace(new, lesion_id=seen.lesion_id),
        lambda seen, new: replace(new, sha256=seen.sha256),
        lambda seen, _new: replace(seen, image_id="another name", lesion_id=None),
    ],
    ids=["another image of the lesion", "the same file", "under another name"],
)
def test_a_network_that_learnt_what_is_judged_is_refused(
    earlier: Path, recipe: Recipe, cases: list[Case], disguise: Callable[[Case, Case], Case]
) -> None:
    parts = divide(cases, None)
    judged = [*parts.evaluate, disguise(parts.train[0], parts.val[0])]
    begun = network(recipe.model)
    before = begun.head.weight.clone()
    with pytest.raises(
        LeakError, match=f"1 images that this run is judged by, the first is {judged[-1].image_id}"
    ):
        start_from(earlier, begun, judged)
    assert torch.equal(begun.head.weight, before)


def test_a_run_that_validates_on_what_the_earlier_one_learnt_is_refused(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    other = {"train": "val", "val": "train", "test": "test"}
    redealt = [replace(case, split=other[str(case.split)]) for case in cases]
    asked = changed(recipe, model={"start_from": str(earlier)})
    with pytest.raises(LeakError, match="Take a run of the same split"):
        fit(asked, redealt, options(tmp_path / "run", earlier.parent / "cache"))
