"""A CSV file that is written batch by batch and survives interruption.

While it grows it is `X.partial`, its refusals `X.errors.csv.partial`; `X.progress.json` says whose work
it is and how far both files are good, `X.inputs.partial` what its inputs were like. Taking the work up again
cuts both back to there: a torn line or a row too many cannot stay.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from melascope.cli.image_files import printable
from melascope.errors import UsageError
from melascope.writing import whole_file

ERROR_COLUMNS = ("image_id", "path", "code", "message")


class ResumableTable:
    """Append to it within `with`; `finish` gives the file its name.

    Parameters
    ----------
    path
        Of the finished table; the refusals are in `path` + `.errors.csv`, if there are any.
    columns
        The header.
    identity
        What the rows depend on (bundle, options, names of inputs): work is taken up only where it is equal.
    inputs
        The files that rows are made of: work is not taken up where one has changed in size or time.
    restart
        Begin anew even if there is unfinished work.

    Raises
    ------
    UsageError
        Unfinished work of another identity or of files that were changed since, or damaged; a folder or file
        that cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        columns: Sequence[str],
        identity: Mapping[str, str],
        inputs: Sequence[str] = (),
        restart: bool = False,
    ) -> None:
        path = Path(os.path.realpath(path))  # written through a link, not over it
        if path.exists() and not path.is_file():
            raise UsageError(
                f"{path} is there and is no plain file.", remedy="Choose another file for --out."
            )
        self._path = path
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._errors_path = path.with_name(f"{path.name}.errors.csv")
        self._progress_path = path.with_name(f"{path.name}.progress.json")
        self._partial = path.with_name(f"{path.name}.partial")
        self._errors_partial = path.with_name(f"{path.name}.errors.csv.partial")
        self._inputs_partial = path.with_name(f"{path.name}.inputs.partial")
        self._identity = dict(identity)
        self._inputs = [_state_of(name) for name in inputs]
        self.done = self.n_rows = self.n_refused = 0  #: inputs done; among them scored; refused
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
        except OSError as fault:
            raise self._unwritable(fault) from fault
        try:
            if restart or not self._progress_path.exists():
                self._begin(columns)
            else:
                self._take_up()
            self._table = self._partial.open("ab")
            self._errors = self._errors_partial.open("ab")
        except OSError as fault:
            self._lock.close()
            raise self._unwritable(fault) from fault
        except UsageError:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()
        self._errors.close()
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()

    def append(
        self, rows: Iterable[Sequence[object]], refused: Iterable[Sequence[object]], *, done: int
    ) -> None:
        """Add the rows of a batch; from here on they are safe.

        Parameters
        ----------
        rows, refused
            In the order of `columns`, and of `ERROR_COLUMNS`.
        done
            Inputs done with this batch included.

        Raises
        ------
        UsageError
            The disk is full, or the files cannot be written any more.
        """
        rows, refused = list(rows), list(refused)
        self.done, self.n_rows, self.n_refused = done, self.n_rows + len(rows), self.n_refused + len(refused)
        try:
            self._table.write(_csv_bytes(rows))
            self._errors.write(_csv_bytes(refused))
            self._table.flush()
            self._errors.flush()
            self._save_progress(self._table.tell(), self._errors.tell())
        except OSError as fault:
            raise self._unwritable(fault) from fault

    def finish(self) -> Path | None:
        """Give the table its name, and the refusals theirs; returns where these are, if there are any."""
        self._table.close()
        self._errors.close()
        if self.n_refused:
            os.replace(self._errors_partial, self._errors_path)
        else:
            self._errors_partial.unlink()
            self._errors_path.unlink(missing_ok=True)  # of earlier work
        os.replace(self._partial, self._path)
        self._progress_path.unlink()
        self._inputs_partial.unlink()
        return self._errors_path if self.n_refused else None

    def _locked(self) -> IO[bytes]:
        """A lock that the system itself releases when its process ends, however it ends."""
        lock = self._lock_path.open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise UsageError(
                f"{self._path}: another run is writing this table.",
                remedy="Wait for it, or choose another file for --out.",
            ) from None
        return lock

    def _unwritable(self, fault: OSError) -> UsageError:
        return UsageError(
            f"{self._path}: the table cannot be written ({fault.strerror or fault}).",
            remedy="Choose a file in a folder of yours with enough space.",
        )

    def _begin(self, columns: Sequence[str]) -> None:
        self._progress_path.unlink(missing_ok=True)
        table, errors = _csv_bytes([columns]), _csv_bytes([ERROR_COLUMNS])
        self._partial.write_bytes(table)
        self._errors_partial.write_bytes(errors)
        self._inputs_partial.write_text("".join(f"{line}\n" for line in self._inputs), encoding="utf-8")
        self._save_progress(len(table), len(errors))

    def _take_up(self) -> None:
        remedy = "Begin anew with --restart, or repeat the command that was interrupted."
        try:
            progress = json.loads(self._progress_path.read_bytes())
            identity, table_bytes, errors_bytes = (
                progress["identity"],
                progress["table_bytes"],
                progress["errors_bytes"],
            )
            self.done, self.n_rows, self.n_refused = (
                progress["done"],
                progress["n_rows"],
                progress["n_refused"],
            )
            inputs = self._inputs_partial.read_text(encoding="utf-8").splitlines()
            sizes = self._partial.stat().st_size, self._errors_partial.stat().st_size
        except (ValueError, KeyError, TypeError, FileNotFoundError) as fault:
            raise UsageError(
                f"{self._progress_path}: the unfinished work is damaged ({fault}).", remedy=remedy
            ) from fault
        if identity != self._identity:
            keys = [
                key for key in {**self._identity, **identity} if identity.get(key) != self._identity.get(key)
            ]
            raise UsageError(
                f"{self._partial} is unfinished work with another {', another '.join(keys)}.", remedy=remedy
            )
        if sizes[0] < table_bytes or sizes[1] < errors_bytes or len(inputs) != len(self._inputs):
            raise UsageError(f"{self._partial}: the unfinished work has lost its end.", remedy=remedy)
        self._refuse_changed_inputs(inputs)
        os.truncate(self._partial, table_bytes)
        os.truncate(self._errors_partial, errors_bytes)

    def _refuse_changed_inputs(self, earlier: Sequence[str]) -> None:
        """A row that was written of a file as it was would stand beside rows of files as they are."""
        for now, then in zip(self._inputs, earlier, strict=True):
            if now != then:
                name = now.split(" ", 2)[2]
                raise UsageError(
                    f"{name} was changed since {self._partial} was begun.",
                    remedy="Begin anew with --restart, or put back the file as it was.",
                )

    def _save_progress(self, table_bytes: int, errors_bytes: int) -> None:
        progress = {
            "identity": self._identity,
            "done": self.done,
            "n_rows": self.n_rows,
            "n_refused": self.n_refused,
            "table_bytes": table_bytes,
            "errors_bytes": errors_bytes,
        }
        with whole_file(self._progress_path) as file:
            file.write(json.dumps(progress, indent=2) + "\n")


def _state_of(name: str) -> str:
    """Size, time of the last change and name of a file, on one line; no numbers where there is none."""
    try:
        found = os.stat(name)
    except OSError:
        return f"- - {printable(name)}"
    return f"{found.st_size} {found.st_mtime_ns} {printable(name)}"


def _csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8", errors="backslashreplace")
