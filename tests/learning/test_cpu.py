import platform

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from melascope.learning.backbones import build_network
from melascope.learning.cpu import computes_bfloat16, widen_slow_depthwise
from melascope.learning.recipe import ModelPart


def slow(kind: type[nn.Conv2d] = nn.Conv2d) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3),
        kind(8, 8, 3, 2, 1, groups=8, bias=False),
        kind(8, 8, 5, 1, 2, groups=8, bias=False),
        nn.Conv2d(8, 16, 1),
    ]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def gradients(network: nn.Module, *, bf16: bool) -> list[torch.Tensor]:
    pixels = torch.linspace(-2, 2, 2 * 3 * 32 * 32).sin().view(2, 3, 32, 32).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        answer = network(pixels)
    answer.float().square().mean().backward()
    return [pixels.grad, *(parameter.grad for parameter in network.parameters())]


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
def test_strided_and_wide_depthwise_convolutions_learn_what_they_learnt_before(kind: type[nn.Conv2d]) -> None:
    plain, wide = slow(kind), slow(kind)
    widen_slow_depthwise(wide)
    assert [type(a) is type(b) for a, b in zip(plain, wide, strict=True)] == [True, False, False, True]
    wide.load_state_dict(plain.state_dict())
    exact = gradients(plain, bf16=False)
    torch.testing.assert_close(gradients(wide, bf16=False), exact, rtol=0, atol=0)
    for parameter in wide.parameters():
        parameter.grad = None
    for rounded, wanted in zip(gradients(wide, bf16=True), exact, strict=True):
        torch.testing.assert_close(rounded.float(), wanted, rtol=0.05, atol=0.02 * float(wanted.abs().max()))


def test_they_alone_leave_bfloat16_and_only_while_learning() -> None:
    network = slow()
    widen_slow_depthwise(network)
    assert [type(layer) is nn.Conv2d for layer in network] == [True, False, False, True]
    layer, pixels = network[1], torch.randn(2, 8, 16, 16).bfloat16()
    options = {"stride": 2, "padding": 1, "groups": 8}
    wide = nn.functional.conv2d(pixels.float(), layer.weight, **options).bfloat16()
    narrow = nn.functional.conv2d(pixels, layer.weight.bfloat16(), **options)
    assert not torch.equal(wide, narrow)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer.train()(pixels), wide, rtol=0, atol=0)
        torch.testing.assert_close(layer.eval()(pixels), narrow, rtol=0, atol=0)


@pytest.mark.parametrize(("backbone", "n_slow"), [("mobilenetv2_100", 4), ("tf_efficientnet_lite0", 11)])
def test_a_backbone_has_few_of_them(backbone: str, n_slow: int) -> None:
    network = build_network(ModelPart(backbone=backbone, weights="none"), in_chans=3)
    names = list(network.state_dict())
    before = [type(module) for module in network.modules()]
    widen_slow_depthwise(network)
    changed = [a is not type(b) for a, b in zip(before, network.modules(), strict=True)]
    assert sum(changed) == n_slow
    assert list(network.state_dict()) == names


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ARM has instructions of its own for it")
def test_no_cpu_of_short_vectors_computes_bfloat16() -> None:
    assert not computes_bfloat16() or torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def test_a_build_without_onednn_computes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not computes_bfloat16()
