"""What the page about the model says of any bundle, in every language."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from melascope.bundle.manifest import Figure, Manifest, Measurement, Refit
from melascope.bundle.store import Bundle
from melascope.datasets.sources import SOURCES, are_public
from melascope.decision.novelty import NoveltyLimits
from melascope.web.about_view import AboutView, about_view, card_html
from melascope.web.messages import LANGUAGES, messages

NOVELTY = NoveltyLimits(
    method="any", unusual=1.0, foreign=2.0, false_alarm_unusual=0.05, false_alarm_foreign=0.01, n_images=100
)


@pytest.fixture
def manifest(tiny_bundle: Bundle) -> Manifest:
    return tiny_bundle.manifest


def view(manifest: Manifest, language: str = "en", **changes: object) -> AboutView:
    return about_view(manifest.model_copy(update=changes), "# Card\n", messages(language))


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def measured(name: str, **figures: Figure) -> Measurement:
    return Measurement(
        name=name, n_images=1200, n_groups=945, n_melanoma=148, figures=figures, command="melascope evaluate"
    )


def test_sources_are_public_only_if_all_are() -> None:
    assert are_public(["ham10000", "isic2017"])
    for other in ("folders", "csv", "my clinic"):
        assert not are_public(["ham10000", other])
    assert [name for name in SOURCES if not are_public([name])] == ["folders", "csv"]


REFIT = Refit(base="base@0123456789ab", sources={"clinic": 9}, n_images=9, n_groups=9, fingerprint="0" * 64)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_decision_that_was_fitted_anew_is_told(manifest: Manifest, language: str) -> None:
    assert view(manifest, language).refitted is None
    told = view(manifest, language, refit=REFIT, measurements=(measured("test"),))
    assert "clinic" in (told.refitted or "")
    assert "base@0123456789ab" in (told.refitted or "")
    assert told.unseen.rows[0].head == "test"  # a split of theirs, not the maker's held-out lesions
    assert told.leak is None
    leaking = view(manifest, language, refit=REFIT.model_copy(update={"allowed_leak": "a drill"}))
    assert "a drill" in (leaking.leak or "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_limits_are_those_of_the_training_data(manifest: Manifest, language: str) -> None:
    tongue = messages(language)
    public = [tongue("about.limit_skin"), tongue("about.limit_melanomas")]
    other = tongue("about.limit_other_data")
    told = view(manifest, language).limits
    assert other in told
    assert not set(public) & set(told)
    training = manifest.training.model_copy(update={"sources": {"ham10000": 8, "isic2017": 2}})
    told = view(manifest, language, training=training).limits
    assert set(public) < set(told)
    assert other not in told
    assert tongue("about.limit_no_sign") in told


def test_that_other_pictures_are_recognised_is_said_only_where_it_is_so(manifest: Manifest) -> None:
    tongue = messages("en")
    assert tongue("about.no_novelty") in view(manifest, novelty=None).limits[0]
    assert tongue("about.limit_recognised") in view(manifest, novelty=NOVELTY).limits[0]


def test_figures_of_unseen_lesions_have_their_intervals_and_their_set_a_name(manifest: Manifest) -> None:
    point = manifest.default_operating_point
    figures = {
        "melanoma_auroc": Figure(value=0.9114, low=0.886, high=0.936),
        f"sensitivity@{point}": Figure(value=0.986, low=0.966, high=1.0),
        f"specificity@{point}": Figure(value=None),
        "balanced_accuracy": Figure(value=0.83),
    }
    measurements = (measured("test", **figures), measured("isic2018-val"), measured("clinic-b"))
    table = view(manifest, "de", measurements=measurements).unseen
    assert [row.head for row in table.rows] == [
        messages("de")("about.set_test"), messages("de")("about.set_isic2018"), "clinic-b",
    ]  # fmt: skip
    assert [(plain(cell.text), plain(cell.interval)) for cell in table.rows[0].cells] == [
        ("1.200 Aufnahmen von 945 Läsionen; 148 zeigen ein Melanom", ""),
        ("0,911", "(0,886 – 0,936)"),
        ("99 %", "(97 % – 100 %)"),
        ("nicht bestimmbar", ""),
        ("83 %", ""),
    ]
    assert {cell.text for cell in table.rows[1].cells[1:]} == {"nicht bestimmbar"}
    assert {len(row.cells) + 1 for row in table.rows} == {len(table.headings)}


def test_a_split_that_leaks_is_told_beside_its_figures(manifest: Manifest) -> None:
    assert view(manifest).leak is None
    training = manifest.training.model_copy(update={"audit_override": "a rehearsal"})
    assert "a rehearsal" in (view(manifest, training=training).leak or "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures_of_unseen_lesions_come_first_and_the_card_is_closed(
    client: TestClient, language: str
) -> None:
    html, tongue = client.get(f"/about?lang={language}").text, messages(language)
    told = [f"<h2>{tongue(key)}</h2>" for key in ("about.unseen", "about.limits", "about.points")]
    assert [html.find(heading) for heading in told] == sorted(html.find(heading) for heading in told)
    assert -1 not in [html.find(heading) for heading in told]
    assert f"<details><summary>{tongue('about.card')}</summary>" in html
    assert re.search(r'<div class="card-text" lang="en">\s*<h1>Tiny</h1>', html)


def test_a_bundle_without_figures_of_unseen_lesions_says_so(client: TestClient, tiny_bundle: Bundle) -> None:
    bare = tiny_bundle.manifest.model_copy(update={"measurements": ()})
    client.app.state.service.assessor.bundle = replace(tiny_bundle, manifest=bare)
    html = client.get("/about?lang=en").text
    assert messages("en")("about.no_unseen") in html
    assert messages("en")("about.unseen_lead") not in html


@pytest.mark.parametrize(("refit", "lead"), [(None, "unseen_lead"), (REFIT, "unseen_lead_refit")])
def test_of_ones_own_cases_no_more_is_claimed_than_is_known(
    client: TestClient, tiny_bundle: Bundle, refit: Refit | None, lead: str
) -> None:
    shown = tiny_bundle.manifest.model_copy(update={"refit": refit})
    client.app.state.service.assessor.bundle = replace(tiny_bundle, manifest=shown)
    html = client.get("/about?lang=en").text
    leads = {name for name in ("unseen_lead", "unseen_lead_refit") if messages("en")(f"about.{name}") in html}
    assert leads == {lead}


def test_tables_of_the_card_scroll_and_have_no_empty_header() -> None:
    html = card_html('## A "b" & c\n\n| | x |\n|---|---|\n| 1 | |\n')
    assert '<div class="scroll" tabindex="0" role="group" aria-label="A &#34;b&#34; &amp; c"><table>' in html
    assert html.count("<th>") == html.count("</th>") == 1
    assert html.count("<td>") == html.count("</td>") == 3
    assert html.rstrip().endswith("</table>\n</div>")
    assert card_html("") == ""
