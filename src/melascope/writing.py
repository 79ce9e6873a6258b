"""Files are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file, UTF-8 with line ends as written, that takes the name `path` when the block ends well.

    Until then it is `path` + `.partial`, which an exception removes: an older file of that name stays as it was.

    Raises
    ------
    OSError
        The disk is full, or the folder does not allow it; `filename` is `path`.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            yield file
        os.replace(partial, path)
    except BaseException as fault:
        with suppress(OSError):
            partial.unlink()
        if isinstance(fault, OSError) and fault.filename in (None, str(partial)):
            fault.filename = os.fspath(path)
        raise
