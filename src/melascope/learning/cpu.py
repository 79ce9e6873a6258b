"""What makes training on an ordinary CPU fast; measured by benchmarks/training.py."""

from __future__ import annotations

import ctypes

import torch
from timm.layers.conv2d_same import Conv2dSame
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


def computes_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16, and not only imitates it, many times slower than float32.

    That takes AVX-512 or, on ARM, instructions of its own: oneDNN's own answer.
    """
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def widen_slow_depthwise(network: nn.Module) -> None:
    """Have depthwise convolutions that are slow in bfloat16 learn in float32 on a CPU, in place.

    oneDNN has no fast bfloat16 kernel for the gradient by the input of strided ones (one such layer of MobileNetV2
    took a fifth of the whole step), and its kernels for windows wider than three pixels are slower than float32's.
    Weights and their names stay as they are.
    """
    for module in network.modules():
        wide = _WIDE.get(type(module))
        if wide is None or not isinstance(module, nn.Conv2d) or not module.groups == module.in_channels > 1:
            continue
        if max(module.stride) > 1 or max(module.kernel_size) > 3:
            module.__class__ = wide


class _LearnsInFloat32:
    """A layer that autocast leaves alone while it learns on a CPU."""

    training: bool

    def forward(self, x: Tensor) -> Tensor:
        learns = self.training and x.device.type == "cpu"
        with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and not learns):
            answer: Tensor = super().forward(x.float() if learns else x)  # type: ignore[misc]
        return answer.to(x.dtype) if learns else answer


class _WideConv2d(_LearnsInFloat32, nn.Conv2d):
    pass


class _WideConv2dSame(_LearnsInFloat32, Conv2dSame):
    pass


#: Both kinds of convolution that timm builds of; the second pads as TensorFlow does.
_WIDE: dict[type[nn.Module], type[nn.Conv2d]] = {nn.Conv2d: _WideConv2d, Conv2dSame: _WideConv2dSame}
