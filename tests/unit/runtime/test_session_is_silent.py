"""ONNX Runtime tells its maker nothing: it leaves no trace of telemetry behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pathlib import Path
from melascope.bundle.store import read_bundle
from melascope.runtime.assessor import Assessor
Assessor(read_bundle(Path(sys.argv[1])), threads=1).time_network_ms()
"""


def test_no_device_is_given_an_id_and_nothing_waits_to_be_sent(
    tiny_bundle_path: Path, tmp_path: Path
) -> None:
    kept = {"HOME", "TMPDIR", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"}
    environment = {name: value for name, value in os.environ.items() if name not in kept}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", CODE, str(tiny_bundle_path)], env=environment, check=True, timeout=60
    )
    assert not list(tmp_path.rglob("*"))
