from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from melascope.errors import RecipeError
from melascope.learning.backbones import build_network, parameter_groups
from melascope.learning.recipe import ModelPart

PRETRAINED = Path(__file__).parents[2].parent / "shared" / "pretrained"


@pytest.mark.parametrize(("size_px", "channels"), [(28, 1), (28, 3), (64, 1), (100, 3)])
def test_simple_cnn_takes_any_size_from_28_up(size_px: int, channels: int) -> None:
    network = build_network(ModelPart(backbone="simple_cnn", weights="none"), in_chans=channels).eval()
    outputs = network(torch.randn(2, channels, size_px, size_px))
    assert outputs.logits.shape == (2, 7)
    assert outputs.features.shape == (2, 256, size_px // 8, size_px // 8)
    torch.testing.assert_close(outputs.embedding, outputs.features.mean(dim=(2, 3)))


def test_mirror_images_are_averaged_when_judging_only() -> None:
    torch.manual_seed(1)
    alone = build_network(ModelPart(backbone="simple_cnn", weights="none"), in_chans=3)
    mirrored = build_network(ModelPart(backbone="simple_cnn", weights="none", mirrors=4), in_chans=3)
    mirrored.load_state_dict(alone.state_dict())
    alone.eval()
    mirrored.eval()
    pixels = torch.randn(2, 3, 32, 32)
    whole, turned = mirrored(pixels), mirrored(pixels.flip(3))
    mean = sum(alone(pixels.flip(axes)).logits for axes in ((), (3,), (2,), (2, 3))) / 4
    torch.testing.assert_close(whole.logits, mean)
    torch.testing.assert_close(turned.logits, whole.logits)
    torch.testing.assert_close(turned.features.flip(3), whole.features)
    assert not torch.allclose(alone(pixels).logits, whole.logits)


@pytest.mark.parametrize("zooms", [(1.0, 0.7), (0.5,), (1.0, 0.8, 0.6)])
def test_views_are_averaged_and_their_maps_laid_where_they_looked(zooms: tuple[float, ...]) -> None:
    torch.manual_seed(2)
    alone = build_network(ModelPart(backbone="simple_cnn", weights="none"), in_chans=3).eval()
    several = build_network(ModelPart(backbone="simple_cnn", weights="none", zooms=zooms), in_chans=3).eval()
    several.load_state_dict(alone.state_dict())
    pixels = torch.randn(2, 3, 160, 160)
    side = round(160 * min(zooms))
    views = []
    for zoom in zooms:  # Pillow's antialiasing is the oracle of the resizing
        margin = round(80 * (1 - zoom))
        part = pixels[:, :, margin : 160 - margin, margin : 160 - margin]
        shrunk = [[Image.fromarray(c.numpy()).resize((side, side), 2) for c in image] for image in part]
        views.append(torch.from_numpy(np.array([[np.array(c) for c in image] for image in shrunk])))
    whole = several(pixels)
    torch.testing.assert_close(
        whole.logits, sum(alone(view).logits for view in views) / len(views), rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(whole.embedding, whole.features.mean(dim=(2, 3)))
    torch.testing.assert_close(several.head(whole.features.mean(dim=(2, 3))), whole.logits)
    edge = whole.features[:, :, 0]
    assert (edge == 0).all() == (max(zooms) < 0.9)  # nothing is claimed of what no view has seen


@pytest.mark.parametrize(("name", "n_features"), [("resnet50", 2048), ("mobilenetv2_100", 1280)])
def test_timm_backbones_give_a_feature_map(name: str, n_features: int) -> None:
    network = build_network(ModelPart(backbone=name, weights="none"), in_chans=3).eval()
    assert network(torch.randn(1, 3, 64, 64)).features.shape == (1, n_features, 2, 2)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (ModelPart(backbone="resnet51", weights="none"), "resnet51"),
        (ModelPart(backbone="resnet18", weights="absent.safetensors"), "absent"),
        (ModelPart(backbone="vit_tiny_patch16_224", weights="none"), "vit_tiny"),
        (ModelPart(backbone="resnet18", weights="none", keep_stages=2), "keep_stages"),
        (ModelPart(backbone="resnet18", weights="none", stem_norm=True), "stem_norm"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(part: ModelPart, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        build_network(part, in_chans=3)


def test_weights_come_from_a_file_and_must_fit(tmp_path: Path) -> None:
    import timm

    donor = timm.create_model("resnet18", pretrained=False)
    path = tmp_path / "resnet18.safetensors"
    save_file({name: value.contiguous() for name, value in donor.state_dict().items()}, path)
    network = build_network(ModelPart(backbone="resnet18", weights=str(path)), in_chans=3)
    torch.testing.assert_close(network.backbone.model.layer1[0].conv1.weight, donor.layer1[0].conv1.weight)
    save_file({**donor.state_dict(), "layer9.weight": torch.zeros(1)}, path)
    with pytest.raises(RecipeError, match="do not fit resnet34"):
        build_network(ModelPart(backbone="resnet34", weights=str(path)), in_chans=3)
    path.write_bytes(b"not safetensors")
    with pytest.raises(RecipeError, match="not a safetensors file"):
        build_network(ModelPart(backbone="resnet18", weights=str(path)), in_chans=3)


@pytest.mark.real
@pytest.mark.parametrize("keep_stages", [None, 3])
def test_the_model_zoo_s_weights_load(keep_stages: int | None) -> None:
    path = PRETRAINED / "resnetv2_50.onnx-zoo-stages-1-3.safetensors"
    if not path.exists():
        pytest.skip("the pretrained weights are absent")
    part = ModelPart(backbone="resnetv2_50", weights=str(path), stem_norm=True, keep_stages=keep_stages)
    network = build_network(part, in_chans=3)
    assert network.head.in_features == (1024 if keep_stages else 2048)
    assert network.backbone.model.stem.norm.running_var.std() > 0  # not the fresh statistics, which are all 1


def test_learning_rates_fall_towards_the_input_and_norms_do_not_decay() -> None:
    network = build_network(ModelPart(backbone="resnet18", weights="none"), in_chans=3)
    groups = parameter_groups(network, lr=1.0, backbone_lr_factor=0.1, layer_decay=0.5, weight_decay=0.01)
    rate_of = {id(p): float(g["lr"]) for g in groups for p in g["params"]}
    decay_of = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    model = network.backbone.model
    assert rate_of[id(network.head.weight)] == 1.0
    assert rate_of[id(model.layer4[1].conv2.weight)] == pytest.approx(0.1)
    assert rate_of[id(model.conv1.weight)] < rate_of[id(model.layer1[0].conv1.weight)] < 0.1
    assert decay_of[id(network.head.weight)] == 0.01
    assert decay_of[id(model.bn1.weight)] == decay_of[id(network.head.bias)] == 0.0
    assert len(rate_of) == len(list(network.parameters()))


def test_a_factor_of_zero_freezes_the_backbone() -> None:
    network = build_network(ModelPart(backbone="simple_cnn", weights="none"), in_chans=3)
    groups = parameter_groups(network, lr=1.0, backbone_lr_factor=0.0, layer_decay=1.0, weight_decay=0.0)
    assert sum(len(g["params"]) for g in groups) == 2
    assert not any(p.requires_grad for p in network.backbone.parameters())
