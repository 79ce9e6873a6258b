"""The pages as a browser without JavaScript, and the page's own JavaScript, get them."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pypdfium2
import pytest
from drawn import encode, lesion
from starlette.testclient import TestClient
from web_accounts import csrf_of

import melascope.web
from melascope.bundle.store import Bundle
from melascope.domain.assessment import Decision
from melascope.errors import UsageError
from melascope.web import assets, pages
from melascope.web.messages import LANGUAGES, messages

WEB = Path(melascope.web.__file__).parent
FRAGMENT = {"X-Fragment": "1", "Accept": "application/problem+json"}


class Tags(HTMLParser):
    """Every tag with its attributes, and whether each that must be closed is."""

    VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def photograph(name: str, data: bytes) -> tuple[str, tuple[str, bytes, str]]:
    return ("image", (name, data, "application/octet-stream"))


def json_of(html: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" class="assessment">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", ["/", "/about", "/nothing-here"])
def test_every_page_is_whole_html_in_its_language(client: TestClient, path: str, language: str) -> None:
    answer = client.get(path, headers={"Accept": "text/html", "Accept-Language": language})
    page = Tags(answer.text)
    assert page.open == []
    assert ("html", {"lang": language}) in page.tags
    assert messages(language)("common.nothing_stored") in answer.text
    assert "{" not in re.sub(
        r"<script.*?</script>", "", answer.text, flags=re.DOTALL
    )  # every placeholder is filled


@pytest.mark.parametrize("path", ["/", "/about"])
def test_no_page_needs_another_host_or_inline_code(client: TestClient, path: str) -> None:
    for tag, attributes in Tags(client.get(path).text).tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            if name in {"src", "href", "action", "formaction"} and tag != "a":
                assert value is not None
                assert value.startswith(("/", "#")), value
                assert not value.startswith("//"), value
        if tag == "script":
            assert "src" in attributes or attributes.get("type") == "application/json"
    for sheet in (*WEB.glob("static/*.css"), *WEB.glob("static/*.svg"), *WEB.glob("static/*.js")):
        text = sheet.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text), sheet


def test_every_static_file_that_a_page_names_is_served(client: TestClient) -> None:
    html = client.get("/").text + client.get("/about").text
    names = set(re.findall(r'"(/static/[^"#]+)', html))
    assert {f"{assets.path()}/app.js", f"{assets.path()}/case.css", f"{assets.path()}/icons.svg"} <= names
    icons = client.get(f"{assets.path()}/icons.svg").text
    for name in names:
        assert client.get(name).status_code == 200, name
    used = set(re.findall(r"icons\.svg#([\w-]+)", html))
    assert used
    for icon in used:
        assert f'id="{icon}"' in icons, icon
    for decision in Decision:
        assert f'id="decision-{decision}"' in icons
    for script in WEB.glob("static/*.js"):
        for imported in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert client.get(f"{assets.path()}/{imported}").status_code == 200


def test_static_files_are_kept_for_good_under_a_path_that_their_content_names(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.get(f"{assets.path()}/app.js")
    assert "immutable" in first.headers["cache-control"]
    again = client.get(f"{assets.path()}/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, first.headers["cache-control"])
    for gone in (f"{assets.path()}/missing.js", "/static/000000000000/app.js", "/static/app.js"):
        answer = client.get(gone)
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    (tmp_path / "a.js").write_text("1")
    before = assets._digest()
    (tmp_path / "a.js").write_text("2")
    assert len({before, assets._digest(), assets.path().rpartition("/")[2]}) == 3


def test_importing_the_static_files_reads_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: Path) -> bytes:
        raise AssertionError("read while importing")

    monkeypatch.setattr(Path, "read_bytes", read)
    runpy.run_path(assets.__file__)


@pytest.mark.parametrize("asked", ["bytes=0-3", "bytes=abc-", "bytes=99999999-", "lines=1-2"])
def test_static_files_are_sent_whole(client: TestClient, asked: str) -> None:
    whole = client.get(f"{assets.path()}/logo.svg")
    answer = client.get(f"{assets.path()}/logo.svg", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, whole.content)
    assert answer.headers["accept-ranges"] == "none"


def test_every_field_has_its_label(client: TestClient) -> None:
    tags = Tags(client.get("/").text).tags
    labelled = {attributes.get("for") for tag, attributes in tags if tag == "label"}
    for tag, attributes in tags:
        if tag == "select" and attributes["id"] != "camera-device":  # within its label
            assert attributes["id"] in labelled
        if tag == "button":
            assert attributes.get("type") in {"button", None}


def test_the_language_is_chosen_and_remembered(client: TestClient) -> None:
    chosen = client.get("/?lang=es", headers={"Accept-Language": "de"})
    assert "Valorar una lesión" in chosen.text
    assert "samesite=lax" in chosen.headers["set-cookie"].lower()
    assert "Valorar una lesión" in client.get("/", headers={"Accept-Language": "de"}).text
    assert "Läsion beurteilen" in client.get("/?lang=de").text
    assert client.get("/?lang=<script>").text.count("<script>") == 0


def test_what_a_page_sends_is_answered_in_its_language_and_changes_no_other(
    client: TestClient, jpeg: bytes
) -> None:
    client.get("/?lang=de")
    action = re.search(r'action="([^"]+)" enctype', client.get("/?lang=es").text)
    assert action is not None
    client.get("/?lang=de")
    answer = client.post(action[1], files=[photograph("a.jpg", jpeg)], headers={"Accept": "text/html"})
    assert messages("es")("case.reasons") in answer.text
    assert "set-cookie" not in answer.headers


def test_the_page_offers_every_operating_point_and_names_the_calibrations_prevalence(
    client: TestClient, tiny_bundle: Bundle
) -> None:
    html = client.get("/").text
    for point in tiny_bundle.manifest.operating_points:
        assert f'<option value="{point.name}"' in html
        assert re.search(
            rf'value="{point.name}" data-told="Threshold [^"{{]+\s% of the other lesions\."', html
        )
    assert len(re.findall(r"<option [^>]*selected", html)) == 1
    typed = re.search(r'placeholder="([^"]+)"', client.get("/?lang=de").text)
    assert typed is not None
    assert re.fullmatch(r"\d+(,\d+)?", typed[1])


# --- assessing ----------------------------------------------------------------------------------------------


def test_a_fragment_is_one_case_with_its_json(client: TestClient, jpeg: bytes, tiny_bundle: Bundle) -> None:
    answer = client.post("/assess", files=[photograph("mole.jpg", jpeg)], headers=FRAGMENT)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.count("<article") == 1
    assert "<html" not in answer.text
    assert Tags(answer.text).open == []
    told = json_of(answer.text)
    assert told["bundle_id"] == tiny_bundle.id
    assert [image["name"] for image in told["images"]] == ["mole.jpg"]
    assert told["images"][0]["heatmap"] is not None
    assert "image/jpeg" not in answer.text  # the browser has the photograph
    order = ['class="notice-title"', 'class="big"', 'class="shot', 'class="reasons"', 'class="worth"']
    found = [
        answer.text.find(part.removesuffix('"')) for part in order if part.removesuffix('"') in answer.text
    ]
    assert found == sorted(found)  # as it is read aloud: the decision first


def test_what_browsers_cannot_show_comes_with_a_preview(client: TestClient) -> None:
    scan = encode(lesion(64, 48), "TIFF")
    answer = client.post("/assess", files=[photograph("scan.tif", scan)], headers=FRAGMENT)
    assert answer.text.count('src="data:image/jpeg;base64,') == 1


def test_several_files_of_one_lesion_get_one_answer(client: TestClient, jpeg: bytes) -> None:
    other = encode(lesion(80, 60, seed=3), "PNG")
    answer = client.post(
        "/assess",
        files=[photograph("a.jpg", jpeg), photograph("b.png", other)],
        data={"lesion": "1"},
        headers=FRAGMENT,
    )
    assert [image["name"] for image in json_of(answer.text)["images"]] == ["a.jpg", "b.png"]
    assert answer.text.count('class="photo"') == 2
    assert 'class="picker"' in answer.text
    assert messages("en")("case.one_answer", n=2) in answer.text


@pytest.mark.parametrize("path", ["/report.pdf", "/assess"])
def test_photographs_are_of_one_lesion_only_where_it_is_said(
    client: TestClient, jpeg: bytes, path: str
) -> None:
    two = [photograph("a.jpg", jpeg), photograph("b.png", encode(lesion(80, 60, seed=3), "PNG"))]
    refused = client.post(path, files=two, headers=FRAGMENT)
    assert (refused.status_code, refused.json()["code"]) == (400, "request")
    assert messages("en")("upload.lesion") in refused.json()["remedy"]
    for language in LANGUAGES:
        page = client.post(f"/report.pdf?lang={language}", files=two, headers={"Accept": "text/html"})
        assert page.status_code == 400
        assert "2 photographs are given" in page.text
        assert messages(language)("upload.lesion") in page.text  # the words beside the box
    assert client.post(path, files=two, data={"lesion": "1"}, headers=FRAGMENT).status_code == 200


@pytest.mark.parametrize(
    ("query", "fields", "said"),
    [
        ("", {"prevalence": ["1", "50"]}, "'prevalence' is stated 2 times"),
        ("", {"lesion": ["1", "1"]}, "'lesion' is stated 2 times"),
        ("", {"lesion": "0"}, "'lesion' is '0'"),
        ("", {"lesion": ""}, "'lesion' is ''"),
        ("", {"prevalance": "50"}, "no option 'prevalance'"),
        ("?prevalence=50", {}, "'prevalence' is in the query"),
        ("?lang=de&lesion=1", {}, "'lesion' is in the query"),
    ],
)
@pytest.mark.parametrize("path", ["/assess", "/report.pdf"])
def test_no_option_is_lost_without_a_word(
    client: TestClient, jpeg: bytes, path: str, query: str, fields: dict[str, object], said: str
) -> None:
    answer = client.post(path + query, files=[photograph("a.jpg", jpeg)], data=fields)
    assert (answer.status_code, answer.json()["code"]) == (400, "request")
    assert said in answer.json()["detail"]


def test_the_terms_are_those_of_the_form(client: TestClient, jpeg: bytes) -> None:
    def asked(**fields: str) -> dict[str, object]:
        answer = client.post("/assess", files=[photograph("a.jpg", jpeg)], data=fields, headers=FRAGMENT)
        assert answer.status_code == 200, answer.text
        return json_of(answer.text)

    assert asked()["operating_point"] == "sensitivity-95"
    assert asked(operating_point="sensitivity-90")["operating_point"] == "sensitivity-90"
    for typed in ("2,5", "2.5", " 2.5 % "):
        assert asked(prevalence=typed)["prevalence"]["MEL"] == pytest.approx(0.025)
    assert asked(prevalence="")["prevalence"] == asked()["prevalence"]


@pytest.mark.parametrize(
    "fields",
    [{"operating_point": "none"}, *({"prevalence": typed} for typed in ("many", "120", "0", "nan"))],
)
def test_impossible_terms_are_refused(client: TestClient, jpeg: bytes, fields: dict[str, str]) -> None:
    for headers in (FRAGMENT, {"Accept": "text/html"}):
        answer = client.post("/assess", files=[photograph("a.jpg", jpeg)], data=fields, headers=headers)
        assert answer.status_code == 400
    assert messages("en")("error.usage") in answer.text


def test_a_problem_is_json_for_the_script_and_a_page_for_people(client: TestClient) -> None:
    files = [photograph("empty.jpg", b"")]
    told = client.post("/assess", files=files, headers=FRAGMENT)
    assert (told.status_code, told.json()["code"]) == (422, "image-empty")
    page = client.post(
        "/assess", headers={"Accept": "text/html", "Accept-Language": "de"}, data={"lesion": "1"}
    )
    assert page.status_code == 400
    assert Tags(page.text).open == []
    assert "Zurück zur Startseite" in page.text


def test_without_javascript_a_bad_file_does_not_stop_the_others(client: TestClient, jpeg: bytes) -> None:
    files = [
        photograph("good.jpg", jpeg),
        photograph("bad.jpg", jpeg[:500]),
        photograph("text.txt", b"hello"),
    ]
    answer = client.post("/assess", files=files, headers={"Accept": "text/html"})
    assert answer.status_code == 200
    page = Tags(answer.text)
    assert page.open == []
    assert sum(tag == "article" for tag, _ in page.tags) == 3
    assert answer.text.count('src="data:image/jpeg;base64,') == 1  # the good one is shown


def test_names_of_files_are_text_and_nothing_else(client: TestClient, jpeg: bytes) -> None:
    name = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>{{7*7}}.jpg'
    for headers in (FRAGMENT, {"Accept": "text/html"}):
        answer = client.post("/assess", files=[photograph(name, jpeg)], headers=headers)
        assert answer.status_code == 200
        assert "<img src=x" not in answer.text
        assert "<script>alert" not in answer.text
        for _, attributes in Tags(answer.text).tags:
            assert not any(key.startswith("on") for key in attributes)
    told = json_of(client.post("/assess", files=[photograph("a&b <i>.jpg", jpeg)], headers=FRAGMENT).text)
    assert told["images"][0]["name"] == "a&b <i>.jpg"


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\u2066", "\u200f", "\ufeff"])
def test_what_turns_or_hides_the_letters_of_a_name_is_shown(
    client: TestClient, jpeg: bytes, hidden: str
) -> None:
    files = [photograph(f"mole{hidden}gpj.exe.jpg", jpeg)]
    answer = client.post("/assess", files=files, headers=FRAGMENT)
    assert "<bdi>mole\ufffdgpj.exe.jpg</bdi>" in answer.text
    assert hidden not in answer.text
    assert json_of(answer.text)["images"][0]["name"] == "mole\ufffdgpj.exe.jpg"
    document = pypdfium2.PdfDocument(client.post("/report.pdf", files=files).content)
    assert "mole\ufffdgpj.exe.jpg" in document[0].get_textpage().get_text_range()
    document.close()


def test_a_model_card_cannot_bring_its_own_html(
    make_bundle: Callable[..., Bundle], tmp_path: Path, client: TestClient
) -> None:
    card = b"# Card\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1))\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    bundle = make_bundle(tmp_path / "loud.zip", files={"MODEL_CARD.md": card})
    client.app.state.service.assessor.bundle = bundle
    html = client.get("/about").text
    assert "<script>alert" not in html
    assert 'href="javascript' not in html
    assert "<td>1</td>" in html


# --- signing in ---------------------------------------------------------------------------------------------


def test_signing_in_and_out_by_the_page(guarded: TestClient) -> None:
    page = guarded.get("/login", headers={"Accept": "text/html"})
    assert "Assess a lesion" not in page.text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert token is not None
    wrong = guarded.post(
        "/login",
        data={"name": "ana", "password": "wrong", "csrf_token": token[1]},
        headers={"Accept": "text/html"},
    )
    assert wrong.status_code == 401
    assert messages("en")("login.failed") in wrong.text
    assert guarded.get("/").status_code in {303, 401}
    right = guarded.post("/login", data={"name": "ana", "password": "correct horse", "csrf_token": token[1]})
    assert (right.status_code, right.headers["location"]) == (303, "/")
    start = guarded.get("/")
    assert 'action="/logout"' in start.text
    inner = re.search(r'name="csrf-token" content="([^"]+)"', start.text)
    assert inner is not None
    assert guarded.get("/login").status_code == 303  # there is nothing to do
    assert guarded.post("/logout", data={"csrf_token": inner[1]}).status_code == 303
    assert guarded.get("/about", headers={"Accept": "application/json"}).status_code == 401


@pytest.mark.parametrize(
    ("to", "location"),
    [
        ("/about", "/about"), ("", "/"), ("https://other.example/about", "/"), ("//other.example", "/"),
        ("/\\other.example", "/"), ("/logout", "/"), ("/about%0d%0aSet-Cookie:a=b", "/"),
    ],
)  # fmt: skip
def test_signing_in_leads_to_the_page_that_was_asked_for_and_nowhere_else(
    guarded: TestClient, to: str, location: str
) -> None:
    sent_to = guarded.get(to or "/", headers={"Accept": "text/html"}) if location == to else None
    if sent_to is not None:
        assert sent_to.headers["location"] == "/login?to=%2Fabout"
    page = guarded.get("/login", params={"to": to})
    action = re.search(r'<form class="login" method="post" action="([^"]+)"', page.text)
    assert action is not None
    assert action[1] == ("/login?to=/about" if location == "/about" else "/login")
    form = {"name": "ana", "password": "correct horse", "csrf_token": csrf_of(page.text)}
    signed_in = guarded.post("/login", params={"to": to}, data=form)
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, location)


def test_nothing_of_the_model_is_told_to_strangers(guarded: TestClient, tiny_bundle: Bundle) -> None:
    for path in ("/login", "/", "/about"):
        assert tiny_bundle.id not in guarded.get(path, headers={"Accept": "text/html"}).text


def test_below_a_base_path_every_link_leads_there(
    make_client: Callable[..., TestClient], jpeg: bytes
) -> None:
    client = make_client(base_path="/mole")
    bare = client.get("/mole")
    assert (bare.status_code, bare.headers["location"]) == (307, "/mole/")
    asked = client.get("/mole?lang=de&a=%20b%0d%0a")
    assert (asked.status_code, asked.headers["location"]) == (307, "/mole/?lang=de&a=%20b%0d%0a")
    assert client.post("/mole").status_code == 404
    html = client.get("/mole/").text
    for tag, attributes in Tags(html).tags:
        for name in ("src", "href", "action", "formaction"):
            value = attributes.get(name)
            if value is not None and not value.startswith(("#", "?")):
                assert value.startswith("/mole/"), (tag, value)
    assert client.get(f"/mole{assets.path()}/app.js").status_code == 200
    assert client.post("/mole/assess", files=[photograph("a.jpg", jpeg)], headers=FRAGMENT).status_code == 200


def test_the_page_of_what_is_missing_among_the_static_files_links_to_what_exists(make_client) -> None:
    client = make_client(base_path="/skin")
    page = client.get(f"/skin{assets.path()}/missing.js", headers={"accept": "text/html"})
    assert page.status_code == 404
    assert 'href="/skin/"' in page.text
    assert "/static/static" not in page.text


@pytest.mark.parametrize(
    "typed",
    [
        "0",
        "100",
        "0.0 %",
        "%",
        "0.0001",
        "99.9999",
        "1_0",
        "1e1",
        "nan",
        "inf",
        "\N{ARABIC-INDIC DIGIT TWO}",
        ".",
        "2.5.1",
    ],
)
def test_a_prevalence_is_a_plain_decimal_number(typed: str) -> None:
    with pytest.raises(UsageError, match="share of melanomas"):
        pages._prevalence(typed)
    assert pages._prevalence(" 2,5 % ") == 0.025
