"""axe-core finds nothing serious on any page, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import LiveServer
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from web_accounts import PASSWORD

from melascope.web.messages import messages
from melascope.web.sessions import hash_password

pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed (extra dev)")

from axe_playwright_python.sync_playwright import Axe


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0].get('failureSummary', '')}"
        for one in found
        if one["impact"] in {"serious", "critical", "moderate"}
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_serious(
    open_page: Callable[..., Page],
    photographs: Callable[[int], list[Path]],
    tmp_path: Path,
    scheme: str,
    width: int,
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    blank = tmp_path / "blank.png"
    Image.new("RGB", (300, 225), "white").save(blank)
    page = open_page(color_scheme=scheme, width=width, bypass_csp=True)
    assert serious(page) == []
    page.set_input_files("#files", [*photographs(2), bad])
    expect(page.locator("#rows tr")).to_have_count(3, timeout=30_000)
    expect(page.locator("#progress")).to_be_hidden(timeout=30_000)
    assert serious(page) == []
    page.get_by_text("bad.jpg").first.click()
    assert serious(page) == []
    page.fill("#prevalence", "0.05")
    assert serious(page) == []
    page.fill("#prevalence", "150")
    assert serious(page) == []
    page.fill("#prevalence", "")
    page.click("#clear")
    page.set_input_files("#files", blank)
    expect(page.locator(".no-number")).to_be_visible(timeout=30_000)
    assert serious(page) == []
    page.click("#clear")
    page.check("#lesion")
    page.set_input_files("#files", photographs(2))
    expect(page.locator(".picker")).to_be_visible(timeout=30_000)
    assert serious(page) == []
    if width > 1000:
        page.click("#camera-open")
        expect(page.locator("#camera")).to_be_visible()
        assert serious(page) == []
    page.set_input_files("#files", photographs(1))
    page.evaluate(
        "HTMLFormElement.prototype.submit.call(document.getElementById('ask'))"
    )  # as without scripts
    expect(page.locator("main > h2")).to_have_text(messages("en")("results.heading"))
    expect(page.locator("main > article .notice-title")).to_be_visible()
    assert serious(page) == []
    for path in ("/about", "/nothing", "/?lang=de"):
        page.goto(path)
        assert serious(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_where_one_signs_in(
    browser: Browser, tiny_bundle_path: Path, tmp_path: Path, scheme: str
) -> None:
    config = f'[users.ana]\npassword = "{hash_password(PASSWORD)}"\n'
    with LiveServer(tiny_bundle_path, tmp_path, config=config) as server:
        context = browser.new_context(base_url=server.address, color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.goto("/")
        assert serious(page) == []
        page.fill("#name", "ana")
        page.fill("#password", "wrong")
        page.press("#password", "Enter")
        expect(page.locator("#login-fault")).to_be_visible()
        assert serious(page) == []
        page.fill("#name", "ana")
        page.fill("#password", PASSWORD)
        page.press("#password", "Enter")
        expect(page.locator(".sign-out")).to_be_visible()
        assert serious(page) == []
        context.close()
