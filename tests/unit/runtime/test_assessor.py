"""From pixels to a decision, against the same network written in NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn import lesion
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import softmax

import melascope
from melascope.bundle.store import Bundle
from melascope.domain.assessment import Assessment, Decision
from melascope.domain.diagnosis import Diagnosis
from melascope.domain.image import RgbImage
from melascope.errors import BundleError, UnreadablePathError, UsageError
from melascope.imaging.preprocess import preprocess
from melascope.runtime.assessor import Assessor, SeenImage

Make = Callable[..., Bundle]


def drawn(seed: int, height_px: int = 150, width_px: int = 200) -> RgbImage:
    pixels = lesion(width_px, height_px, seed=seed)
    return RgbImage(pixels_HWC=pixels, name=f"{seed}.png", format="PNG", sha256=f"{seed:064x}")


def oracle(
    images: list[RgbImage], bundle: Bundle, weights: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of the tiny network: its kernels do not overlap, so convolving is one product."""
    pixels = preprocess([image.pixels_HWC for image in images], bundle.manifest.preprocess).astype(np.float64)
    patches = pixels.reshape(len(images), 3, 8, 4, 8, 4)
    conv = np.einsum("ncyixj,fcij->nfyx", patches, weights["kernel"].astype(np.float64))
    features = np.maximum(conv + weights["kernel_bias"][:, None, None], 0)
    return features, features.mean(axis=(2, 3)) @ weights["weight"].T + weights["bias"]


def assess_one(bundle: Bundle, image: RgbImage, **options: object) -> Assessment:
    (assessment,) = Assessor(bundle, threads=1).assess([image], **options)  # type: ignore[arg-type]
    return assessment


def test_logits_and_heatmap_equal_the_network_in_numpy(
    tiny_bundle: Bundle, tiny_weights: dict[str, np.ndarray]
) -> None:
    images = [drawn(seed, 140 + seed, 171 - seed) for seed in range(7)]
    assessor = Assessor(tiny_bundle, threads=1, batch_size=3)
    features_NFHW, logits_NC = oracle(images, tiny_bundle, tiny_weights)
    np.testing.assert_allclose(assessor.logits(images), logits_NC, atol=1e-4)
    for n, assessment in enumerate(assessor.assess(images, heatmap=True)):
        evidence = np.maximum(np.einsum("fhw,f->hw", features_NFHW[n], tiny_weights["weight"][0]), 0)
        assert assessment.images[0].heatmap is not None
        np.testing.assert_allclose(
            assessment.images[0].heatmap.values_HW, evidence / evidence.max(), atol=1e-4
        )
        calibration = tiny_bundle.manifest.calibration
        assert assessment.probabilities is not None
        expected = softmax(logits_NC[n] * calibration.scale_C + calibration.bias_C)
        np.testing.assert_allclose(list(assessment.probabilities.values()), expected, atol=1e-4)


def test_no_images_no_answers(tiny_bundle: Bundle) -> None:
    assert Assessor(tiny_bundle).assess([]) == []
    assert Assessor(tiny_bundle).logits([]).shape == (0, 7)


@given(st.integers(0, 10**6), st.floats(0.001, 0.999))
@settings(max_examples=60, deadline=None)
def test_a_stated_prevalence_moves_the_probability_and_never_a_referral(
    tiny_bundle: Bundle, seed: int, prevalence: float
) -> None:
    image = drawn(seed)
    plain = assess_one(tiny_bundle, image)
    stated = assess_one(tiny_bundle, image, melanoma_prevalence=prevalence)
    assert (stated.decision is Decision.REFER) == (plain.decision is Decision.REFER)
    assert stated.probabilities is not None
    if max(stated.probabilities, key=stated.probabilities.__getitem__).malignant:
        assert stated.decision is not Decision.NO_SIGN
    if stated.decision is Decision.NO_SIGN:
        assert stated.melanoma_probability < stated.threshold
    elif plain.decision is Decision.NO_SIGN:
        assert Diagnosis.MEL in stated.prediction_set.diagnoses
    assert stated.melanoma_score == plain.melanoma_score
    assert sum(stated.probabilities.values()) == pytest.approx(1)
    assert stated.prevalence[Diagnosis.MEL] == pytest.approx(prevalence)
    odds = lambda p: p / (1 - p)  # noqa: E731
    gain = odds(prevalence) / odds(plain.prevalence[Diagnosis.MEL])
    assert odds(stated.melanoma_probability) == pytest.approx(
        odds(plain.melanoma_probability) * gain, rel=1e-9
    )
    assert plain.melanoma_probability == pytest.approx(plain.melanoma_score)


def concluded(
    bundle: Bundle, melanoma: float, other: Diagnosis = Diagnosis.NV, *, stated: float | None = None
) -> Assessment:
    """Of a flawless photograph in which the network sees melanoma so probably, else one other diagnosis."""
    assessor = Assessor(bundle, threads=1)
    classes, calibration = bundle.manifest.classes, bundle.manifest.calibration
    share = {Diagnosis.MEL: melanoma, other: 1 - melanoma - 1e-9 * len(classes)}
    fitted_C = np.array([share.get(diagnosis, 1e-9) for diagnosis in classes])
    logits_C = (np.log(fitted_C) - calibration.bias_C) / calibration.scale_C
    image = dataclasses.replace(assessor.prepare(drawn(0)), quality=())
    return assessor.conclude(image, SeenImage(logits_C, None, None), assessor.terms(of_melanoma=stated))


