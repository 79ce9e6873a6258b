"""torchvision's resize and normalise, an implementation by others, agree with ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import lesion
from PIL import Image

from melascope.imaging.preprocess import PreprocessSpec, preprocess

transforms = pytest.importorskip("torchvision.transforms.v2", reason="needs the train extra")
torch = pytest.importorskip("torch", reason="needs the train extra")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size_px", [28, 100, 224, 300])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_equal_to_torchvision_on_a_pillow_image(resize: Any, size_px: int, interpolation: Any) -> None:
    spec = PreprocessSpec(size_px=size_px, resize=resize, interpolation=interpolation)
    image = lesion(160, 120)
    theirs = transforms.Compose(
        [
            *([transforms.CenterCrop(120)] if resize == "crop" else []),
            transforms.Resize(
                (size_px, size_px), interpolation=transforms.InterpolationMode(interpolation), antialias=True
            ),
            transforms.PILToTensor(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )(Image.fromarray(image))
    # Ours looks over the edge of the crop for the filter's outermost pixels; torchvision has cut them off.
    margin_px = max(4, size_px * 4 // 120) if resize == "crop" else 0
    inside = slice(margin_px, size_px - margin_px)
    ours = preprocess([image], spec)[0]
    np.testing.assert_allclose(ours[..., inside], theirs.numpy()[..., inside], rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_close_to_torchs_own_kernels(interpolation: Any) -> None:
    spec = PreprocessSpec(
        size_px=64, resize="squash", interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1)
    )
    image = lesion(160, 120)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image.transpose(2, 0, 1)[None]).float() / 255,
        size=(64, 64),
        mode=interpolation,
        antialias=True,
    )
    # Pillow rounds to 8 bits after each of its two passes.
    np.testing.assert_allclose(preprocess([image], spec), theirs.numpy(), rtol=0, atol=2.1 / 255)
