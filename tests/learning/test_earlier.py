"""Going on from an earlier run's network: its weights, unless it has seen what is judged."""

from __future__ import annotations

import json
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
from melascope.learning.earlier import starts_of, teachers_of
from melascope.learning.fit import RunOptions, fit
from melascope.learning.parts import divide
from melascope.learning.recipe import Recipe
from melascope.learning.run import load_run


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe, cases: list[Case]) -> Path:
    """A finished run of one epoch; one image is of the ISIC archive."""
    folder = tmp_path_factory.mktemp("earlier")
    learnt = [replace(cases[0], image_id="ISIC_0000007_downsampled"), *cases[1:]]
    assert learnt[0].split == "train"
    return fit(changed(recipe, train={"epochs": 1}), learnt, options(folder / "run", folder / "cache"))


def options(folder: Path, cache: Path, **more: object) -> RunOptions:
    return RunOptions(folder=folder, cache_folder=cache, accelerator="cpu", devices="1", **more)


def changed(recipe: Recipe, **parts: dict[str, object]) -> Recipe:
    return recipe.model_copy(
        update={name: getattr(recipe, name).model_copy(update=values) for name, values in parts.items()}
    )


def going_on(recipe: Recipe, earlier: Path) -> Recipe:
    return changed(recipe, model={"start_from": (str(earlier),)})


