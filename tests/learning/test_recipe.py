from pathlib import Path

import pytest

from melascope.errors import RecipeError
from melascope.learning.recipe import Recipe, describe_keys, load_recipe, parse_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_project_are_valid_and_named_as_their_files(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.purpose


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": "x", "learning": 1}, "learning"),
        ({"name": "x", "optim": {"learning_rate": 1}}, "optim.learning_rate"),
        ({"name": "x", "preprocess": {"sise_px": 224}}, "sise_px"),
        ({"name": "x", "preprocess": {"size_px": 20}}, "size_px is 20"),
        ({"name": "x", "preprocess": {"colour": "grayscale"}}, "grayscale"),
        ({"name": "x", "train": {"epochs": 0}}, "train.epochs"),
        ({"name": "x", "train": {"epochs": -1}}, "train.epochs is -1: input should be"),
        ({"name": "x", "train": {"seed": 2**32}}, "train.seed is 4294967296"),
        ({"name": "x", "train": {"epoch": 3}}, "no key train.epoch; is train.epochs meant"),
        ({"name": "x", "train": {"epochs": 3}, "optim": {"freeze_epochs": 3}}, "freeze_epochs is 3 of 3"),
        ({"name": "x", "train": {"epochs": 3}, "optim": {"warmup_epochs": 3}}, "warmup_epochs is 3.0 of 3"),
        ({"name": "x", "augment": {"stretch": 0.5}}, "augment.stretch is 0.5"),
        ({"name": "x", "model": {"dropout": 1}}, "model.dropout is 1"),
        ({"name": "x", "model": {"zooms": [0.7, 0.7]}}, "model.zooms: 0.7 is named twice"),
        ({"name": "x", "model": {"start_from": ["a", "a"]}}, "'a' is named twice"),
        ({"name": "x", "model": {"backbone": "simple_cnn"}}, "model.weights is 'timm'"),
        (
            {"name": "x", "model": {"backbone": "simple_cnn", "weights": "none", "keep_stages": 2}},
            "keep_stages is 2",
        ),
        ({"name": "x", "distillation": {"teachers": ["a"], "weight": 0}}, "teachers teach nothing"),
        ({"name": "x", "train": {"size_px": 160, "first_size_px": 192}}, "train.first_size_px is 192"),
        ({"name": "x", "augment": {"zoom": [1.2, 0.5]}}, "augment.zoom"),
        ({"name": "x", "model": {"classes": ["NV", "BCC"]}}, "MEL"),
        ({"name": "x", "model": {"classes": ["MEL", "MOLE"]}}, "model.classes"),
        ({"name": "x", "optim": {"lr": float("nan")}}, "optim.lr"),
        ({"name": "No Spaces"}, "name"),
        ({}, "name"),
    ],
)
def test_a_bad_value_is_refused_by_name(values: dict[str, object], named: str) -> None:
    with pytest.raises(RecipeError, match=named.replace(".", r"\.")):
        parse_recipe(values, name="bad.toml")


def test_a_wrong_item_is_told_once() -> None:
    with pytest.raises(RecipeError) as refused:
        parse_recipe({"name": "x", "model": {"zooms": [2.0]}}, name="bad.toml")
    assert str(refused.value).count("zooms") == 1


@pytest.mark.parametrize(
    ("train", "sides_px"),
    [
        ({"epochs": 3, "size_px": 160}, [160, 160, 160]),
        ({"epochs": 8, "size_px": 224, "first_size_px": 128}, [128, 144, 160, 176, 176, 192, 208, 224]),
        ({"epochs": 4, "size_px": 150, "first_size_px": 100}, [100, 116, 132, 150]),
        ({"epochs": 5, "size_px": 140, "first_size_px": 128}, [128, 128, 128, 140, 140]),
        ({"epochs": 1, "size_px": 160, "first_size_px": 128}, [160]),
    ],
)
def test_training_images_grow_evenly_to_their_last_size(
    train: dict[str, object], sides_px: list[int]
) -> None:
    recipe = parse_recipe({"name": "x", "train": train}, name="x")
    assert [recipe.train_size_px_at(epoch) for epoch in range(len(sides_px))] == sides_px


def test_overrides_are_toml_values_or_bare_words(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "r"\n[train]\nepochs = 3\n')
    recipe = load_recipe(
        path,
        [
            "train.epochs=5",
            "model.weights=some/file.safetensors",
            "model.start_from=runs/one",
            "augment.zoom=[0.5, 1]",
            "loss.by_source=false",
        ],
    )
    assert recipe.train.epochs == 5
    assert recipe.model.weights == "some/file.safetensors"
    assert recipe.model.start_from == ("runs/one",)
    assert recipe.augment.zoom == (0.5, 1.0)
    assert recipe.loss.by_source is False


@pytest.mark.parametrize("override", ["train.epochs", "=3", "name.x=1"])
def test_an_override_that_is_none_is_refused(tmp_path: Path, override: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "r"\n')
    with pytest.raises(RecipeError, match="--set"):
        load_recipe(path, [override])


def test_an_unreadable_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent\.toml"):
        load_recipe(tmp_path / "absent.toml")


def test_every_key_has_a_sentence_or_speaks_for_itself() -> None:
    keys = {key for key, _, _ in describe_keys()}
    assert {"model.backbone", "preprocess.size_px", "loss.imbalance", "train.seed", "name"} <= keys
    undescribed = [key for key, _, sentence in describe_keys() if not sentence]
    assert set(undescribed) <= {
        "train.epochs", "train.batch_size", "train.seed", "optim.schedule",
    } | {key for key in keys if key.startswith("preprocess.")}  # fmt: skip


def test_a_saved_recipe_reads_back_equal(recipe: Recipe) -> None:
    assert parse_recipe(recipe.model_dump(mode="json", exclude_none=True), name="saved") == recipe
