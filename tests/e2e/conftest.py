"""A headless Chromium before a real server; skipped with a reason where either is absent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from draw_lesion import draw  # noqa: E402
from live_server import LiveServer  # noqa: E402
from playwright.sync_api import Browser, BrowserContext, Page  # noqa: E402

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or the one that playwright has installed; with a made-up camera."""
    system = next((path for path in CHROMIUM if Path(path).exists()), None)
    with sync_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(
                executable_path=system,
                args=[
                    "--no-sandbox",
                    "--use-fake-device-for-media-stream",
                    "--use-fake-ui-for-media-stream",
                    "--host-resolver-rules=MAP *.example 127.0.0.1",
                ],
            )
        except sync_api.Error as fault:
            pytest.skip(f"no Chromium: {fault.message.splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="session")
def server(tiny_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """`melascope serve` with the tiny bundle, in a process of its own."""
    with LiveServer(tiny_bundle_path, tmp_path_factory.mktemp("e2e")) as live:
        yield live


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[Path]]:
    """The paths of as many drawn lesions as are asked for, each another."""
    folder = tmp_path_factory.mktemp("lesions")
    drawn = draw()

    def make(count: int) -> list[Path]:
        paths = [folder / f"lesion-{seed:03}.jpg" for seed in range(count)]
        for seed, path in enumerate(paths):
            if not path.exists():
                drawn.resize((300 + seed, 225)).save(path, quality=85)
        return paths

    return make


@pytest.fixture
def open_page(browser: Browser, server: LiveServer) -> Iterator[Callable[..., Page]]:
    """Opens a page of the server: `open_page("/about", locale="de-DE", width=390)`; its faults fail the test."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def heed(page: Page) -> None:
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.on(
            "console",
            lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None,
        )
        page.on(
            "request",
            lambda sent: (
                None
                if sent.url.startswith((server.address, "blob:", "data:"))
                else faults.append(f"asked another host: {sent.url}")
            ),
        )

    def open_(path: str = "/", *, width: int = 1280, height: int = 900, **options: object) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            **{"locale": "en-GB", "base_url": server.address, "reduced_motion": "reduce", **options},
        )
        contexts.append(context)
        page = context.new_page()
        heed(page)
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert faults == []
