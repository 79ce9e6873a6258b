"""What commands share: paths are given, limits reach the decoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from drawn import encode, lesion

from melascope.cli.options import DRAWS
from melascope.imaging.decode import DEFAULT_LIMITS

Cli = Callable[..., object]


@pytest.mark.parametrize(
    "arguments",
    [
        ("assess", ""),
        ("assess", "a.png", ""),
        ("assess", "a.png", "--heatmap", ""),
        ("predict", "", "--out", "p.csv"),
        ("predict", "images", "--out", ""),
        ("data", "audit", "", "--out", "audit"),
        ("data", "import", "folders", "", "--out", "cases.csv"),
        ("evaluate", ""),
        ("export", ""),
        ("bundle", "install", ""),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    melascope_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "images/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(lesion(), "PNG"))
    done = melascope_cli(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "is empty." in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "images"}


@pytest.mark.parametrize("limit", ["max-bytes", "max-pixels"])
def test_the_limits_of_images_can_be_moved(melascope_cli: Cli, tmp_path: Path, limit: str) -> None:
    data = encode(lesion(100, 60), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    most = {"max-bytes": len(data), "max-pixels": 6000}[limit]
    for allowed, status in ((most, 0), (most - 1, 3)):
        done = melascope_cli("assess", tmp_path / "a.png", f"--{limit}", allowed)
        assert done.status == status, done.err
        assert (f"raise {limit.replace('-', '_')}" in done.err) is (status == 3)
        out = tmp_path / f"{allowed}.csv"
        assert melascope_cli("predict", tmp_path, "--out", out, f"--{limit}", allowed).status == status
        assert len(out.read_text().splitlines()) == 1 + (status == 0)


@pytest.mark.parametrize("command", ["assess", "predict"])
def test_help_states_the_limits_that_hold(melascope_cli: Cli, command: str) -> None:
    told = " ".join(melascope_cli(command, "--help").out.split())
    assert f"[default: {DEFAULT_LIMITS.max_bytes / 2**20:g} MiB]" in told
    assert f"[default: {DEFAULT_LIMITS.max_pixels / 1e6:g} million]" in told


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_more_draws_than_help_anybody_are_refused(melascope_cli: Cli, tmp_path: Path, command: str) -> None:
    done = melascope_cli(command, tmp_path, "--bootstrap", DRAWS.max + 1)
    assert done.status == 2
    assert "100000" in done.err
