"""Real dermoscopic photographs come out as Pillow reads them, and none is taken for damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melascope.imaging.decode import read_image

DATA = Path(os.environ.get("MELASCOPE_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.real
@pytest.mark.parametrize(
    "dataset", ["ham10000", "isic2017_training", "isic2017_validation", "isic2018_validation"]
)
def test_every_fiftieth_photograph(dataset: str) -> None:
    paths = sorted((DATA / dataset).rglob("*.jpg"))[::50]
    if not paths:
        pytest.skip(f"no photographs in {DATA / dataset}; set MELASCOPE_DATA")
    for path in paths:
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_image(path).pixels_HWC, np.asarray(image.convert("RGB")))
