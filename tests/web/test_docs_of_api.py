"""What the documents say of the server is true: every curl line runs, every setting is told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import LiveServer

from melascope.web.settings import ENVIRONMENT_PREFIX, Settings

ROOT = Path(__file__).parents[2]
API_DOC = (ROOT / "docs" / "api.md").read_text()


def commands() -> Iterator[str]:
    for block in re.findall(r"```\n(.*?)```", API_DOC, re.DOTALL):
        yield from (line for line in block.replace("\\\n", " ").splitlines() if line.startswith("curl"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", list(commands()))
def test_every_curl_line_of_the_api_document_runs(live: LiveServer, command: str) -> None:
    ended = subprocess.run(
        ["bash", "-c", f"{command} --silent --show-error"],
        env={"SERVER": live.address, "PATH": "/usr/bin:/bin"},
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    if "card" not in command:
        json.loads(ended.stdout)


def test_the_python_example_runs(live: LiveServer, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = re.findall(r"```python\n(.*?)```", API_DOC, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(example.replace("http://127.0.0.1:8000", live.address), {})
    assert "image" in capsys.readouterr().out


def test_every_setting_is_told_with_its_default() -> None:
    text = (ROOT / "docs" / "how-to" / "serve.md").read_text()
    told = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (.*?) \|", text, re.MULTILINE))))
    assert told - {"setting"} == set(Settings.model_fields)
    for name in ("port", "queue", "queue_of_client", "max_images", "batch_size"):
        [row] = [line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line]
        assert str(Settings.model_fields[name].default) in row


def test_what_deploys_it_speaks_of_settings_there_are() -> None:
    for file in (ROOT / "deploy").iterdir():
        for name in re.findall(rf"{ENVIRONMENT_PREFIX}([A-Z_]+)", file.read_text()):
            assert name.lower() in {*Settings.model_fields, "config"}, file


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "melascope.service"
    text = (ROOT / "deploy" / "melascope.service").read_text()
    unit.write_text(text.replace("/opt/melascope/bin/melascope", "/bin/true"))
    ended = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
