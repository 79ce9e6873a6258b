"""The bundle in the package: whole, small, honest, and quoted correctly."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from melascope.bundle.catalogue import load_bundle
from melascope.bundle.store import CAM_WEIGHT, Bundle
from melascope.domain.assessment import Decision
from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.domain.image import RgbImage
from melascope.imaging.decode import read_image
from melascope.runtime.assessor import Assessor

ROOT = Path(__file__).parents[2]
NAME = "melascope-small"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(NAME)  # verifies every hash


def test_it_is_small(bundle: Bundle) -> None:
    assert len((files("melascope.bundle") / "bundles" / f"{NAME}.zip").read_bytes()) <= 16 * 2**20


def test_it_was_trained_on_what_it_says_and_measured_on_other_lesions(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.classes == ISIC2018_CLASSES
    assert set(manifest.training.sources) == {"ham10000", "isic2017"}
    assert manifest.training.audit_override is None
    assert {m.name for m in manifest.measurements} >= {"test", "isic2018-val"}
    assert "NC" in manifest.licence
    for measurement in manifest.measurements:
        figure = measurement.figures["melanoma_auroc"]
        assert figure.value is not None
        assert figure.low is not None
        assert figure.high is not None
        assert 0.5 < figure.low < figure.value < figure.high <= 1


def test_the_card_says_what_it_must(bundle: Bundle) -> None:
    for heading in ("Intended use", "Training data", "Figures", "Decision", "Limits", "Licence"):
        assert f"## {heading}" in bundle.card
    assert "not a medical device" in bundle.card
    assert "CC BY-NC" in bundle.card
    for measurement in bundle.manifest.measurements:
        value = measurement.figures["melanoma_auroc"].value
        assert f"{value:.3f}" in bundle.card
        assert measurement.command.split(" --split")[0] in bundle.card


def test_the_readme_quotes_the_card(bundle: Bundle) -> None:
    section = (ROOT / "README.md").read_text().split("## How good is it")[1].split("\n## ")[0]
    quoted = [line for line in section.splitlines() if re.match(r"\| \w", line) and re.search(r"\d", line)]
    assert len(quoted) >= 5
    for line in quoted:
        assert line in bundle.card


def test_it_answers_for_a_picture_with_reasons_and_heatmap(bundle: Bundle) -> None:
    image = read_image(ROOT / "examples" / "drawn-lesion.png")
    assessment = Assessor(bundle).assess([image], heatmap=True)[0]
    assert assessment.probabilities is not None
    assert sum(assessment.probabilities.values()) == pytest.approx(1)
    assert assessment.melanoma_probability == assessment.probabilities[Diagnosis.MEL]
    assert assessment.reasons
    assert assessment.prediction_set is not None
    (seen,) = assessment.images
    assert seen.novelty is not None
    assert seen.heatmap is not None
    assert np.max(seen.heatmap.values_HW) in (0.0, pytest.approx(1.0))
    assert bundle.reference[CAM_WEIGHT].shape[0] == len(bundle.manifest.classes)


def test_its_promises_are_kept_where_they_were_made(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.operating_point().name == "sensitivity-95"
    assert all(point.guaranteed for point in manifest.operating_points)
    assert manifest.conformal is not None
    assert all(manifest.conformal.promised_C)


def test_what_is_referred_does_not_exclude_melanoma(bundle: Bundle) -> None:
    image = read_image(ROOT / "examples" / "drawn-lesion.png")
    for point in bundle.manifest.operating_points:
        (assessment,) = Assessor(bundle).assess([image], operating_point=point.name)
        assert assessment.prediction_set is not None
        if assessment.decision is Decision.REFER:
            assert Diagnosis.MEL in assessment.prediction_set.diagnoses


@pytest.mark.parametrize("kind", ["black", "white", "grey", "skin", "noise", "stripes"])
def test_a_picture_of_no_lesion_gets_no_answer(bundle: Bundle, kind: str) -> None:
    random = np.random.default_rng(0)
    pixels = {
        "black": np.zeros((300, 400, 3)),
        "white": np.full((300, 400, 3), 255),
        "grey": np.full((300, 400, 3), 128),
        "skin": np.full((300, 400, 3), (220, 170, 150)),
        "noise": random.integers(0, 256, (300, 400, 3)),
        "stripes": np.where(np.arange(400)[None, :, None] // 20 % 2, 230, 20) + np.zeros((300, 400, 3)),
    }[kind].astype(np.uint8)
    image = RgbImage(pixels_HWC=pixels, name=kind, format="PNG", sha256="0" * 64)
    (assessment,) = Assessor(bundle).assess([image], heatmap=True)
    assert assessment.decision is Decision.CANNOT_ASSESS
    assert assessment.melanoma_probability is None
    assert assessment.images[0].heatmap is None
