"""Progress bars on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Ticker", "progress_bar"]


class Ticker:
    """A progress bar's handle: ``advance`` with a note such as the loss."""

    def __init__(self, progress: Progress | None, task: Any = None) -> None:
        self._progress, self._task = progress, task
        self._started, self._done = time.perf_counter(), 0

    def advance(self, images: int, note: str = "") -> None:
        """Count images as done."""
        self._done += images
        if self._progress is not None:
            rate = self._done / max(1e-9, time.perf_counter() - self._started)
            self._progress.update(self._task, advance=images, note=f"{rate:.1f} images/s {note}")


@contextmanager
def progress_bar(title: str, total: int, *, done: int = 0, shown: bool = True) -> Iterator[Ticker]:
    """A bar on stderr with rate and time left; silent when stderr is no terminal."""
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield Ticker(None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Ticker(progress, progress.add_task(title, total=total, completed=done, note=""))
