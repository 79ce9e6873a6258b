"""The photograph looked at closely; mouse, fingers, keyboard, paper, darkness, narrow windows."""

from __future__ import annotations

import re
from pathlib import Path

import pypdfium2
import pytest
from page_steps import Open, Photographs, assess, names, place_of, scale_of
from playwright.sync_api import expect

from melascope.web.messages import messages


def test_zoom_pan_and_the_heatmaps_opacity(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    assess(page, photographs(1))
    stage = page.locator(".stage")
    expect(page.locator("img.heat")).to_have_count(1)
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
    assert place_of(page, "img.heat") == place_of(page, "img.shot")
    page.click("[data-zoom=all]")
    assert scale_of(page) == 1
    page.locator(".opacity-range").fill("80")
    assert page.locator("img.heat").evaluate("image => getComputedStyle(image).opacity") == "0.8"
    page.locator(".opacity-range").fill("0")
    assert page.locator("img.heat").evaluate("image => getComputedStyle(image).opacity") == "0"


def test_pinch_on_a_phone(open_page: Open, photographs: Photographs) -> None:
    page = open_page(width=390, height=844, is_mobile=True, has_touch=True)
    assess(page, photographs(1))
    page.locator(".stage").scroll_into_view_if_needed()
    box = page.locator(".stage").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *offsets: tuple[float, float]) -> None:
        points = [{"x": x + dx, "y": y + dy, "id": n} for n, (dx, dy) in enumerate(offsets)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (-20, 0))
    touch("touchStart", (-20, 0), (20, 0))
    for step in range(1, 11):
        touch("touchMove", (-20 - 4 * step, 0), (20 + 4 * step, 0))
    touch("touchEnd")
    assert scale_of(page) == pytest.approx(3, rel=0.2)
    assert page.evaluate("visualViewport.scale") == 1  # the photograph is enlarged, not the page
    before = place_of(page, "img.shot")
    touch("touchStart", (0, 0))
    for step in range(1, 6):
        touch("touchMove", (6 * step, 6 * step))
    touch("touchEnd")
    after = place_of(page, "img.shot")
    assert after["x"] - before["x"] == pytest.approx(30, abs=7)
    assert after["y"] - before["y"] == pytest.approx(30, abs=7)
    assert place_of(page, "img.heat") == after


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
    by_name = sorted(names(page))
    page.locator("[data-sort=name]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#rows .row-name")).to_have_text(by_name)
    with page.expect_download(timeout=30_000) as saved:
        page.locator("button.report").focus()
        page.keyboard.press("Enter")
    assert saved.value.suggested_filename.endswith(".pdf")
    page.locator(".stage").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    assert scale_of(page) > 1
    page.keyboard.press("0")
    assert scale_of(page) == 1


def test_what_has_the_focus_is_seen(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    assess(page, photographs(2))
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    visited: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        here, ring = page.evaluate(
            """() => { const here = document.activeElement;
            if (here === document.body) return ['', true];
            const ring = [here, here.closest('label'), here.closest('.viewer')].some((one) => one
              && getComputedStyle(one).outlineStyle !== 'none' && parseFloat(getComputedStyle(one).outlineWidth) >= 2);
            return [here.id || here.className || here.textContent.trim(), ring]; }"""
        )
        if not here and visited:
            break
        visited.append(here)
        assert ring, here
    assert {"files", "lesion", "operating-point", "prevalence", "save-csv", "next", "stage"} <= set(visited)
    assert any("report" in one for one in visited)
    stage = page.locator(".stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    beside = {"x": box["x"] - 6, "y": box["y"] + 20, "width": 12, "height": 60}
    without = page.screenshot(clip=beside)
    page.keyboard.press("Shift")  # what has the focus by keyboard shows it
    stage.focus()
    assert page.screenshot(clip=beside) != without  # nothing lies over the ring


@pytest.mark.parametrize(("width", "least_px"), [(390, 44), (1280, 24)])
def test_what_is_pressed_is_large_enough(
    open_page: Open, photographs: Photographs, tmp_path: Path, width: int, least_px: int
) -> None:
    page = open_page(width=width, has_touch=width < 400, is_mobile=width < 400)
    small = """(least) => [...document.querySelectorAll('a[href], button, select, input, summary')]
      .map((one) => one.closest('label') ?? one)
      .filter((one) => one.checkVisibility() && !one.closest('.card, .skip'))
      .map((one) => [one.outerHTML.slice(0, 90), one.getBoundingClientRect()])
      .filter(([, box]) => box.width < least - .5 || box.height < least - .5)
      .map(([html, box]) => `${box.width}x${box.height} ${html}`)"""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    assert page.evaluate(small, least_px) == []
    assess(page, [*photographs(2), bad])
    assert page.evaluate(small, least_px) == []
    page.get_by_text("bad.jpg").first.click()
    assert page.evaluate(small, least_px) == []
    page.goto("/about")
    assert page.evaluate(small, least_px) == []


@pytest.mark.parametrize("count", [1, 3])
def test_on_paper_there_is_the_overview_the_case_and_no_button(
    open_page: Open, photographs: Photographs, count: int
) -> None:
    page = open_page(color_scheme="dark")
    assess(page, photographs(count))
    document = pypdfium2.PdfDocument(page.pdf(format="A4"))
    told = [re.sub(r"\s", "", sheet.get_textpage().get_text_range()) for sheet in document]
    sheet = document[len(document) - 1].render(scale=0.2).to_pil().convert("L")
    document.close()
    assert len(told) == (1 if count == 1 else 2)
    tongue = messages("en")
    for text in ("case.reasons", "case.sha256", "common.intended_use"):
        assert "".join(tongue(text).split()[:6]) in told[-1]
    for button in ("upload.choose", "case.report", "results.download_csv", "case.heatmap_opacity"):
        assert tongue(button).replace(" ", "") not in "".join(told)
    for n in range(count):
        assert f"lesion-{n:03}.jpg" in told[0]
    assert sheet.getpixel((2, 2)) == 255  # black on white, whatever the screen shows


def test_in_the_dark_the_page_is_dark(open_page: Open, photographs: Photographs) -> None:
    page = open_page(color_scheme="dark")
    assess(page, photographs(1))
    lightness = """(part) => { const [r, g, b] = getComputedStyle(document.querySelector(part)).backgroundColor
      .match(/[\\d.]+/g).map(Number); return (r + g + b) / 765; }"""
    assert page.evaluate(lightness, "html") < 0.2
    assert page.evaluate(lightness, "article.case") < 0.2


@pytest.mark.parametrize("language", ["en-GB", "de-DE", "es-ES"])
def test_text_of_twice_the_size_fits_a_phone(
    open_page: Open, photographs: Photographs, language: str
) -> None:
    page = open_page(width=390, locale=language, is_mobile=True, bypass_csp=True)
    twice = "html { font-size: 200% !important }"
    wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    page.add_style_tag(content=twice)
    assert not page.evaluate(wider)
    assess(page, photographs(2))
    page.fill("#prevalence", "200")
    expect(page.locator("article .earlier")).to_be_visible()
    assert not page.evaluate(wider)
    page.goto("/about")
    page.add_style_tag(content=twice)
    assert not page.evaluate(wider)


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_page_is_wider_than_its_window(open_page: Open, photographs: Photographs, width: int) -> None:
    page = open_page(width=width, locale="de-DE")
    assess(page, photographs(2))
    wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(wider)
    page.goto("/about")
    assert not page.evaluate(wider)
