"""Progress bars, on stderr so that stdout stays clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counter(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, shown from the first call of what is yielded: `update(done, total)`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, visible=False)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=done < total)

        yield update
