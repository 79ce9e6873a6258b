"""The whole corpus through `melascope assess FOLDER`, as a user would run it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PEAK_BYTES = 3 << 30  #: of address space; ONNX Runtime alone reserves much of it


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (PEAK_BYTES, PEAK_BYTES))


@pytest.fixture(scope="session")
def assessed(malformed_files: Path, tiny_bundle_path: Path) -> subprocess.CompletedProcess[str]:
    count = sum(1 for _ in malformed_files.iterdir())
    return subprocess.run(
        [
            *(sys.executable, "-m", "melascope", "assess", malformed_files),
            *("--bundle", tiny_bundle_path, "--format", "json", "--threads", "1"),
        ],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60 + count / 20,
        preexec_fn=_limit_memory,
        check=False,
    )


def test_it_ends_with_exit_status_3_and_without_a_traceback(
    assessed: subprocess.CompletedProcess[str],
) -> None:
    assert assessed.returncode == 3, assessed.stderr[-2000:]
    assert "Traceback" not in assessed.stderr
    assert "Warning" not in assessed.stderr


def test_every_bad_file_is_listed_with_its_reason_and_every_good_one_is_assessed(
    assessed: subprocess.CompletedProcess[str], decoded: list[dict[str, Any]]
) -> None:
    report = json.loads(assessed.stdout)
    walked = [entry for entry in decoded if "this is a folder" not in entry["message"]]
    bad = sum(entry["outcome"] != "image" for entry in walked)
    assert len(report["problems"]) == bad > 100
    assert len(report["assessments"]) == len(walked) - bad > 20
    for problem in report["problems"]:
        assert problem["code"].startswith("image-")
        assert problem["remedy"]
    told = [line for line in assessed.stderr.splitlines() if line.startswith("melascope: ")]
    assert len(told) == bad
    assert {entry["message"].partition(": ")[2] for entry in walked if entry["outcome"] != "image"} == {
        f"{problem['message'].partition(': ')[2]} {problem['remedy']}" for problem in report["problems"]
    }