def test_a_run_goes_on_with_the_best_weights_of_another(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    begun: dict[str, torch.Tensor] = {}

    class Watch(LightningCallback):
        def on_train_start(self, trainer, pl_module) -> None:
            begun.update({n: w.clone() for n, w in pl_module.network.state_dict().items()})

    asked = changed(recipe, model={"start_from": (str(earlier),)}, train={"epochs": 1})
    folder = fit(asked, cases, options(tmp_path / "run", earlier.parent / "cache", callbacks=(Watch(),)))
    best = load_run(earlier).network.state_dict()
    assert begun.keys() == best.keys()
    assert all(torch.equal(begun[name], best[name]) for name in best)
    run = load_run(folder)
    assert run.facts["start_from"] == [str(earlier)]
    assert not torch.equal(run.network.head.weight, best["head.weight"])


def test_no_epoch_judges_the_same_weights_by_other_views(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    asked = changed(
        recipe, model={"start_from": (str(earlier),), "zooms": (1.0, 0.7), "mirrors": 2}, train={"epochs": 0}
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
    assert (
        load_run(fit(asked, fewer, options(tmp_path / "fewer", cache))).facts["training"]["n_images"] == 180
    )
    unseen = next(c.lesion_id for c in cases if c.split == "test")
    more = [replace(c, split="train") if c.lesion_id == unseen else c for c in cases]
    with pytest.raises(MelascopeError, match="learnt"):
        fit(asked, more, options(tmp_path / "more", cache))
    assert not (tmp_path / "more").exists()


def test_several_runs_are_gone_on_with_from_the_mean_of_their_weights(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    cache = earlier.parent / "cache"
    further = fit(
        changed(going_on(recipe, earlier), train={"epochs": 1}), cases, options(tmp_path / "further", cache)
    )
    folders = (str(earlier), str(further))
    asked = changed(recipe, model={"start_from": folders}, train={"epochs": 0})
    soup = load_run(fit(asked, cases, options(tmp_path / "soup", cache)))
    first, second = (load_run(Path(folder)).network.state_dict() for folder in folders)
    for name, value in soup.network.state_dict().items():
        wanted = (first[name] + second[name]) / 2 if value.is_floating_point() else first[name]
        torch.testing.assert_close(value, wanted)
    assert not torch.equal(first["head.weight"], second["head.weight"])
    assert soup.facts["pretrained"] == f"none, seed 1, then the mean of the runs {earlier.name}, further"
    before = [case for folder in folders for case in load_run(Path(folder)).learnt]
    assert {case.image_id for case in soup.learnt} == {case.image_id for case in before}

    shutil.copytree(further, tmp_path / "stranger")
    facts = json.loads((further / "run.json").read_text())
    (tmp_path / "stranger" / "run.json").write_text(json.dumps(facts | {"pretrained": "timm elsewhere"}))
    strange = changed(recipe, model={"start_from": (str(earlier), str(tmp_path / "stranger"))})
    with pytest.raises(RecipeError, match=r"came from none, seed 1, stranger from timm elsewhere"):
        starts_of(strange, divide(cases, None))

    shutil.copytree(further, tmp_path / "sibling")
    text = (further / "recipe.toml").read_text()
    assert "seed = 1" in text
    (tmp_path / "sibling" / "recipe.toml").write_text(text.replace("seed = 1", "seed = 2"))
    random = changed(recipe, model={"start_from": (str(earlier), str(tmp_path / "sibling"))})
    with pytest.raises(RecipeError, match=r"came from none, seed 1, sibling from none, seed 2: the mean"):
        starts_of(random, divide(cases, None))


@pytest.mark.parametrize("name", ["cases.csv", "run.json", "best.ckpt"])
def test_a_run_that_has_not_ended_is_refused(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case], name: str
) -> None:
    shutil.copytree(earlier, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(MelascopeError, match=name):
        starts_of(going_on(recipe, tmp_path / "run"), divide(cases, None))


def test_a_network_that_does_not_fit_is_refused(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    fewer = changed(going_on(recipe, earlier), model={"classes": recipe.model.classes[:2]})
    with pytest.raises(RecipeError, match=r"has model.classes MEL, NV, BKL, this run MEL, NV\."):
        fit(fewer, cases, options(tmp_path / "fewer", earlier.parent / "cache"))
    assert not (tmp_path / "fewer").exists()
    gray = going_on(
        recipe.model_copy(
            update={"preprocess": replace(recipe.preprocess, colour="grayscale", mean=(0.5,), std=(0.25,))}
        ),
        earlier,
    )
    with pytest.raises(RecipeError, match=r"has preprocess.channels 3, this run 1\."):
        starts_of(gray, divide(cases, None))


@pytest.mark.parametrize(
    "disguise",
    [
        lambda seen, new: replace(new, lesion_id=seen.lesion_id),
        lambda seen, new: replace(new, sha256=seen.sha256),
        lambda seen, _new: replace(seen, image_id="another name", lesion_id=None),
        lambda _seen, new: replace(new, image_id="ISIC_0000007", source="another dataset"),
    ],
    ids=["another image of the lesion", "the same file", "under another name", "of the archive"],
)
def test_a_network_that_learnt_what_is_judged_is_refused(
    earlier: Path, recipe: Recipe, cases: list[Case], disguise: Callable[[Case, Case], Case]
) -> None:
    parts = divide(cases, None)
    known = disguise(parts.train[0], replace(parts.val[0], lesion_id=None, sha256=None, image_id="new"))
    judged = replace(parts, evaluate=(*parts.evaluate, known))
    with pytest.raises(
        LeakError, match=f"1 images that this run is judged by, the first is {known.image_id}"
    ):
        starts_of(going_on(recipe, earlier), judged)


def test_what_an_earlier_run_was_chosen_by_is_no_test(
    earlier: Path, recipe: Recipe, cases: list[Case]
) -> None:
    other = {"val": "test", "test": "val"}
    redealt = [replace(case, split=other.get(str(case.split), case.split)) for case in cases]
    with pytest.raises(
        LeakError, match=f"chosen by, lesions of {sum(c.split == 'val' for c in cases)} images"
    ):
        starts_of(going_on(recipe, earlier), divide(redealt, None))


def test_what_a_run_knows_is_handed_down(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    """A lesion that only the first of three runs learnt is refused as a test of the third, whatever it took."""
    lost = {"lesion_0", "lesion_1"}
    fewer = [c for c in cases if c.lesion_id not in lost]
    cache = earlier.parent / "cache"
    short = changed(recipe, train={"epochs": 1}, augment={"mixup_alpha": 0.0, "cutmix_alpha": 0.0})
    taught = changed(short, distillation={"teachers": (str(earlier),)})
    for name, asked in (("went-on", going_on(short, earlier)), ("was-taught", taught)):
        folder = fit(asked, [replace(c, source="elsewhere") for c in fewer], options(tmp_path / name, cache))
        run = load_run(folder)
        own = run.facts["training"]
        assert own["sources"] == {"elsewhere": 176, "drawn": 180}
        assert own["n_images"] == 356
        assert own["teachers"] == (["run"] if name == "was-taught" else [])
        assert run.facts["pretrained"] == ("none" if name == "was-taught" else "none, then the run run")
        assert len({c.image_id for c in run.earlier}) == len(run.earlier) == 240
        redealt = [replace(c, split="test") if c.lesion_id in lost else c for c in cases]
        parts = divide(redealt, None)
        for again in (going_on(recipe, folder), changed(short, distillation={"teachers": (str(folder),)})):
            with pytest.raises(LeakError, match="lesions of 4 images"):
                starts_of(again, parts) or teachers_of(again, parts)
        (folder / "earlier.csv").unlink()
        with pytest.raises(RecipeError, match=r"earlier\.csv is missing"):
            starts_of(going_on(recipe, folder), divide(fewer, None))


def test_a_run_that_validates_on_what_the_earlier_one_learnt_is_refused(
    earlier: Path, tmp_path: Path, recipe: Recipe, cases: list[Case]
) -> None:
    other = {"train": "val", "val": "train", "test": "test"}
    redealt = [replace(case, split=other[str(case.split)]) for case in cases]
    asked = changed(recipe, model={"start_from": (str(earlier),)})
    with pytest.raises(LeakError, match="Take a run of the same split"):
        fit(asked, redealt, options(tmp_path / "run", earlier.parent / "cache"))
