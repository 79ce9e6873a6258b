"""Takes the pictures of docs/screenshots anew: `PYTHONPATH=src python tests/e2e/take_screenshots.py [BUNDLE]`.

The lesions are drawn (`examples/draw_lesion.py`): no photograph of a dataset may be in this repository.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import pypdfium2
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests" / "support")]

from draw_lesion import draw  # noqa: E402
from live_server import LiveServer  # noqa: E402

OUT = ROOT / "docs" / "screenshots"
N_LESIONS = 12


def shoot(page: Page, name: str, *, full: bool = True) -> None:
    """Save what the page shows."""
    page.wait_for_timeout(400)
    keep(Image.open(io.BytesIO(page.screenshot(full_page=full))), name)


def keep(picture: Image.Image, name: str) -> None:
    """Save a picture, small."""
    picture.convert("RGB").save(OUT / f"{name}.webp", quality=88, method=6)


def ask(page: Page, files: list[Path]) -> None:
    """Have files assessed."""
    page.set_input_files("#files", files)
    page.wait_for_selector("article.case")
    page.wait_for_selector("#progress", state="hidden")


def tour(browser: Browser, address: str, lesions: list[Path]) -> None:
    """Every picture."""

    def visit(path: str = "/", **options: object) -> Page:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 860}, "locale": "en-GB", **options}
        )
        page = context.new_page()
        page.goto(address + path)
        return page

    page = visit()
    shoot(page, "start")
    ask(page, lesions[:1])
    shoot(page, "case")
    with page.expect_download() as saved:
        page.click("button.report")
    report = pypdfium2.PdfDocument(saved.value.path())
    keep(report[0].render(scale=1.4).to_pil(), "report")
    report.close()
    page = visit()
    ask(page, lesions)
    shoot(page, "overview")
    shoot(visit("/about"), "about", full=False)
    page = visit(color_scheme="dark", locale="es-ES")
    ask(page, lesions[:1])
    shoot(page, "case-dark")
    page = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, locale="de-DE")
    ask(page, lesions[:1])
    page.locator("#results").scroll_into_view_if_needed()
    shoot(page, "case-phone")


def main() -> None:
    """Draw, serve, look."""
    OUT.mkdir(parents=True, exist_ok=True)
    bundle = sys.argv[1] if len(sys.argv) > 1 else "melascope-small"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lesions = [folder / f"drawn-{n:02}.png" for n in range(1, N_LESIONS)]
        for seed, path in enumerate(lesions, start=1):
            draw(seed).save(path)
        lesions.insert(0, ROOT / "examples" / "drawn-lesion.png")
        with LiveServer(Path(bundle), folder) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            tour(browser, server.address, lesions)
            browser.close()


if __name__ == "__main__":
    main()
