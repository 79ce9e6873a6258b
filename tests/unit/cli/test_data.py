"""`melascope data` as it is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from melascope.cli.data import command
from melascope.datasets.sources import SOURCES
from melascope.datasets.table import read_cases
from melascope.errors import DatasetError, LeakError, TableError, UsageError


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def succeed(*words: object) -> str:
    result = run(*words)
    assert result.exception is None, result.output
    return result.stdout


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Thirty images in folders, one of them a mirrored copy of another."""
    rng = np.random.default_rng(0)
    for n in range(30):
        picture = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).resize((240, 160))
        place = tmp_path / "mine" / ("MEL" if n % 3 == 0 else "NV")
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{n:02}.png")
        if n == 0:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(place / "copy.png")
    return tmp_path / "mine"


def test_an_image_that_is_gone_is_named_when_it_is_dealt(folders: Path, tmp_path: Path) -> None:
    cases, dealt = tmp_path / "cases.csv", tmp_path / "split.csv"
    succeed("import", "folders", folders, "--out", cases)
    (folders / "NV" / "01.png").unlink()
    result = CliRunner().invoke(
        command, ["split", str(cases), "--folds", "3", "--out", str(dealt)], standalone_mode=False
    )
    assert (result.return_value, "NV/01.png: " in result.stderr) == (3, True)
    assert len(read_cases(dealt)) == 31


def test_import_split_audit(folders: Path, tmp_path: Path) -> None:
    cases, dealt = tmp_path / "cases.csv", tmp_path / "split.csv"
    assert "NV" in succeed("import", "folders", folders, "--out", cases)
    text = succeed("split", cases, "--fractions", "train=0.5,test=0.5", "--out", dealt)
    assert text.splitlines()[0].split() == ["test", "train", "all"]
    assert text.splitlines()[2].split()[-1] == "20"
    split = {case.image_id: case.split for case in read_cases(dealt)}
    assert split["MEL/00.png"] == split["MEL/copy.png"]
    assert "leaks: 0" in succeed("audit", dealt, "--out", tmp_path / "audit")
    again = tmp_path / "again.csv"
    succeed("split", cases, "--folds", 3, "--audit", tmp_path / "audit/audit.json", "--out", again)
    assert {case.split for case in read_cases(again)} == {"0", "1", "2"}
    other = tmp_path / "other.csv"
    other.write_text("\n".join(cases.read_text().splitlines()[:-1]) + "\n")
    refused = run("split", other, "--folds", 3, "--audit", tmp_path / "audit/audit.json", "--out", again)
    assert isinstance(refused.exception, DatasetError)


def test_a_leak_exits_5_after_the_report_is_written(folders: Path, tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    succeed("import", "folders", folders, "--split", "train", "--out", table)
    lines = table.read_text().splitlines()
    lines = [line.replace(",train,", ",test,") if "copy" in line else line for line in lines]
    table.write_text("\n".join(lines) + "\n")
    result = run("audit", table, "--out", tmp_path / "audit")
    assert isinstance(result.exception, LeakError)
    assert "leaks: 1" in result.output
    assert (tmp_path / "audit/audit.html").exists()
    finished = subprocess.run(
        [sys.executable, "-m", "melascope", "data", "audit", str(table), "--out", str(tmp_path / "audit")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 5
    assert "The split leaks in 1 place: duplicate MEL/00.png" in finished.stderr


def test_unreadable_files_exit_3_after_the_report_and_a_leak_goes_first(
    folders: Path, tmp_path: Path
) -> None:
    table, out = tmp_path / "cases.csv", tmp_path / "audit"
    succeed("import", "folders", folders, "--split", "train", "--out", table)
    (folders / "NV" / "01.png").write_bytes(b"junk")

    def audit() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "melascope", "data", "audit", str(table), "--out", str(out)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    done = audit()
    assert done.returncode == 3
    assert "unreadable files: 1" in done.stdout
    assert "NV/01.png: " in done.stderr
    assert (out / "audit.html").exists()
    lines = table.read_text().splitlines()
    table.write_text(
        "\n".join(line.replace(",train,", ",test,") if "copy" in line else line for line in lines) + "\n"
    )
    assert audit().returncode == 5


def test_fixed_cases_stay(folders: Path, tmp_path: Path) -> None:
    held, free, both, dealt = (tmp_path / f"{name}.csv" for name in ("held", "free", "both", "dealt"))
    succeed("import", "folders", folders / "MEL" / "..", "--out", free)
    lines = free.read_text().splitlines()
    held.write_text("\n".join([lines[0], *(line for line in lines if "MEL" in line)]) + "\n")
    succeed("import", "folders", folders, "--split", "test", "--out", both)
    succeed("merge", held, both, "--keep-first", "--out", both)
    succeed("split", both, "--fractions", "train=0.5,val=0.5", "--fixed", "test", "--out", dealt)
    parts = {(case.image_id.split("/")[0], case.split) for case in read_cases(dealt)}
    assert parts == {("MEL", "train"), ("MEL", "val"), ("NV", "test")}


def test_csv_columns_and_words(folders: Path, tmp_path: Path) -> None:
    (folders / "mine.csv").write_text("file,what\nMEL/00.png,mm\n")
    out = tmp_path / "cases.csv"
    succeed("import", "csv", folders / "mine.csv", "--column", "path=file", "--column", "diagnosis=what",
            "--map", "mm=melanoma", "--out", out)  # fmt: skip
    (case,) = read_cases(out)
    assert (case.image_id, case.melanoma) == ("00", True)


def test_same_image_in_two_tables(folders: Path, tmp_path: Path) -> None:
    succeed("import", "folders", folders, "--out", tmp_path / "a.csv")
    result = run("merge", tmp_path / "a.csv", tmp_path / "a.csv", "--out", tmp_path / "b.csv")
    assert isinstance(result.exception, TableError)
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("import", "ham", ".", "--out", "x.csv"),
        ("import", "folders", ".", "--out", "x.csv", "--map", "a=MEL"),
        ("import", "csv", "x.csv", "--out", "y.csv", "--column", "diagnosis"),
        ("split", "x.csv", "--out", "y.csv", "--fractions", "train=most"),
        ("sources", "ham"),
    ],
)
def test_usage_faults(words: tuple[str, ...]) -> None:
    assert isinstance(run(*words).exception, UsageError)


def test_sources_tells_licence_and_mapping() -> None:
    listed = succeed("sources")
    assert all(name in listed for name in SOURCES)
    shown = succeed("sources", "isic2017")
    assert "CC0" in shown
    assert "neither -> UNK, not melanoma" in shown
