"""`melascope --help` and `import melascope` are instant: nothing heavy is imported for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

HEAVY = ("numpy", "scipy", "PIL", "onnxruntime", "torch", "pydantic", "rich", "sklearn", "matplotlib")

HELP = """
import contextlib, io, json, sys
from melascope.cli.main import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    main.main(["--help"], standalone_mode=False)
assert "assess" in out.getvalue()
print(json.dumps(sorted(sys.modules)))
"""

IMPORT = """
import json, sys
import melascope
assert {"assess", "load_bundle"} <= set(dir(melascope))
assert not hasattr(melascope, "nonsense")
print(json.dumps(sorted(sys.modules)))
"""

ASSESS = """
import json, sys
import melascope.cli.assess
from melascope.runtime.assessor import Assessor
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(script: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("script", [HELP, IMPORT], ids=["help", "import"])
def test_nothing_heavy_is_imported(script: str) -> None:
    assert modules_after(script).isdisjoint(HEAVY)


def test_assessing_imports_neither_training_nor_fitting() -> None:
    assert modules_after(ASSESS).isdisjoint(
        {"torch", "sklearn", "scipy.stats", "scipy.optimize", "rich", "matplotlib"}
    )


def test_a_name_that_the_terminal_cannot_show_does_not_stop_a_command(
    tiny_bundle_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "nävus-日.png"
    Image.new("RGB", (40, 40), "tan").save(path)
    for output in ("table", "csv", "json"):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "melascope",
                "assess",
                path,
                "--bundle",
                tiny_bundle_path,
                "--format",
                output,
            ],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"vus-" in done.stdout