@pytest.mark.parametrize(
    ("melanoma", "stated", "decision", "codes"),
    [
        (0.04, None, Decision.NO_SIGN, {"score-below"}),
        (0.04, 0.05, Decision.NO_SIGN, {"score-below", "stated-prevalence"}),
        (
            0.04, 0.5, Decision.UNCERTAIN,
            {"reached-at-stated-prevalence", "malignancy-not-excluded", "score-below"},
        ),
        (0.4, 0.5, Decision.REFER, {"score-above", "stated-prevalence"}),
        (0.4, 0.001, Decision.REFER, {"score-above", "stated-prevalence"}),
    ],
)  # fmt: skip
def test_it_is_told_at_which_prevalence_the_threshold_is_reached(
    tiny_bundle: Bundle, melanoma: float, stated: float | None, decision: Decision, codes: set[str]
) -> None:
    assessment = concluded(tiny_bundle, melanoma, stated=stated)
    assert assessment.decision is decision
    assert {why.code for why in assessment.reasons if not why.code.endswith("promised")} == codes
    assert assessment.melanoma_score == pytest.approx(melanoma)


@pytest.mark.parametrize(
    ("melanoma", "stated", "decision", "held"),
    [
        (0.04, None, Decision.UNCERTAIN, ()),
        (0.04, 0.5, Decision.UNCERTAIN, (Diagnosis.NV, Diagnosis.MEL)),
        (0.4, None, Decision.REFER, (Diagnosis.NV, Diagnosis.MEL)),
    ],
)
def test_that_no_diagnosis_fits_is_told_of_suspected_melanomas_too(
    tmp_path: Path,
    make_bundle: Make,
    melanoma: float,
    stated: float | None,
    decision: Decision,
    held: tuple[Diagnosis, ...],
) -> None:
    nothing_fits = {"coverage": 0.9, "floor_C": (0.99,) * 7, "n_lesions_C": (100,) * 7}
    bundle = make_bundle(tmp_path / "b.zip", conformal=nothing_fits)
    assessment = concluded(bundle, melanoma, stated=stated)
    assert assessment.decision is decision
    assert "no-diagnosis-fits" in {why.code for why in assessment.reasons}
    assert assessment.prediction_set is not None
    assert assessment.prediction_set.diagnoses == held


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_an_impossible_prevalence_is_refused(tiny_bundle: Bundle, prevalence: float) -> None:
    with pytest.raises(UsageError, match="prevalence"):
        assess_one(tiny_bundle, drawn(0), melanoma_prevalence=prevalence)


def test_the_threshold_itself_is_referred(tmp_path: Path, make_bundle: Make, tiny_bundle: Bundle) -> None:
    score = assess_one(tiny_bundle, drawn(3)).melanoma_score
    point = dataclasses.asdict(tiny_bundle.manifest.operating_points[0])
    points = [
        point | {"name": "at", "threshold": score},
        point | {"name": "just-above", "threshold": float(np.nextafter(score, 1))},
    ]
    bundle = make_bundle(tmp_path / "b.zip", operating_points=points, default_operating_point="at")
    at, above = assess_one(bundle, drawn(3)), assess_one(bundle, drawn(3), operating_point="just-above")
    assert at.decision is Decision.REFER
    assert above.decision is not Decision.REFER
    assert (at.operating_point, above.operating_point) == ("at", "just-above")
    assert "score-at" in {reason.code for reason in at.reasons}
    assert "score-below" in {reason.code for reason in above.reasons}


def test_an_unknown_operating_point_is_refused_even_without_images(tiny_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="no operating point 'nope'"):
        Assessor(tiny_bundle).assess([], operating_point="nope")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_never_an_answer(
    tmp_path: Path, make_bundle: Make, tiny_network: Callable[..., bytes], value: float
) -> None:
    network = tiny_network(bias=np.array([0, value, 0, 0, 0, 0, 0], np.float32))
    assessor = Assessor(make_bundle(tmp_path / "b.zip", files={"model.onnx": network}))
    with pytest.raises(BundleError, match="not finite"):
        assessor.assess([drawn(0)])
    with pytest.raises(BundleError, match="not finite"):
        assessor.logits([drawn(0)])


def test_the_image_is_stated(tiny_bundle: Bundle) -> None:
    image = drawn(5, 33, 44)
    (facts,) = assess_one(tiny_bundle, image).images
    assert (facts.name, facts.format, facts.width_px, facts.height_px, facts.sha256) == (
        "5.png", "PNG", 44, 33, image.sha256,
    )  # fmt: skip


def test_assess_of_the_package_takes_a_path(
    tiny_bundle: Bundle, tiny_bundle_path: Path, tmp_path: Path
) -> None:
    Image.fromarray(drawn(1).pixels_HWC).save(tmp_path / "a.png")
    by_object = melascope.assess(tmp_path / "a.png", bundle=tiny_bundle, heatmap=True)
    by_path = melascope.assess(str(tmp_path / "a.png"), bundle=tiny_bundle_path, heatmap=True)
    assert by_object == by_path
    assert by_object.probabilities == assess_one(tiny_bundle, drawn(1)).probabilities
    assert melascope.load_bundle(tiny_bundle_path).id == by_path.bundle_id
    with pytest.raises(UnreadablePathError):
        melascope.assess(tmp_path / "absent.png", bundle=tiny_bundle)
