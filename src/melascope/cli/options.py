"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from melascope.errors import UsageError


class NamedPath(click.Path):
    """A path that is given: an empty one would mean the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """The path.

        Raises
        ------
        UsageError
            It is empty.
        """
        if value == "":
            raise UsageError(
                f"{param.get_error_hint(ctx) if param else 'The path'} is empty.",
                remedy="Name a file or a folder; `.` is the current one.",
            )
        return super().convert(value, param, ctx)


PATH = NamedPath()

#: Draws of a bootstrap: more cost hours and narrow no interval.
DRAWS = click.IntRange(0, 100_000)


def check_name(name: str | None) -> None:
    """Whether a bundle may be called what `--name` says.

    Raises
    ------
    UsageError
        It may not.
    """
    from melascope.bundle.manifest import NAME

    if name is not None and not re.fullmatch(NAME, name):
        raise UsageError(
            f"--name is {name!r}.",
            remedy="Use small letters, digits, dots, hyphens and underscores, a letter or digit first.",
        )


def check_reason(reason: str | None) -> None:
    """Whether `--allow-leak` gives a reason that can be kept and shown.

    Raises
    ------
    UsageError
        It is empty, or holds what cannot be printed.
    """
    if reason is not None and not (reason.strip() and reason.isprintable()):
        raise UsageError(f"--allow-leak is {reason!r}.", remedy="Give the reason in words.")


def image_limits(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command `--max-bytes` and `--max-pixels`, which reach it as `limits`, an `ImageLimits`."""

    @click.option(
        "--max-bytes",
        type=click.IntRange(min=1),
        metavar="N",
        help="Larger image files are refused.  [default: 64 MiB]",
    )
    @click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        metavar="N",
        help="Images of more pixels are refused; each takes up to 20 bytes of memory.  [default: 50 million]",
    )
    @functools.wraps(command)
    def limited(*arguments: Any, max_bytes: int | None, max_pixels: int | None, **options: Any) -> int:
        from melascope.imaging.decode import DEFAULT_LIMITS

        given = {"max_bytes": max_bytes, "max_pixels": max_pixels}
        limits = replace(
            DEFAULT_LIMITS, **{name: limit for name, limit in given.items() if limit is not None}
        )
        return command(*arguments, limits=limits, **options)

    return limited
