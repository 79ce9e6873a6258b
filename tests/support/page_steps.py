"""Steps that tests of the page in a browser share."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

Open = Callable[..., Page]
Photographs = Callable[[int], list[Path]]


def assess(page: Page, files: list[Path]) -> None:
    """Choose files and wait for all answers."""
    page.set_input_files("#files", files)
    expect(page.locator("#cases article")).to_be_visible(timeout=60_000)
    expect(page.locator("#progress")).to_be_hidden(timeout=120_000)


def apply_share(page: Page, per_cent: str) -> None:
    """State a share of melanomas and leave the field."""
    page.fill("#prevalence", per_cent)
    page.press("#prevalence", "Enter")


def names(page: Page) -> list[str]:
    return page.locator("#rows .row-name").all_inner_texts()


def saved_files(page: Page) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The rows of the CSV and the content of the JSON that the page gives."""
    with page.expect_download() as saved:
        page.click("#save-csv")
    rows = list(csv.DictReader(io.StringIO(saved.value.path().read_text(encoding="utf-8-sig"))))
    with page.expect_download() as saved:
        page.click("#save-json")
    return rows, json.loads(saved.value.path().read_text())


def scale_of(page: Page) -> float:
    """How much the photograph is enlarged."""
    found = re.search(r"scale\(([\d.]+)\)", page.locator(".plane").first.get_attribute("style") or "scale(1)")
    assert found is not None
    return float(found[1])


def place_of(page: Page, layer: str) -> dict[str, float]:
    """Where a layer of the photograph lies on the screen."""
    return dict(page.locator(layer).evaluate("image => image.getBoundingClientRect().toJSON()"))
