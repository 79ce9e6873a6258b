"""The page in a browser, as a doctor uses it."""

from __future__ import annotations

from pathlib import Path

import pypdfium2
import pytest
from drawn import encode, lesion
from live_server import LiveServer
from page_steps import Open, Photographs, assess, names
from playwright.sync_api import Browser, Page, expect
from web_accounts import PASSWORD

from melascope.web.messages import LANGUAGES, messages
from melascope.web.sessions import hash_password

LOCALES = {"en": "en-GB", "de": "de-DE", "es": "es-ES"}


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
    with page.expect_download(timeout=30_000) as saved:
        page.click("button.report")
    assert saved.value.suggested_filename.endswith(".pdf")


def test_a_lesion_goes_on_without_a_photograph_that_cannot_be_read(
    open_page: Open, photographs: Photographs, tmp_path: Path
) -> None:
    whole = photographs(2)
    cut = tmp_path / f"a-{whole[0].name}"  # its name ends as another's does, which is not meant
    cut.write_bytes(whole[0].read_bytes()[:2000])
    page = open_page()
    page.check("#lesion")
    assess(page, [*whole, cut])
    expect(page.locator(".failure-text")).to_contain_text(f"{cut.name}: ")
    expect(page.locator(".failure .retry")).to_be_hidden()  # the file would not be another
    page.click(".without")
    expect(page.locator("article.case h3")).to_have_text("lesion-000.jpg, lesion-001.jpg")
    expect(page.locator(".one-answer")).to_contain_text("2")
    assert page.locator(".picker img").evaluate_all("all => all.every(image => image.naturalWidth > 0)")


def test_which_of_two_photographs_of_one_name_is_left_out_is_not_guessed(
    open_page: Open, photographs: Photographs, tmp_path: Path
) -> None:
    (whole,) = photographs(1)
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[:2000])
    page = open_page()
    page.check("#lesion")
    assess(page, [whole, cut])
    expect(page.locator(".failure-text")).to_contain_text(f"{whole.name}: ")
    expect(page.locator(".without")).to_be_hidden()


def test_the_heatmaps_opacity_and_the_focus_are_kept(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    assess(page, photographs(2))
    page.locator(".opacity-range").fill("10")
    page.click("#next")
    expect(page.locator("#position")).to_have_text("2 of 2")
    expect(page.locator("#previous")).to_be_focused()
    expect(page.locator(".opacity-range")).to_have_value("10")


def test_another_language_asks_before_it_takes_the_results(open_page: Open, photographs: Photographs) -> None:
    page, asked = open_page(), []
    assess(page, photographs(1))
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.click(".languages a[hreflang=de]")
    expect(page.locator("article.case")).to_be_visible()
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.click(".languages a[hreflang=de]")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    assert len(asked) == 2
    assert set(asked) == {messages("en")("results.leave")}


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


def test_the_operating_point_tells_what_it_does_and_what_it_changed(
    open_page: Open, photographs: Photographs
) -> None:
    page = open_page()
    told = page.locator("#point-told")
    before = told.inner_text()
    assess(page, photographs(1))
    expect(page.locator(".changed")).to_be_hidden()
    decision = page.locator(".notice-title").inner_text()

    page.evaluate(
        """(decision) => { const plain = window.fetch;
        window.fetch = async (...all) => new Response((await (await plain(...all)).text())
          .replace(`data-decision-label="${decision}"`, 'data-decision-label="Other"')); }""",
        decision,
    )
    page.select_option("#operating-point", index=1)
    expect(told).not_to_have_text(before)
    expect(page.locator(".changed")).to_have_text(messages("en")("results.changed", decision=decision))


def test_a_percentage_of_the_wrong_scale_gets_a_hint(open_page: Open, photographs: Photographs) -> None:
    tongue, page = messages("de"), open_page(locale="de-DE")
    note, field = page.locator("#prevalence-note"), page.locator("#prevalence")
    expect(note).to_be_hidden()
    field.fill("0,05")
    expect(note).to_have_text(tongue("terms.prevalence_small", percent="0,05", of="2.000", instead="5"))
    for wrong in ("150", "0", "zwei", "2,5,1"):
        field.fill(wrong)
        expect(note).to_have_text(tongue("terms.prevalence_wrong"))
        assert page.locator("#prevalence:invalid").count() == 1
    for fine in ("2,5", "2.5 %", "5", ""):
        field.fill(fine)
        expect(note).to_be_hidden()
    field.fill("0.05")
    assess(page, photographs(1))
    expect(page.locator(".in-words")).to_contain_text("0,05\N{NO-BREAK SPACE}%")
    field.fill("150")
    field.press("Enter")
    expect(page.locator("article.case .in-words")).to_contain_text("0,05")  # nothing is asked


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

    page.route("**/assess?*", busy_once)
    assess(page, photographs(1))
    expect(page.locator("article.case .notice-title")).not_to_have_text(messages("en")("results.failed"))
    assert refused


def test_a_server_that_is_gone_is_told_and_can_be_tried_again(
    open_page: Open, photographs: Photographs
) -> None:
    page = open_page()
    page.route("**/assess?*", lambda route: route.abort())
    assess(page, photographs(1))
    expect(page.locator(".failure-text")).to_have_text(messages("en")("error.network"))
    page.unroute("**/assess?*")
    page.click(".retry")
    expect(page.locator("article.case .big, article.case .no-number")).to_be_visible(timeout=30_000)


def test_without_javascript_a_form_and_a_page_of_results(open_page: Open, photographs: Photographs) -> None:
    page = open_page(java_script_enabled=False)
    page.set_input_files("#files", photographs(2))
    page.click("noscript button.primary")
    assert page.locator("article.case").count() == 2
    assert page.locator("img.shot[src^='data:image/jpeg']").count() == 2


@pytest.mark.parametrize(
    ("name", "setting", "inside"),
    [
        ("localhost", "", True),
        ("clinic.example", "", False),
        ("clinic.example", "insecure_cookies = true\n", True),
    ],
)
def test_signing_in_without_tls(
    browser: Browser, tiny_bundle_path: Path, tmp_path: Path, name: str, setting: str, inside: bool
) -> None:
    config = f'{setting}[users.ana]\npassword = "{hash_password(PASSWORD)}"\n'
    with LiveServer(tiny_bundle_path, tmp_path, "--host", "0.0.0.0", config=config) as server:
        context = browser.new_context(locale="en-GB")
        page = context.new_page()
        page.goto(f"{server.address}/".replace("0.0.0.0", name))
        page.fill("#name", "ana")
        page.fill("#password", PASSWORD)
        page.press("#password", "Enter")
        expect(page.locator("#drop" if inside else "main")).to_be_visible()
        if not inside:
            expect(page.locator("main")).to_contain_text("Signing in needs TLS")
        context.close()


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
