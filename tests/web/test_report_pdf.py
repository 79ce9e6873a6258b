"""The report: readable, whole, in the reader's language, and on one page where it fits."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from drawn import encode, lesion
from reportlab.pdfbase.pdfmetrics import stringWidth
from starlette.testclient import TestClient

import melascope.web
from melascope import __version__
from melascope.bundle.store import Bundle
from melascope.domain.assessment import Assessment, Decision, QualityFinding
from melascope.domain.image import RgbImage
from melascope.runtime.assessor import Assessor
from melascope.runtime.lesion import combine
from melascope.runtime.reasons import reason
from melascope.web.messages import LANGUAGES, messages
from melascope.web.report_font import writable
from melascope.web.report_pdf import report_pdf
from melascope.web.report_pieces import shortened

MADE = datetime(2026, 3, 9, 7, 5, tzinfo=UTC)
JPEG = encode(lesion(600, 450), "JPEG")


def assessed(bundle: Bundle, n: int = 1, name: str = "a.jpg") -> Assessment:
    images = [
        RgbImage(pixels_HWC=lesion(120, 90, seed=seed), name=name, format="JPEG", sha256=f"{seed:064x}")
        for seed in range(n)
    ]
    return combine(Assessor(bundle, threads=1).assess(images, heatmap=True))


def pages(pdf: bytes) -> list[str]:
    document = pypdfium2.PdfDocument(pdf)
    try:
        return [re.sub(r"\s+", " ", page.get_textpage().get_text_range()) for page in document]
    finally:
        document.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_report_has_everything_on_one_page(tiny_bundle: Bundle, language: str) -> None:
    tongue, assessment = messages(language), assessed(tiny_bundle)
    told = pages(report_pdf(assessment, [JPEG], tiny_bundle.manifest, tongue, made=MADE))
    assert len(told) == 1
    wanted = [
        tongue(f"decision.{assessment.decision}"),
        tongue.percent(assessment.melanoma_probability or 0.0),
        tongue("case.reasons"),
        tongue("case.ppv"),
        tongue("case.npv"),
        tongue("report.limits_heading"),
        tongue.date(MADE),
        "a.jpg",
        "0" * 64,
        tiny_bundle.id,
        __version__,
        *(tongue.reason(why)[:40] for why in assessment.reasons),
    ]
    for text in wanted:
        assert text.replace("\N{NO-BREAK SPACE}", " ") in told[0].replace("\N{NO-BREAK SPACE}", " "), text


def test_every_page_says_what_it_is_of_and_has_room_for_the_patient(tiny_bundle: Bundle) -> None:
    name = "a very long name of a photograph " * 9 + ".jpg"
    for n_images, named, whole in ((1, "a.jpg", True), (6, "a.jpg", True), (6, name, False)):
        for language in LANGUAGES:
            tongue, assessment = messages(language), assessed(tiny_bundle, n_images, named)
            told = pages(report_pdf(assessment, [JPEG] * n_images, tiny_bundle.manifest, tongue, made=MADE))
            assert (len(told) > 1) == (n_images > 1)
            number = " 1" if n_images > 1 else ""
            begun = f"{tongue('report.photograph')}{number}: {named if whole else named[:33]}"
            for n, page in enumerate(told, start=1):
                head, foot = page[:150], page[-230:]
                assert tongue.date(MADE) in head
                assert tongue("report.patient") in head
                assert page.count(tongue("report.patient")) == 1
                assert tongue("report.page", n=n, total=len(told)) in foot
                assert begun in foot
                assert (f"… · SHA-256 {'0' * 12}…" in foot) != whole
                assert f"SHA-256 {'0' * 12}…" in foot
                assert f"{tongue('case.bundle')}: {tiny_bundle.id}" in foot


def test_of_several_photographs_the_one_that_decided_is_marked(tiny_bundle: Bundle) -> None:
    whole = assessed(tiny_bundle, 3)
    scores, tongue = (0.1, 0.3, 0.2), messages("en")
    images = [replace(image, melanoma_score=score) for image, score in zip(whole.images, scores, strict=True)]
    several, alone = replace(whole, images=tuple(images)), replace(whole, images=(images[0],))
    none = replace(several, decision=Decision.CANNOT_ASSESS, melanoma_probability=None)
    told = " ".join(pages(report_pdf(several, [JPEG] * 3, tiny_bundle.manifest, tongue, made=MADE)))
    mark = tongue("report.decided")
    assert told.count(mark) == 1
    assert f"{mark} Photograph 2: a.jpg" in told
    assert tongue("report.photographs") in told
    assert f"Photograph 3: a.jpg (JPEG, 120 x 90 pixels); SHA-256 {2:064x}" in told
    one = pages(report_pdf(alone, [JPEG], tiny_bundle.manifest, tongue, made=MADE))[0]
    assert mark not in one
    assert tongue("report.photographs") not in one
    assert mark not in " ".join(pages(report_pdf(none, [JPEG] * 3, tiny_bundle.manifest, tongue, made=MADE)))


def test_the_findings_name_their_photograph_by_its_number(tiny_bundle: Bundle) -> None:
    blank = QualityFinding(code="blank", severity="poor", value=0.1, limit=0.4, text="Blank.")
    whole, tongue = assessed(tiny_bundle, 2), messages("en")
    images = whole.images[0], replace(whole.images[1], quality=(blank,))
    told = pages(
        report_pdf(replace(whole, images=images), [JPEG] * 2, tiny_bundle.manifest, tongue, made=MADE)
    )
    assert f"Photograph 2: {tongue('case.severity_poor')}: {tongue('quality.blank')}" in " ".join(told)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_malignant_says_so(tiny_bundle: Bundle, language: str) -> None:
    tongue, assessment = messages(language), assessed(tiny_bundle)
    told = pages(report_pdf(assessment, [JPEG], tiny_bundle.manifest, tongue, made=MADE))[0]
    told = told.split(tongue("case.diagnoses"))[1]
    for diagnosis in assessment.probabilities or {}:
        said = f"{tongue.diagnosis(diagnosis)} {tongue('case.malignant')}"
        assert (said in told) == diagnosis.malignant, said


def test_a_white_photograph_can_be_seen(tiny_bundle: Bundle) -> None:
    white = encode(np.full((450, 600, 3), 255, dtype=np.uint8), "JPEG")
    whole = assessed(tiny_bundle)
    image = replace(whole.images[0], heatmap=None)
    pdf = report_pdf(
        replace(whole, images=(image,)), [white], tiny_bundle.manifest, messages("en"), made=MADE
    )
    document = pypdfium2.PdfDocument(pdf)
    dark = np.asarray(document[0].render(scale=4).to_pil().convert("L")) < 200
    document.close()
    left, height = (round(size_mm / 25.4 * 72 * 4) for size_mm in (16, 40))
    column = dark[:, left - 4 : left + 5].any(axis=1)
    assert max(map(len, "".join(".#"[int(seen)] for seen in column).split("."))) > height


@pytest.mark.parametrize("whole", [True, False])
def test_what_the_model_did_not_see_is_told_and_drawn(tiny_bundle: Bundle, whole: bool) -> None:
    made = assessed(tiny_bundle)
    heatmap = made.images[0].heatmap
    assert heatmap is not None
    frame = (0.0, 0.0, 120.0, 90.0) if whole else (15.0, 0.0, 105.0, 90.0)
    image = replace(made.images[0], heatmap=replace(heatmap, frame_px=frame))
    grey = encode(np.full((450, 600, 3), 128, dtype=np.uint8), "JPEG")
    pdf = report_pdf(replace(made, images=(image,)), [grey], tiny_bundle.manifest, messages("en"), made=MADE)
    assert (messages("en")("case.frame") in pages(pdf)[0]) != whole
    document = pypdfium2.PdfDocument(pdf)
    sheet = np.asarray(document[0].render(scale=2).to_pil().convert("L")).astype(int)
    document.close()
    grey_there = sheet == 128
    rows, columns = np.flatnonzero(grey_there.sum(1) > 300), np.flatnonzero(grey_there.sum(0) > 150)
    photograph = sheet[rows[5] : rows[-5], columns[5] : columns[5] + 300]
    dashes = [column for column in photograph.T if column.max() > 200 and column.min() < 60]
    assert bool(dashes) != whole


def test_a_report_has_a_key_and_a_line_for_the_patient(tiny_bundle: Bundle) -> None:
    told = pages(report_pdf(assessed(tiny_bundle), [JPEG], tiny_bundle.manifest, messages("en"), made=MADE))
    assert "Bold: to be considered. Red, in bar and word: malignant." in told[0]
    for key in ("report.patient", "report.reader", "report.signature"):
        assert messages("en")(key) in told[0]


def test_a_report_without_an_answer_has_no_number(tiny_bundle: Bundle) -> None:
    whole = assessed(tiny_bundle, name="mole.jpg")
    image = replace(whole.images[0], melanoma_score=None, heatmap=None)
    assessment = replace(
        whole, images=(image,), decision=Decision.CANNOT_ASSESS, melanoma_probability=None, probabilities=None,
        melanoma_score=None, prediction_set=None, reasons=(reason("unusable-photograph"),),
    )  # fmt: skip
    told = pages(report_pdf(assessment, [JPEG], tiny_bundle.manifest, messages("en"), made=MADE))
    assert "Cannot assess" in told[0]
    assert "%" not in told[0]
    assert messages("en")("case.no_number") in told[0]


@pytest.mark.parametrize(
    "name",
    [
        "Πληγή ώμου.jpg",
        "Родинка на плече ґє.jpg",
        "Zażółć gęślą jaźń.jpg",
        "Şüpheli İğne ığdır.jpg",
        "Vết thương ở ngực.jpg",
        "<b>Läsion</b> & “ß” – 5 µm → €.jpg",
    ],
)
def test_names_in_latin_greek_and_cyrillic_letters_are_written(tiny_bundle: Bundle, name: str) -> None:
    pdf = report_pdf(
        assessed(tiny_bundle, name=name), [JPEG], tiny_bundle.manifest, messages("de"), made=MADE
    )
    assert pages(pdf)[0].count(name) == 3  # photograph, file, foot
    assert b"/FontFile2" in pdf  # embedded: a reader needs no font of its own


def test_letters_that_a_system_splits_in_two_are_put_together(tiny_bundle: Bundle) -> None:
    assessment = assessed(tiny_bundle, name=unicodedata.normalize("NFD", "Fußsohle Größe ąé.jpg"))
    told = pages(report_pdf(assessment, [JPEG], tiny_bundle.manifest, messages("en"), made=MADE))
    assert "Fußsohle Größe ąé.jpg" in told[0]


def test_what_cannot_be_written_leaves_its_mark(tiny_bundle: Bundle) -> None:
    assessment = assessed(tiny_bundle, 2, name="<b>痣</b> شامة & ä.jpg")
    told = pages(report_pdf(assessment, [JPEG, JPEG], tiny_bundle.manifest, messages("de"), made=MADE))
    assert "<b>\ufffd</b> \ufffd\ufffd\ufffd\ufffd & ä.jpg" in told[0]
    assert not set("\u2068\u2069") & set("".join(told))  # the reasons name the image


def test_all_that_the_catalogues_say_can_be_written() -> None:
    for language, name in LANGUAGES.items():
        for text in (*messages(language).texts.values(), name):
            assert writable(text) == text


def test_the_fonts_are_small_and_their_licence_lies_beside_them() -> None:
    fonts = Path(melascope.web.__file__).parent / "fonts"
    assert sum(file.stat().st_size for file in fonts.glob("*.ttf")) < 300_000
    assert "Bitstream Vera Fonts Copyright" in (fonts / "LICENSE_DEJAVU.txt").read_text()


def test_many_photographs_of_a_lesion_and_a_portrait_one(tiny_bundle: Bundle) -> None:
    portrait = encode(lesion(300, 900), "JPEG")
    assessment = assessed(tiny_bundle, 4)
    told = pages(
        report_pdf(assessment, [JPEG, portrait, JPEG, JPEG], tiny_bundle.manifest, messages("es"), made=MADE)
    )
    assert 1 < len(told) <= 3
    assert "4 imágenes" in told[0]


def test_the_route_gives_a_file_to_keep(client: TestClient, jpeg: bytes) -> None:
    files = [("image", ("mole.jpg", jpeg, "image/jpeg"))]
    answer = client.post("/report.pdf?lang=de", files=files, data={"prevalence": "2"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/pdf"
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.headers["cache-control"] == "no-store"
    assert "Grenzen und Zweckbestimmung" in pages(answer.content)[0]
    assert client.post("/report.pdf", data={"prevalence": "2"}).status_code == 400
    assert client.post("/report.pdf", files=[("image", ("x.jpg", b"no", "image/jpeg"))]).status_code == 415


def test_a_line_is_cut_to_its_room_however_long_it_is() -> None:
    drawn = shortened("x" * 100_000, "Helvetica", 8, 100.0)
    assert drawn.endswith("x\N{HORIZONTAL ELLIPSIS}")
    assert stringWidth(drawn, "Helvetica", 8) <= 100 < stringWidth(f"x{drawn}", "Helvetica", 8)
    assert shortened("short", "Helvetica", 8, 100.0) == "short"
    assert shortened("wide", "Helvetica", 8, 1.0) == "\N{HORIZONTAL ELLIPSIS}"
