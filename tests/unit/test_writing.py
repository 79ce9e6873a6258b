"""A file is written whole or not at all, and a fault names it."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from melascope.datasets.table import write_cases
from melascope.domain.case import Case
from melascope.writing import whole_file


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "ä.csv"
    with whole_file(path) as file:
        file.write("ä\r\n")
        assert not path.exists()
    assert path.read_bytes() == "ä\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("older")

    def write_and_stop() -> None:
        with whole_file(path) as file:
            file.write("newer")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


class _FullDisk(io.FileIO):
    def write(self, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that a `Path` opens to write finds no room when its bytes leave the buffer."""
    opened = Path.open

    def on_full_disk(path: Path, mode: str = "r", *more: object, **options: object) -> object:
        if mode != "w":
            return opened(path, mode, *more, **options)
        return io.TextIOWrapper(io.BufferedWriter(_FullDisk(path, "w")), encoding="utf-8")

    monkeypatch.setattr(Path, "open", on_full_disk)


def test_a_full_disk_is_told_of_the_file_and_leaves_nothing(full_disk: None, tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    with pytest.raises(OSError, match="No space left") as caught:
        write_cases([Case(image_id="a", path="/a.jpg")], path)
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_with_path_and_remedy(  # type: ignore[no-untyped-def]
    full_disk: None, melascope_cli, tmp_path: Path
) -> None:
    (tmp_path / "images" / "NV").mkdir(parents=True)
    (tmp_path / "images" / "NV" / "a.png").touch()
    out = tmp_path / "cases.csv"
    done = melascope_cli("data", "import", "folders", tmp_path / "images", "--out", out)
    assert done.status == 1
    told, remedy = done.err.splitlines()
    assert told == f"melascope: {out}: No space left on device."
    assert "Make room" in remedy
    assert {path.name for path in tmp_path.iterdir()} == {"images"}


def test_a_fault_names_the_file_and_not_the_partial_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "absent" / "a.csv"):
        pass
    assert caught.value.filename == str(tmp_path / "absent" / "a.csv")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(OSError, match=r"b\.csv"), whole_file(tmp_path / "b.csv"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["b.csv"]
