"""Whatever a file holds: an image or one of our errors, soon, and in little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from melascope.errors import ImageError


def _error_names(kind: type[ImageError]) -> set[str]:
    return {kind.__name__}.union(*(_error_names(child) for child in kind.__subclasses__()))


def test_every_file_becomes_an_image_or_an_image_error(
    decoded: list[dict[str, Any]], malformed_files: Path
) -> None:
    assert len(decoded) == len(list(malformed_files.iterdir())) > 200
    unexpected = [
        report for report in decoded if report["outcome"] not in {"image"} | _error_names(ImageError)
    ]
    assert not unexpected


def test_every_error_names_the_file_the_finding_and_the_remedy(decoded: list[dict[str, Any]]) -> None:
    for report in decoded:
        if report["outcome"] == "image":
            continue
        shown = "".join(c if c.isprintable() else "\ufffd" for c in report["name"])
        before, _, after = report["message"].partition(f"{shown}: ")
        assert before.endswith("/"), report
        finding, _, remedy = after.rstrip(".").rpartition(". ")
        assert finding, report
        assert remedy[0].isupper(), report
        assert report["message"].isprintable(), report


def test_no_file_takes_long_or_much_memory(decoded: list[dict[str, Any]]) -> None:
    assert not [report for report in decoded if report["seconds"] > 5]
    assert not [report for report in decoded if report["grown_mib"] > 200]


def test_bombs_are_refused_or_harmless(decoded: list[dict[str, Any]]) -> None:
    outcomes = {
        r["name"].removeprefix("bomb_"): r["outcome"] for r in decoded if r["name"].startswith("bomb_")
    }
    # Data behind the last pixel and a directory that follows itself are not read.
    harmless = {"pixels.png", "circle.tif"}
    assert {name for name, outcome in outcomes.items() if outcome == "image"} <= harmless
    for name in ("wide.png", "wide.jpg", "wide.tif", "wide.webp", "wide.bmp", "wide.heic"):
        assert outcomes[name] == "ImageTooLargeError"


def test_the_corpus_reaches_the_decoders(decoded: list[dict[str, Any]]) -> None:
    outcomes = [report["outcome"] for report in decoded]
    assert outcomes.count("image") > 20, "some damage must get through to the pixels"
    assert outcomes.count("TruncatedImageError") > 60
    assert len(set(outcomes)) >= 7
