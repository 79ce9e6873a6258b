"""What the pages say, in English, German and Spanish.

A catalogue is one TOML file; its keys are the same in every language, and so are the placeholders of each
message (a test holds both). Sentences about a decision and the names of diagnoses are not written twice: in
English they come from the rooms that make them, the other languages translate them by code.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources

from melascope.domain.assessment import QualityFinding, Reason
from melascope.domain.diagnosis import Diagnosis
from melascope.runtime.reasons import (
    SENTENCES,
    decimals_of,
    interval_decimals,
    probability_percent,
    sentence_key,
    stated_percent,
)
from melascope.runtime.reasons import percent as english_percent

#: Language -> its name in itself; the first is used where nobody asks for one that there is.
LANGUAGES: Mapping[str, str] = {"en": "English", "de": "Deutsch", "es": "Español"}
DEFAULT_LANGUAGE = next(iter(LANGUAGES))

_NO_BREAK = "\N{NO-BREAK SPACE}"
_ISOLATE, _ISOLATED = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"

#: Takes out what `isolated` has put in (`str.translate`), where right-to-left text is not laid out anyway.
ISOLATES = {ord(mark): None for mark in (_ISOLATE, _ISOLATED)}


def isolated(name: str) -> str:
    """A name for the midst of a sentence, whose order its right-to-left letters cannot turn (UAX 9)."""
    return f"{_ISOLATE}{name}{_ISOLATED}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Messages:
    """One language's catalogue."""

    language: str
    texts: Mapping[str, str]  #: "section.key" -> text with {placeholders}

    def __call__(self, key: str, /, **values: object) -> str:
        """The message of that key, filled in.

        Raises
        ------
        KeyError
            No such message, or a placeholder without its value.
        """
        return self.texts[key].format_map(values)

    def section(self, name: str) -> dict[str, str]:
        """The unfilled messages of a section, for the page's JavaScript."""
        prefix = f"{name}."
        return {key[len(prefix) :]: text for key, text in self.texts.items() if key.startswith(prefix)}

    def percent(self, fraction: float, *, decimals: int = 0) -> str:
        """A fraction as a percentage, rounded as everywhere in the program (`runtime.reasons.percent`)."""
        return self._written(english_percent(fraction, decimals=decimals))

    def probability(self, fraction: float) -> str:
        """A probability; see `runtime.reasons.probability_percent`."""
        return self._written(probability_percent(fraction))

    def ends(self, interval: tuple[float, float]) -> dict[str, str]:
        """Both ends of an interval as percentages, with the same number of decimals: `low` and `high`."""
        decimals = interval_decimals(*interval)
        return dict(
            zip(("low", "high"), (self.percent(end, decimals=decimals) for end in interval), strict=True)
        )

    def stated_percent(self, fraction: float) -> str:
        """A fraction that somebody stated; see `runtime.reasons.stated_percent`."""
        return self._written(stated_percent(fraction))

    def _written(self, text: str) -> str:
        """The program's percentage as this language writes it."""
        bound, number = ("", text) if text[0].isdigit() else text.split(" ", 1)
        number = number.replace(".", self.texts["decimal_mark"]).replace(" ", _NO_BREAK)
        return self(f"percent_{bound}", percent=number) if bound else number

    def count(self, number: int) -> str:
        """A whole number, its thousands set apart."""
        return f"{number:,}".replace(",", self.texts["thousands_mark"])

    def date(self, moment: datetime) -> str:
        """A date and a time of day, to the minute."""
        return self(
            "date",
            year=f"{moment.year:04}",
            month=f"{moment.month:02}",
            day=f"{moment.day:02}",
            time=f"{moment:%H:%M}",
        )

    def diagnosis(self, diagnosis: Diagnosis) -> str:
        """A diagnosis in words."""
        return self.texts[f"diagnosis.{diagnosis}"]

    def diagnoses(self, diagnoses: tuple[Diagnosis, ...]) -> str:
        """Several diagnoses in words."""
        return ", ".join(map(self.diagnosis, diagnoses))

    def reason(self, reason: Reason) -> str:
        """A sentence of the explanation; in English where its code is not known here."""
        template = self.texts.get(f"reason.{sentence_key(reason.code, reason.values)}")
        if template is None:
            return reason.text
        shown: dict[str, object] = {}
        for name, value in reason.values.items():
            if name == "diagnoses":
                shown[name] = self.diagnoses(tuple(map(Diagnosis, str(value).split())))
            elif isinstance(value, str):
                shown[name] = isolated(value)
            elif isinstance(value, int):
                shown[name] = self.count(value)
            elif name.endswith("prevalence"):
                shown[name] = self.stated_percent(value)
            else:
                shown[name] = self.percent(value, decimals=decimals_of(name, reason.values))
        return template.format_map(shown)

    def finding(self, finding: QualityFinding) -> str:
        """What was found about the photograph and what to do; in English where its code is not known here."""
        return self.texts.get(f"quality.{finding.code}", finding.text)


@cache
def messages(language: str) -> Messages:
    """The catalogue of one of `LANGUAGES`."""
    folder = resources.files("melascope.web") / "messages"
    texts = dict(_flat(tomllib.loads((folder / f"{language}.toml").read_text(encoding="utf-8"))))
    if language == DEFAULT_LANGUAGE:
        texts |= {f"reason.{code}": sentence for code, sentence in SENTENCES.items()}
        texts |= {f"diagnosis.{diagnosis}": diagnosis.label for diagnosis in Diagnosis}
    return Messages(language=language, texts=texts)


def _flat(table: Mapping[str, object]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": text for inner, text in _flat(value).items()}
        else:
            flat[key] = str(value)
    return flat


def negotiate(wanted: str | None, accepted: str | None) -> str:
    """The language to answer in.

    Parameters
    ----------
    wanted
        What the user chose, if anything.
    accepted
        The header `Accept-Language` (RFC 9110, section 12.5.4), if there is one.
    """
    if wanted is not None and wanted in LANGUAGES:
        return wanted
    best, best_weight = DEFAULT_LANGUAGE, 0.0
    for part in (accepted or "")[:1000].split(","):
        tag, _, parameter = part.partition(";")
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES and (weight := _weight(parameter)) > best_weight:
            best, best_weight = language, weight
    return best


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0
