"""What happened in a run? One JSON line per event, and progress for whoever watches."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["RunLog", "Ticker", "progress_bar"]


class RunLog:
    """``log.jsonl`` of a run folder. Only the first process writes.

    Args:
        path: the file; None keeps nothing (other processes).
        keep_until: optimiser steps and whole epochs that are done. Lines of a log that is already there which tell of
            later ones are dropped, because those will be done again.
    """

    def __init__(self, path: Path | None, *, keep_until: tuple[int, int]) -> None:
        self.path = path
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            steps, epochs = keep_until
            lines = [(line, json.loads(line)) for line in path.read_text().splitlines()]
            done = [(line, said) for line, said in lines if said["step"] <= steps and said.get("epoch", 0) <= epochs]
            kept = [line for line, said in done if said["event"] != "end"]
            beside = path.with_suffix(".partial")
            beside.write_text("".join(f"{line}\n" for line in kept))
            os.replace(beside, path)

    def write(self, event: str, **values: Any) -> None:
        """Append one line: the event, the time in seconds since 1970, and the values."""
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"event": event, "time": round(time.time(), 3), **values}) + "\n")


class Ticker:
    """A progress bar's handle: ``advance`` with a note such as the loss."""

    def __init__(self, progress: Progress | None, task: Any = None) -> None:
        self._progress, self._task = progress, task
        self._started, self._done = time.perf_counter(), 0

    def advance(self, images: int, note: str = "") -> None:
        """Count pictures as done."""
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
