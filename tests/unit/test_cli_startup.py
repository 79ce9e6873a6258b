"""`melascope --help` and `import melascope` are instant: nothing heavy is imported for them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from melascope.cli.main import main

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
    assert modules_after(ASSESS).isdisjoint({"torch", "sklearn", "scipy", "rich", "matplotlib"})


def test_a_file_where_a_folder_is_wanted_is_told_in_one_line(melascope_cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    images = tmp_path / "images" / "NV"
    images.mkdir(parents=True)
    Image.new("RGB", (40, 40), "tan").save(images / "a.png")
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "cases.csv"
    done = melascope_cli("data", "import", "folders", tmp_path / "images", "--out", out)
    assert done.status == 1
    told, remedy = done.err.splitlines()
    assert told.startswith(f"melascope: {tmp_path / 'file'}")
    assert "name another path" in remedy


@pytest.mark.parametrize(
    ("fault", "told", "remedy"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/some/where"), "/some/where: Perm", "you may"),
        (OSError(errno.EROFS, "Read-only file system", "a\x1bb"), "a\\x1bb: Read-only", "you may"),
        (OSError(errno.ENOSPC, "No space left on device"), "What the command writes: No space", "Make room"),
        (
            OSError(errno.EISDIR, "Is a directory", "a.partial", None, "a"),
            "a: Is a directory",
            "another path",
        ),
        (OSError(errno.EIO, "Input/output error", b"a"), "a: Input/output error", "run the command again"),
        (OSError("odd"), "What the command writes: odd", "run the command again"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_a_remedy(  # type: ignore[no-untyped-def]
    melascope_cli, monkeypatch: pytest.MonkeyPatch, fault: OSError, told: str, remedy: str
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise fault

    monkeypatch.setattr(main, "main", refuse)
    done = melascope_cli("doctor")
    assert done.status == 1
    assert done.err.startswith(f"melascope: {told}")
    assert remedy in done.err
    assert len(done.err.splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_has_no_room_is_one_line_too() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "melascope", "data", "sources"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("melascope: What the command writes: No space left on device.")
    assert len(done.stderr.splitlines()) == 2


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
