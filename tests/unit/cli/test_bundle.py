"""`melascope bundle`: from a file to the bundle that answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from melascope.bundle.store import CAM_WEIGHT, Bundle, reference_bytes

Cli = Callable[..., object]


def test_install_use_list_show_verify(
    melascope_cli: Cli,
    tiny_bundle_path: Path,
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("MELASCOPE_BUNDLE")
    assert melascope_cli("bundle", "install", tiny_bundle_path).status == 0
    assert "answers from now on" in melascope_cli("bundle", "use", "tiny").out
    assert f"* {tiny_bundle.id}" in melascope_cli("bundle", "list").out
    mine = [
        row for row in json.loads(melascope_cli("bundle", "list", "--format", "json").out) if row["active"]
    ]
    assert [(row["id"], row["origin"]) for row in mine] == [(tiny_bundle.id, "user")]
    shown = melascope_cli("bundle", "show").out
    for expected in (
        tiny_bundle.id,
        "sensitivity-95 (default)",
        "CC0-1.0",
        "0.750 (0.500 to 0.900)",
        "undefined",
    ):
        assert expected in shown
    assert shown.rstrip().endswith("# Tiny\n\nFor tests.")
    manifest = json.loads(melascope_cli("bundle", "show", "--format", "json").out)
    assert manifest["files"].keys() == {"model.onnx", "reference.npz", "MODEL_CARD.md"}
    assert "verifies" in melascope_cli("bundle", "verify").out


def test_verify_finds_an_altered_bundle(melascope_cli: Cli, tiny_bundle_path: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered.zip"
    altered.write_bytes(tiny_bundle_path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x03", 1))
    done = melascope_cli("bundle", "verify", altered)
    assert done.status == 6
    assert "altered.zip" in done.err


def test_verify_finds_a_network_that_does_not_answer(
    melascope_cli: Cli, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    make_bundle(tmp_path / "b.zip", files={"model.onnx": b"junk"})
    assert melascope_cli("bundle", "verify", tmp_path / "b.zip").status == 6


def test_verify_finds_the_heatmap_of_another_network(
    melascope_cli: Cli, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    other = reference_bytes({CAM_WEIGHT: np.ones((7, 6), np.float32)})
    make_bundle(tmp_path / "b.zip", files={"reference.npz": other})
    done = melascope_cli("bundle", "verify", tmp_path / "b.zip")
    assert done.status == 6
    assert "not those of the network's last layer" in done.err


def test_a_damaged_bundle_is_listed_with_its_fault(melascope_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "bad.zip").write_bytes(b"junk")
    done = melascope_cli("bundle", "list")
    assert done.status == 0
    assert "bad.zip: cannot be read" in done.out
