"""The page in a browser, as a doctor uses it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pypdfium2
import pytest
from drawn import encode, lesion
from live_server import LiveServer
from playwright.sync_api import Browser, Page, expect
from web_accounts import PASSWORD

from melascope.web.messages import LANGUAGES, messages
from melascope.web.sessions import hash_password

Open = Callable[..., Page]
Photographs = Callable[[int], list[Path]]
LOCALES = {"en": "en-GB", "de": "de-DE", "es": "es-ES"}


def assess(page: Page, files: list[Path]) -> None:
    """Choose files and wait for all answers."""
    page.set_input_files("#files", files)
    expect(page.locator("#cases article")).to_be_visible(timeout=60_000)
    expect(page.locator("#progress")).to_be_hidden(timeout=120_000)


def names(page: Page) -> list[str]:
    return page.locator("#rows .row-name").all_inner_texts()


def scale_of(page: Page) -> float:
    """How much the photograph is enlarged."""
    found = re.search(r"scale\(([\d.]+)\)", page.locator(".plane").first.get_attribute("style") or "scale(1)")
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_photograph_in_each_language(open_page: Open, photographs: Photographs, language: str) -> None:
    page, tongue = open_page(locale=LOCALES[language]), messages(language)
    assess(page, photographs(1))
    case = page.locator("article.case")
    expect(case.locator(".notice-title")).to_have_text(
        tongue(f"decision.{case.get_attribute('data-decision')}"), timeout=5000
    )
    expect(case.locator("h4").filter(has_text=tongue("case.reasons"))).to_be_visible()
    assert case.locator(".bars tbody tr").count() == 7
    shot = case.locator("img.shot")
    assert shot.evaluate("image => image.naturalWidth") == 300
    assert (shot.get_attribute("src") or "").startswith("blob:")
    expect(page.locator("#overview")).to_be_hidden()
    expect(page.locator("#announce")).to_contain_text("lesion-000.jpg")


def test_fifty_photographs_with_bad_files_among_them(
    open_page: Open, photographs: Photographs, tmp_path: Path
) -> None:
    cut, text = tmp_path / "cut.jpg", tmp_path / "notes.pdf"
    cut.write_bytes(photographs(1)[0].read_bytes()[:3000])
    text.write_bytes(b"%PDF-1.4 no picture")
    page = open_page()
    most = page.evaluate(
        """() => { window.open_requests = 0; window.most_requests = 0;
        const plain = window.fetch;
        window.fetch = (...all) => { window.open_requests += 1;
          window.most_requests = Math.max(window.most_requests, window.open_requests);
          return plain(...all).finally(() => { window.open_requests -= 1; }); }; }"""
    )
    assert most is None
    assess(page, [cut, *photographs(48), text])
    assert page.locator("#rows tr").count() == 50
    assert page.evaluate("window.most_requests") <= 4
    assert set(names(page)[:2]) == {"cut.jpg", "notes.pdf"}  # no answer comes first
    scores = page.locator("#rows tr").evaluate_all(
        "rows => rows.map(row => row.querySelector('.badge').className)"
    )
    urgency = ["failed", "cannot-assess", "refer", "uncertain", "no-sign-of-melanoma"]
    ranks = [urgency.index(name.split()[-1]) for name in scores]
    assert ranks == sorted(ranks)
    by_name = sorted(names(page))
    page.click("#overview [data-sort=name]")
    expect(page.locator("#rows .row-name")).to_have_text(by_name)
    page.click("#overview [data-sort=name]")
    expect(page.locator("#rows .row-name")).to_have_text(by_name[::-1])
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.get_by_text("cut.jpg").click()
    expect(page.locator("article .failure-text")).to_have_text(messages("en")("error.image-truncated"))
    page.click("#previous")
    expect(page.locator("article h3")).to_have_text(by_name[1])


def test_the_sessions_results_as_csv_and_json(
    open_page: Open, photographs: Photographs, tmp_path: Path
) -> None:
    formula = tmp_path / "=cmd.jpg"
    formula.write_bytes(photographs(1)[0].read_bytes())
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    page = open_page()
    assess(page, [*photographs(2), formula, bad])
    with page.expect_download() as saved:
        page.click("#save-json")
    whole = json.loads(saved.value.path().read_text())
    assert len(whole["assessments"]) == 3
    assert whole["assessments"][0]["schema_version"] == 2
    assert [problem["code"] for problem in whole["problems"]] == ["image-not-an-image"]
    with page.expect_download() as saved:
        page.click("#save-csv")
    rows = list(csv.DictReader(io.StringIO(saved.value.path().read_text(encoding="utf-8-sig"))))
    assert {row["image"] for row in rows} == {"lesion-000.jpg", "lesion-001.jpg", "'=cmd.jpg", "bad.jpg"}
    told = {one["images"][0]["name"]: one for one in whole["assessments"]}
    for row in rows:
        if row["problem"]:
            assert row["decision"] == ""
        else:
            one = told[row["image"].removeprefix("'")]
            assert float(row["melanoma_score"]) == one["melanoma_score"]
            assert float(row["probability_NV"]) == one["probabilities"]["NV"]
            assert row["sha256"] == one["images"][0]["sha256"]


def test_photographs_of_one_lesion_get_one_answer(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    page.check("#lesion")
    assess(page, photographs(3))
    expect(page.locator("#overview")).to_be_hidden()
    buttons = page.locator(".picker button")
    assert buttons.count() == 3
    buttons.nth(2).click()
    expect(page.locator("figure.photo").nth(2)).to_be_visible()
    expect(page.locator("figure.photo").nth(0)).to_be_hidden()
    assert page.locator("figure.photo img.shot").nth(2).evaluate("image => image.naturalWidth") == 302


def test_a_format_that_browsers_do_not_show_is_shown(open_page: Open, tmp_path: Path) -> None:
    scan = tmp_path / "scan.tif"
    scan.write_bytes(encode(lesion(200, 150), "TIFF"))
    page = open_page()
    assess(page, [scan])
    assert page.locator("img.shot").evaluate("image => image.naturalWidth") == 200


def test_the_camera(open_page: Open) -> None:
    page = open_page(permissions=["camera"])
    page.click("#camera-open")
    expect(page.locator("#camera-take")).to_be_enabled(timeout=10_000)
    page.click("#camera-take")
    expect(page.locator("#camera")).to_be_hidden()
    expect(page.locator("article.case h3")).to_contain_text("camera-", timeout=30_000)


def test_a_camera_that_is_refused_leaves_the_file_field(open_page: Open) -> None:
    page = open_page()
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('no')); }")
    page.click("#camera-open")
    expect(page.locator("#camera-hint")).to_have_text(messages("en")("camera.refused"))
    page.click("#camera-close")
    expect(page.locator("#capture-label")).to_be_visible()
    assert page.locator("#capture").get_attribute("capture") == "environment"


def test_paste_and_drop(open_page: Open) -> None:
    page = open_page()
    give = """async (kind) => {
        const canvas = Object.assign(document.createElement('canvas'), { width: 120, height: 90 });
        canvas.getContext('2d').fillRect(20, 20, 40, 40);
        const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
        const data = new DataTransfer();
        data.items.add(new File([blob], `${kind}.png`, { type: 'image/png' }));
        if (kind === 'paste') dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, cancelable: true }));
        else for (const name of ['dragenter', 'dragover', 'drop'])
          document.getElementById('drop').dispatchEvent(
            new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(give, "paste")
    expect(page.locator("article.case h3")).to_have_text("paste.png", timeout=30_000)
    page.evaluate(give, "drop")
    expect(page.locator("article.case h3")).to_have_text("drop.png", timeout=30_000)
    assert page.locator("form.dragging").count() == 0


def test_terms_change_the_answers_on_the_page(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    assess(page, photographs(2))
    worth = page.locator(".worth > .hint")
    before = worth.inner_text()
    page.fill("#prevalence", "2.5")
    page.press("#prevalence", "Enter")
    expect(worth).not_to_have_text(before, timeout=30_000)
    expect(worth).to_contain_text("2.5")
    expect(page.locator("#progress")).to_be_hidden(timeout=30_000)
    page.select_option("#operating-point", index=1)
    expect(page.locator(".promise > p").first).to_contain_text("90", timeout=30_000)
    page.fill("#prevalence", "150")
    page.press("#prevalence", "Enter")
    assert page.locator("#prevalence:invalid").count() == 1
    assert page.locator("article.case").count() == 1


def test_zoom_pan_and_the_heatmaps_opacity(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    assess(page, photographs(1))
    stage = page.locator(".stage")
    page.click("[data-zoom=in]")
    assert scale_of(page) == pytest.approx(1.4)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.wheel(0, -400)
    expect(page.locator(".plane")).not_to_have_attribute("style", re.compile(r"scale\(1\.4\)"))
    assert scale_of(page) > 1.5
    style = page.locator(".plane").get_attribute("style") or ""
    page.mouse.down()
    page.mouse.move(middle[0] + 30, middle[1] + 20)
    page.mouse.up()
    expect(page.locator(".plane")).not_to_have_attribute("style", style)
    page.click("[data-zoom=all]")
    assert scale_of(page) == 1
    if page.locator(".opacity-range").count():  # the tiny network may see nothing
        page.locator(".opacity-range").fill("80")
        assert page.locator("img.heat").evaluate("image => getComputedStyle(image).opacity") == "0.8"
        page.locator(".opacity-range").fill("0")
        assert page.locator("img.heat").evaluate("image => getComputedStyle(image).opacity") == "0"


def test_pinch_on_a_phone(open_page: Open, photographs: Photographs) -> None:
    page = open_page(width=390, height=844, is_mobile=True, has_touch=True)
    assess(page, photographs(1))
    page.locator(".stage").scroll_into_view_if_needed()
    page.locator(".stage").evaluate(
        """(stage) => { const box = stage.getBoundingClientRect();
        const say = (type, id, dx) => stage.dispatchEvent(new PointerEvent(type, { pointerId: id, pointerType: 'touch',
          button: 0, clientX: box.x + box.width / 2 + dx, clientY: box.y + box.height / 2, bubbles: true }));
        stage.setPointerCapture = () => {};
        say('pointerdown', 1, -20); say('pointerdown', 2, 20);
        for (let step = 1; step <= 10; step += 1) {
          say('pointermove', 1, -20 - 4 * step); say('pointermove', 2, 20 + 4 * step); } }"""
    )
    assert scale_of(page) == pytest.approx(3, rel=0.2)


def test_by_keyboard_alone(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    with page.expect_file_chooser() as chooser:
        for _ in range(3):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "files":
                break
        page.keyboard.press("Enter")
    chooser.value.set_files(photographs(3))
    expect(page.locator("#rows tr")).to_have_count(3, timeout=30_000)
    expect(page.locator("#progress")).to_be_hidden(timeout=30_000)
    page.locator("#rows .row-open").nth(2).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#rows tr").nth(2)).to_have_attribute("aria-current", "true")
    assert page.locator("#rows .row-open").nth(2).evaluate("button => button === document.activeElement")
    page.locator(".stage").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    assert scale_of(page) > 1
    page.keyboard.press("0")
    assert scale_of(page) == 1


def test_the_report_is_a_file(open_page: Open, photographs: Photographs) -> None:
    page = open_page(locale="de-DE")
    assess(page, photographs(1))
    with page.expect_download(timeout=30_000) as saved:
        page.click("button.report")
    assert saved.value.suggested_filename == "lesion-000.pdf"
    document = pypdfium2.PdfDocument(saved.value.path())
    assert "lesion-000.jpg" in document[0].get_textpage().get_text_range()
    document.close()


def test_a_busy_server_is_asked_again(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    refused = []

    def busy_once(route: object) -> None:
        if not refused:
            refused.append(True)
            route.fulfill(
                status=503, headers={"Retry-After": "1"}, json={"code": "overloaded", "status": 503}
            )
        else:
            route.continue_()

    page.route("**/assess", busy_once)
    assess(page, photographs(1))
    expect(page.locator("article.case .notice-title")).not_to_have_text(messages("en")("results.failed"))
    assert refused


def test_a_server_that_is_gone_is_told_and_can_be_tried_again(
    open_page: Open, photographs: Photographs
) -> None:
    page = open_page()
    page.route("**/assess", lambda route: route.abort())
    assess(page, photographs(1))
    expect(page.locator(".failure-text")).to_have_text(messages("en")("error.network"))
    page.unroute("**/assess")
    page.click(".retry")
    expect(page.locator("article.case .big, article.case .no-number")).to_be_visible(timeout=30_000)


def test_without_javascript_a_form_and_a_page_of_results(open_page: Open, photographs: Photographs) -> None:
    page = open_page(java_script_enabled=False)
    page.set_input_files("#files", photographs(2))
    page.click("noscript button.primary")
    assert page.locator("article.case").count() == 2
    assert page.locator("img.shot[src^='data:image/jpeg']").count() == 2


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_page_is_wider_than_its_window(open_page: Open, photographs: Photographs, width: int) -> None:
    page = open_page(width=width, locale="de-DE")
    assess(page, photographs(2))
    wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(wider)
    page.goto("/about")
    assert not page.evaluate(wider)


def test_a_session_that_ends_loses_no_result(
    browser: Browser, tiny_bundle_path: Path, tmp_path: Path, photographs: Photographs
) -> None:
    config = f'[users.ana]\npassword = "{hash_password(PASSWORD)}"\n'
    with LiveServer(tiny_bundle_path, tmp_path, config=config) as server:
        context = browser.new_context(base_url=server.address, locale="en-GB")

        def sign_in(page: Page) -> None:
            page.fill("#name", "ana")
            page.fill("#password", PASSWORD)
            page.press("#password", "Enter")
            expect(page.locator("#drop")).to_be_visible()
            page.wait_for_load_state()

        page = context.new_page()
        page.goto("/")
        sign_in(page)
        assess(page, photographs(1))
        context.clear_cookies()
        page.set_input_files("#files", photographs(2)[1:])
        expect(page.locator(".failure-text")).to_have_text(messages("en")("error.signed-out"), timeout=30_000)
        with page.expect_popup() as opened:
            page.click(".sign-in")
        sign_in(opened.value)
        page.click(".retry")
        expect(page.locator("article.case .big, article.case .no-number")).to_be_visible(timeout=30_000)
        assert set(names(page)) == {"lesion-000.jpg", "lesion-001.jpg"}
        context.close()
