"""What makes training on an ordinary CPU fast; measured by benchmarks/training.py."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of malloc.h


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory of freed tensors, so that each batch does not fault its pages in anew.

    A C library without `mallopt` is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 256 * 2**20)


def widen_strided_depthwise(network: nn.Module) -> None:
    """Have strided depthwise convolutions learn in float32 on a CPU, in place.

    Their gradient by the input has no fast bfloat16 kernel in oneDNN: one such layer of MobileNetV2 took a fifth of
    the whole step. Weights and their names stay as they are.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels > 1 and max(module.stride) > 1:
            module.__class__ = _WideConv2d


class _WideConv2d(nn.Conv2d):
    """A convolution that autocast leaves alone while it learns on a CPU."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 - torch's name
        learns = self.training and input.device.type == "cpu"
        with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and not learns):
            answer: Tensor = super()._conv_forward(input.float() if learns else input, weight, bias)
        return answer.to(input.dtype) if learns else answer
