"""A case as it is shown: what is said, what is left out, and the picture over the photograph."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import lesion
from PIL import Image
from starlette.testclient import TestClient

from melascope.bundle.catalogue import load_bundle
from melascope.bundle.store import Bundle
from melascope.domain.assessment import (
    AssessedImage,
    Assessment,
    Decision,
    Heatmap,
    Novelty,
    QualityFinding,
    Severity,
)
from melascope.domain.diagnosis import Diagnosis
from melascope.domain.image import RgbImage
from melascope.imaging.decode import read_image
from melascope.runtime.assessor import Assessor
from melascope.runtime.explain import render_heatmap
from melascope.runtime.reasons import reason
from melascope.web.case_view import case_view, heat_picture, in_words
from melascope.web.messages import LANGUAGES, messages

FINDINGS = tuple(
    QualityFinding(code=code, severity="note", value=1.0, limit=0.5, text=code)
    for code in ("hair", "blurred")
)


@pytest.fixture
def assessed(tiny_bundle: Bundle) -> Assessment:
    image = RgbImage(pixels_HWC=lesion(120, 90), name="a.jpg", format="JPEG", sha256="0" * 64)
    return Assessor(tiny_bundle, threads=1).assess([image], heatmap=True)[0]


def unanswered(assessed: Assessment) -> Assessment:
    """The same photograph, too poor for an answer."""
    finding = QualityFinding(code="blank", severity="unusable", value=0.123, limit=0.456, text="Blank.")
    novelty = Novelty(familiarity="foreign", score=7.89, unusual_limit=1.23, foreign_limit=4.56)
    image = replace(
        assessed.images[0], quality=(finding,), novelty=novelty, heatmap=None, melanoma_score=None
    )
    return replace(
        assessed, images=(image,), decision=Decision.CANNOT_ASSESS, melanoma_probability=None, probabilities=None,
        melanoma_score=None, prediction_set=None, reasons=(reason("unusable-photograph"), reason("foreign-image")),
    )  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_an_answer_no_number_is_shown(
    client: TestClient, assessed: Assessment, monkeypatch: pytest.MonkeyPatch, jpeg: bytes, language: str
) -> None:
    async def assess_lesion(*_: object, **__: object) -> Assessment:
        return unanswered(assessed)

    monkeypatch.setattr(client.app.state.service, "assess_lesion", assess_lesion)
    html = client.post(
        f"/assess?lang={language}",
        files=[("image", ("a.jpg", jpeg, "image/jpeg"))],
        headers={"X-Fragment": "1"},
    ).text
    shown = re.sub(r"<(script|details|svg).*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL)
    assert not re.search(r"\d", shown), shown
    assert messages(language)("decision.cannot-assess") in shown
    assert messages(language)("quality.blank") in shown
    assert messages(language)("case.novelty_foreign") in shown


def test_a_view_holds_nothing_to_show_of_an_unanswered_case(
    assessed: Assessment, tiny_bundle: Bundle
) -> None:
    view = case_view(unanswered(assessed), tiny_bundle.manifest, messages("en"))
    assert [
        view.probability,
        view.probability_words,
        view.score,
        view.threshold,
        view.point,
        view.promise,
    ] == [None] * 6
    assert view.bars == view.worth == ()
    assert view.images[0].heat_note == messages("en")("case.heatmap_none")
    assert view.note == messages("en")("quality.blank")


def test_bars_are_in_order_and_whole(assessed: Assessment, tiny_bundle: Bundle) -> None:
    view = case_view(assessed, tiny_bundle.manifest, messages("de"))
    assert [bar.fraction for bar in view.bars] == sorted((bar.fraction for bar in view.bars), reverse=True)
    assert sum(bar.fraction for bar in view.bars) == pytest.approx(1)
    assert view.promise is not None
    assert len(view.worth) == 2


def test_reasons_stand_as_the_assessment_gives_them(assessed: Assessment, tiny_bundle: Bundle) -> None:
    told = (
        reason("another-image", image="b.jpg"), reason("unusual-image"), reason("another-image", image="c.jpg"),
        reason("poor-photograph"), reason("score-below", score=0.1, threshold=0.2),
    )  # fmt: skip
    tongue = messages("en")
    view = case_view(replace(assessed, reasons=told), tiny_bundle.manifest, tongue)
    assert view.reasons == tuple(map(tongue.reason, told))


@pytest.mark.parametrize(
    ("codes", "severities", "noted"),
    [
        (["score-above", "poor-photograph"], ["poor"], "score-above"),
        (["foreign-image"], ["poor"], "foreign-image"),
        (["poor-photograph", "score-below"], ["note", "poor"], 1),
        (["unusable-photograph"], ["poor", "unusable"], 1),
    ],
)
def test_a_row_notes_what_decided(
    assessed: Assessment,
    tiny_bundle: Bundle,
    codes: list[str],
    severities: list[Severity],
    noted: str | int,
) -> None:
    values = {"score": 0.3, "threshold": 0.2, "decimals": 1}
    told = tuple(reason(code, **(values if code.startswith("score") else {})) for code in codes)
    quality = tuple(
        replace(finding, severity=severity) for finding, severity in zip(FINDINGS, severities, strict=False)
    )
    made = replace(assessed, images=(replace(assessed.images[0], quality=quality),), reasons=told)
    tongue = messages("en")
    note = case_view(made, tiny_bundle.manifest, tongue).note
    assert note == (tongue.finding(FINDINGS[noted]) if isinstance(noted, int) else tongue.reason(told[0]))


def test_with_a_stated_prevalence_the_case_says_which_number_is_which(
    tiny_bundle: Bundle,
) -> None:
    image = RgbImage(pixels_HWC=lesion(120, 90), name="a.jpg", format="JPEG", sha256="0" * 64)
    assessor = Assessor(tiny_bundle, threads=1)
    plain = case_view(assessor.assess([image])[0], tiny_bundle.manifest, messages("en"))
    assert plain.score is None
    for language in LANGUAGES:
        tongue = messages(language)
        made = assessor.assess([image], melanoma_prevalence=0.5)[0]
        sharp = tuple(why for why in made.reasons if why.code != "poor-photograph")
        stated = replace(made, images=(replace(made.images[0], quality=()),), reasons=sharp)
        view = case_view(stated, tiny_bundle.manifest, tongue)
        calibration = tongue.stated_percent(
            tiny_bundle.manifest.calibration.prevalence_C[tiny_bundle.manifest.classes.index(Diagnosis.MEL)]
        )
        compared = next(text for text in view.reasons if calibration in text)
        assert stated.melanoma_score is not None
        assert tongue.percent(stated.melanoma_score, decimals=1).split()[0] in compared
        assert view.score is not None
        assert calibration in view.score


@pytest.mark.parametrize(
    ("language", "told"),
    [
        (
            "en",
            "At the stated prevalence, 30 %, the probability of melanoma is 12.3 %, which reaches the threshold "
            "of 9.0 %.",
        ),
        (
            "de",
            "Bei der angegebenen Prävalenz von 30 % erreicht die Melanomwahrscheinlichkeit von 12,3 % die Schwelle "
            "von 9,0 %.",
        ),
        (
            "es",
            "Con la prevalencia indicada (30 %), la probabilidad de melanoma (12,3 %) alcanza el umbral (9,0 %).",
        ),
    ],
)
def test_that_the_stated_prevalence_alone_forbids_reassurance_is_told(
    assessed: Assessment, tiny_bundle: Bundle, language: str, told: str
) -> None:
    reasons = (
        reason(
            "reached-at-stated-prevalence", prevalence=0.3, probability=0.1234, threshold=0.09, decimals=1
        ),
        reason("malignancy-not-excluded", diagnoses="MEL"),
        reason("score-below", score=0.0312, threshold=0.09, decimals=1, calibration_prevalence=0.11),
    )
    tongue = messages(language)
    sharp = replace(assessed, images=(replace(assessed.images[0], quality=()),), reasons=reasons)
    view = case_view(sharp, tiny_bundle.manifest, tongue)
    shown = [text.replace("\N{NO-BREAK SPACE}", " ") for text in view.reasons]
    assert shown[0] == told
    assert "11 %" in shown[2]
    assert view.note == tongue.reason(reasons[0])


@pytest.mark.parametrize(
    ("decision", "first"), [(Decision.REFER, "ppv"), (Decision.UNCERTAIN, "npv"), (Decision.NO_SIGN, "npv")]
)
def test_the_predictive_value_of_the_decisions_side_comes_first(
    assessed: Assessment, tiny_bundle: Bundle, decision: Decision, first: str
) -> None:
    tongue = messages("en")
    view = case_view(replace(assessed, decision=decision), tiny_bundle.manifest, tongue)
    assert view.worth[0].label == tongue(f"case.{first}")
    assert all("Of all lesions" in worth.told for worth in view.worth)


def test_the_most_suspicious_photograph_speaks(assessed: Assessment, tiny_bundle: Bundle) -> None:
    scores = (None, 0.1, 0.7, 0.2)
    images = tuple(replace(assessed.images[0], name=f"{n}", melanoma_score=s) for n, s in enumerate(scores))
    view = case_view(replace(assessed, images=images), tiny_bundle.manifest, messages("en"))
    assert [one.speaks for one in view.images] == [False, False, True, False]


@pytest.mark.parametrize("stated", [0.0004, 0.02, 0.025, 0.1234])
def test_a_stated_prevalence_is_shown_as_it_was_stated(
    assessed: Assessment, tiny_bundle: Bundle, stated: float
) -> None:
    prevalence = {Diagnosis.MEL: stated, Diagnosis.NV: 1 - stated}
    view = case_view(replace(assessed, prevalence=prevalence), tiny_bundle.manifest, messages("en"))
    shown = f"{stated * 100:.6g}\N{NO-BREAK SPACE}%"
    assert view.probability_at is not None
    assert shown in view.probability_at
    assert view.worth_at is not None
    assert shown in view.worth_at


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (0.231, "About 23 in 100 lesions that the model rates like this one are melanomas."),
        (0.0101, "About 1 in 100 lesions that the model rates like this one is a melanoma."),
        (0.004, "About 4 in 1,000 lesions that the model rates like this one are melanomas."),
        (0.001, "About 1 in 1,000 lesions that the model rates like this one is a melanoma."),
        (0.0002, "Fewer than 1 in 1,000 lesions that the model rates like this one is a melanoma."),
        (1.0, "About 100 in 100 lesions that the model rates like this one are melanomas."),
    ],
)
def test_a_probability_in_words(probability: float, words: str) -> None:
    assert in_words(probability, messages("en")) == words


# --- the heatmap's picture ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame_px", [(20.0, 0.0, 100.0, 80.0), (0.0, 0.0, 120.0, 80.0), (-10.0, -30.0, 130.0, 110.0)]
)
def test_the_picture_over_the_photograph_is_that_of_the_command_line(
    frame_px: tuple[float, float, float, float],
) -> None:
    rng = np.random.default_rng(0)
    heatmap = Heatmap(values_HW=tuple(map(tuple, rng.random((4, 4)))), frame_px=frame_px)
    grey = np.full((80, 120, 3), 128, dtype=np.uint8)
    wanted = render_heatmap(RgbImage(pixels_HWC=grey, name="", format="PNG", sha256=""), heatmap, opacity=1.0)
    data = heat_picture(heatmap, width_px=120, height_px=80)
    assert data is not None
    over = Image.open(io.BytesIO(data)).convert("RGBA")
    assert over.size == (120, 80)
    below = Image.fromarray(grey).convert("RGBA")
    shown = np.asarray(Image.alpha_composite(below, over).convert("RGB")).astype(int)
    inner = (slice(4, -4), slice(24, -24))  # at the frame's very edge the two filters differ
    assert np.abs(shown - wanted)[inner].mean() < 3


def test_a_map_without_evidence_is_no_picture_but_words(assessed: Assessment, tiny_bundle: Bundle) -> None:
    empty = Heatmap(values_HW=((0.0, 0.0), (0.0, 0.0)), frame_px=(0.0, 0.0, 120.0, 90.0))
    assert heat_picture(empty, width_px=120, height_px=90) is None
    image: AssessedImage = replace(assessed.images[0], heatmap=empty)
    view = case_view(replace(assessed, images=(image,)), tiny_bundle.manifest, messages("en"))
    assert view.images[0].heat_url is None
    assert view.images[0].heat_note is not None
    assert "No evidence found" in view.images[0].heat_note


@pytest.mark.parametrize("prevalence", [0.00001, 0.001, 0.005, 0.05, 0.104, 0.5, 0.95, 0.999])
def test_a_predictive_value_lies_in_its_interval_as_both_are_written(prevalence: float) -> None:
    bundle = load_bundle("melascope-small")
    assessor, tongue = Assessor(bundle, threads=1), messages("en")
    image = read_image(Path(__file__).parents[2] / "examples" / "drawn-lesion.png")
    for point in bundle.manifest.operating_points:
        (made,) = assessor.assess([image], operating_point=point.name, melanoma_prevalence=prevalence)
        assert made.predictive_values is not None
        for told in case_view(made, bundle.manifest, tongue).worth:
            text = f"{told.told} {told.interval}"
            value, low, high = map(float, re.findall(r"(\d+(?:\.\d+)?)\N{NO-BREAK SPACE}%", text))
            assert low <= value <= high or "under" in told.told or "over" in told.told, (point.name, told)
