"""One corpus of malformed files for all fuzz tests of a session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import malformed
import pytest

ROOT = Path(__file__).parents[2]


def _real_images() -> list[Path]:
    data = Path(os.environ.get("MELASCOPE_DATA", ROOT.parent / "shared" / "data"))
    return sorted((data / "isic2017_validation").rglob("*.jpg"))[:3]


@pytest.fixture(scope="session")
def malformed_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of over 200 malformed files; MELASCOPE_FUZZ_FILES and _SEED make another or a larger one."""
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is limited and measured as Linux does it")
    folder = tmp_path_factory.mktemp("malformed")
    count = int(os.environ.get("MELASCOPE_FUZZ_FILES", "196"))
    seed = int(os.environ.get("MELASCOPE_FUZZ_SEED", "1"))
    malformed.write_all(folder, count=count, seed=seed, real_images=_real_images())
    return folder


@pytest.fixture(scope="session")
def decoded(malformed_files: Path) -> list[dict[str, Any]]:
    """What `decode_all.py`, a process of 2 GiB, says of every file of the corpus."""
    script = ROOT / "tests" / "support" / "decode_all.py"
    count = sum(1 for _ in malformed_files.iterdir())
    done = subprocess.run(
        [sys.executable, "-W", "always", script, malformed_files],
        capture_output=True,
        text=True,
        timeout=60 + count / 20,
        check=False,
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"died after {reports[-1:]}: {done.stderr[-2000:]}"
    # libtiff itself writes a line on damaged data, which Pillow offers no way to silence; nothing else may.
    assert "Warning" not in done.stderr, done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return reports
