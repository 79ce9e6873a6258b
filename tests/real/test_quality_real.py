"""Real dermoscopy is rarely called poor and never unusable; a real cut lesion is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from melascope.imaging.decode import read_image
from melascope.imaging.quality import examine

DATA = Path(os.environ.get("MELASCOPE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def photographs(dataset: str, every: int) -> list[Path]:
    paths = sorted((DATA / dataset).rglob("*.jpg"))[::every]
    if not paths:
        pytest.skip(f"no photographs in {DATA / dataset}; set MELASCOPE_DATA")
    return paths


@pytest.mark.real
@pytest.mark.parametrize(
    ("dataset", "every"), [("ham10000", 40), ("isic2017_training", 10), ("isic2018_validation", 2)]
)
def test_few_real_photographs_are_poor_and_none_is_unusable(dataset: str, every: int) -> None:
    paths = photographs(dataset, every)
    severities = [{f.severity for f in examine(read_image(path).pixels_HWC)} for path in paths]
    assert not any("unusable" in found for found in severities)
    assert sum("poor" in found for found in severities) / len(paths) <= 0.07


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ham10000/HAM10000_images_part_1/ISIC_0025698.jpg", "lesion-cut"),
        ("ham10000/HAM10000_images_part_2/ISIC_0032214.jpg", "hair"),
        ("ham10000/HAM10000_images_part_2/ISIC_0030006.jpg", "ink"),
        ("isic2017_training/ISIC-2017_Training_Data/ISIC_0012740.jpg", "ruler"),
        ("isic2017_training/ISIC-2017_Training_Data/ISIC_0000290.jpg", "dark-corners"),
        ("isic2017_training/ISIC-2017_Training_Data/ISIC_0012814.jpg", "glare"),
    ],
)
def test_what_is_plain_to_see_is_found(name: str, code: str) -> None:
    found = [path for path in photographs(str(Path(name).parent), 1) if path.name == Path(name).name]
    if not found:
        pytest.skip(f"{name} is not in {DATA}")
    assert code in {finding.code for finding in examine(read_image(found[0]).pixels_HWC)}
