"""The catalogues are whole, equal in what they need, and used."""

from __future__ import annotations

import re
import string
from datetime import datetime
from pathlib import Path

import pytest

import melascope.web
from melascope.domain.assessment import Decision, QualityFinding
from melascope.domain.diagnosis import Diagnosis
from melascope.imaging import quality
from melascope.runtime.reasons import SENTENCES, percent, reason
from melascope.web import problems
from melascope.web.messages import DEFAULT_LANGUAGE, ISOLATES, LANGUAGES, messages, negotiate

WEB = Path(melascope.web.__file__).parent
OTHERS = [language for language in LANGUAGES if language != DEFAULT_LANGUAGE]


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", OTHERS)
def test_every_language_has_the_same_keys_and_placeholders(language: str) -> None:
    english, other = messages(DEFAULT_LANGUAGE).texts, messages(language).texts
    assert set(other) == set(english)
    assert [key for key in english if placeholders(other[key]) != placeholders(english[key])] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_or_holds_what_steers_a_page(language: str) -> None:
    for key, text in messages(language).texts.items():
        assert text.strip() == text != "", key
        assert text.isprintable(), key
        assert not set(text) & set("<>&"), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_stated_prevalence_does_to_a_decision_is_told_whole(language: str) -> None:
    tongue = messages(language)
    for decision in (Decision.NO_SIGN, Decision.UNCERTAIN):
        assert tongue(f"decision.{decision}") in tongue("terms.prevalence_hint")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_that_can_be_shown_has_its_words(language: str) -> None:
    texts = messages(language).texts
    assert {f"reason.{code}" for code in SENTENCES} <= set(texts)
    assert {f"diagnosis.{diagnosis}" for diagnosis in Diagnosis} <= set(texts)
    assert {f"{section}.{decision}" for decision in Decision for section in ("decision", "advice")} <= set(
        texts
    )
    # `imaging.quality` says in English what it finds; what the pages say has no numbers.
    assert {f"quality.{code}" for code in quality.SENTENCES} <= set(texts)
    # `imaging.quality` says in English what it finds; the pages say it without numbers.
    assert {f"quality.{code}" for code in quality.SENTENCES} <= set(texts)
    told = {
        code
        for code in problems.catalogue()
        if code.startswith(("image", "overloaded", "too-many", "request-"))
    }
    assert {f"error.{code}" for code in told} <= set(texts)


def test_every_message_is_used_and_every_used_message_exists() -> None:
    sources = [
        path.read_text() for path in (*WEB.glob("*.py"), *WEB.glob("templates/*"), *WEB.glob("static/*.js"))
    ]
    code = "\n".join(sources)
    made_up = ("reason.", "diagnosis.", "decision.", "advice.", "quality.", "error.", "percent_")
    chosen = (r"terms\.point_\w+", r"case\.(in_words|severity|novelty)_\w+", r"case\.[pn]pv(_told)?")
    texts = messages(DEFAULT_LANGUAGE).texts
    unused = [
        key
        for key in texts
        if not key.startswith(made_up)
        and not any(re.fullmatch(pattern, key) for pattern in chosen)
        and f'"{key}"' not in code
        and f"'{key}'" not in code
        and f"texts.{key}" not in code
    ]
    assert unused == []
    used = re.findall(r"""\b(?:t|tongue)\(\s*["']([a-z_.-]+)["']""", code)
    assert len(used) > 60
    assert sorted(set(used) - set(texts)) == []


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", ["23 %", "8.0 %", "under 0.1 %"]),
        ("de", ["23 %", "8,0 %", "unter 0,1 %"]),
        ("es", ["23 %", "8,0 %", "menos del 0,1 %"]),
    ],
)
def test_percentages_are_rounded_as_in_the_program_and_written_as_in_the_language(
    language: str, expected: list[str]
) -> None:
    tongue = messages(language)
    shown = [tongue.percent(0.231), tongue.percent(0.08, decimals=1), tongue.percent(0.0004)]
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in shown] == expected


def test_a_stated_share_keeps_its_decimals_and_a_measured_one_has_one() -> None:
    tongue = messages("de")
    shown = [tongue.stated_percent(share) for share in (0.02, 0.025, 0.0004, 0.000123, 0.10354)]
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in shown] == [
        "2 %", "2,5 %", "0,04 %", "0,0123 %", "10,354 %",
    ]  # fmt: skip
    assert tongue.stated_percent(196 / 1893).startswith("10,4")
    why = reason("stated-prevalence", prevalence=0.0005, probability=0.01, calibration_prevalence=196 / 1893)
    assert "von 0,05" in tongue.reason(why)
    assert "bei 10,4" in tongue.reason(why)
    why = reason("stated-prevalence", prevalence=0.0005, probability=0.01)
    assert tongue.reason(why).endswith("beträgt die Melanomwahrscheinlichkeit 1\N{NO-BREAK SPACE}%.")


def test_names_within_sentences_are_isolated() -> None:
    told = messages("en").reason(reason("another-image", image="\u05d0\u05d1.jpg"))
    assert told.endswith("\u2068\u05d0\u05d1.jpg\u2069.")
    assert told.translate(ISOLATES).endswith(": \u05d0\u05d1.jpg.")


def test_english_says_what_the_program_says() -> None:
    tongue = messages("en")
    for fraction in (0.0, 0.0001, 0.005, 0.3, 0.995, 0.9999, 1.0):
        assert tongue.percent(fraction).replace("\N{NO-BREAK SPACE}", " ") == percent(fraction)
    why = reason("malignancy-not-excluded", diagnoses="MEL BCC")
    assert tongue.reason(why) == why.text


def test_a_reason_in_german_carries_its_values() -> None:
    why = reason("score-below", score=0.0312, threshold=0.0799, decimals=1)
    told = messages("de").reason(why).replace("\N{NO-BREAK SPACE}", " ")
    assert told == "Die Melanomwahrscheinlichkeit von 3,1 % liegt unter der Schwelle von 8,0 %."
    assert "queratosis benigna" in messages("es").reason(reason("to-consider", diagnoses="BKL"))


def test_what_no_catalogue_knows_is_told_in_english() -> None:
    finding = QualityFinding(code="new", severity="note", value=1.0, limit=0.5, text="Something new.")
    assert messages("de").finding(finding) == "Something new."


def test_dates_and_counts() -> None:
    moment = datetime(2026, 3, 9, 7, 5)
    assert [messages(language).date(moment) for language in LANGUAGES] == [
        "2026-03-09, 07:05",
        "09.03.2026, 07:05",
        "09/03/2026, 07:05",
    ]
    assert messages("de").count(1234567) == "1.234.567"


@pytest.mark.parametrize(
    ("wanted", "accepted", "language"),
    [
        (None, None, "en"),
        (None, "de-CH,de;q=0.9,en;q=0.8", "de"),
        (None, "fr-FR,fr;q=0.9,es;q=0.5,en;q=0.3", "es"),
        (None, "en;q=0.1, de;q=nonsense, es;q=nan", "en"),
        (None, "*;q=1," * 5000, "en"),
        ("es", "de", "es"),
        ("../../etc", "de", "de"),
    ],
)
def test_the_language_is_the_users(wanted: str | None, accepted: str | None, language: str) -> None:
    assert negotiate(wanted, accepted) == language
