"""Whatever a file holds: an image or one of our errors, soon, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from drawn import encode, lesion
from PIL import Image, ImageCms

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured as Linux does it")
@pytest.mark.parametrize(
    ("mode", "image_format", "options"),
    [
        ("RGB", "WEBP", {"method": 0}),
        ("RGBA", "WEBP", {"method": 0}),
        ("RGBA", "PNG", {"compress_level": 1}),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    ],
)
def test_decoding_takes_up_to_20_bytes_a_pixel(
    mode: str, image_format: str, options: dict[str, Any], tmp_path: Path
) -> None:
    image = Image.fromarray(lesion(2_000, 2_000))
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode(image, image_format, icc_profile=icc, **options)
    (tmp_path / "x").write_bytes(data)
    script = Path(__file__).parents[1] / "support" / "decode_all.py"
    command = [
        sys.executable,
        script,
        tmp_path,
    ]  # a process of its own: nothing of other images is left in it
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    report = json.loads(done.stdout)
    assert report["outcome"] == "image", report
    file_mib = len(data) / 2**20
    assert report["grown_mib"] - 2 * file_mib - 2 < 20 * 2_000 * 2_000 / 2**20, report
