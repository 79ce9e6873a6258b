"""`melascope doctor` tells what is there, and its exit status says whether images can be assessed."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable

import pytest

from melascope.bundle.store import Bundle
from melascope.cli import doctor

Cli = Callable[..., object]


def test_a_sound_installation(melascope_cli: Cli, tiny_bundle: Bundle) -> None:
    done = melascope_cli("doctor", "--format", "json")
    findings = json.loads(done.out)
    assert done.status == 0
    assert findings["bundle"]["id"] == tiny_bundle.id
    assert findings["bundle"]["execution_provider"] == "CPUExecutionProvider"
    assert findings["acceleration"]["threads"] >= 1
    assert findings["acceleration"]["cpu_features"]
    assert {"evaluate", "train"} <= findings["extras"].keys()
    assert "verifies" in melascope_cli("doctor").out


def test_a_missing_extra_is_told_with_its_install_line(
    melascope_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.metadata.version

    def without_torch(package: str) -> str:
        if package in ("torch", "pi-heif"):
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(doctor.importlib.metadata, "version", without_torch)
    done = melascope_cli("doctor")
    assert done.status == 0
    assert "not installed: pip install '.[train]' in a checkout" in done.out
    assert "absent: pip install pi-heif" in done.out


def test_a_bundle_that_does_not_answer(melascope_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELASCOPE_BUNDLE", "nope")
    done = melascope_cli("doctor")
    assert done.status == 6
    assert "does not answer: There is no bundle 'nope'" in done.out
    assert json.loads(melascope_cli("doctor", "--format", "json").out)["bundle"]["verifies"] is False
