"""``log.jsonl`` of a run folder: one JSON object per event."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from msrn.files import append_whole, parse_json, write_atomically

__all__ = ["RunLog"]


class RunLog:
    """``log.jsonl`` of a run folder. Only the first process writes.

    Args:
        path: the file; None keeps nothing (other processes).
        keep_until: optimizer steps and whole epochs that are done. Events of a log that is already there which belong
            to later ones are dropped, because those will come again; so is a last line that was cut short.
    """

    def __init__(self, path: Path | None, *, keep_until: tuple[int, int]) -> None:
        self.path = path
        self.begun = False
        """Whether the log already holds the start of the run."""
        if path is None or not path.exists():
            return
        steps, epochs = keep_until
        lines = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = parse_json(line)
                kind, done = event["event"], event["step"] <= steps and event.get("epoch", 0) <= epochs
            except (ValueError, KeyError, TypeError):
                continue  # torn by the end of a process; nothing is resumed from the log
            self.begun |= kind == "start"
            if done and kind != "end":
                lines.append(f"{line}\n")
        write_atomically(path, "".join(lines))

    def write(self, event: str, **values: Any) -> None:
        """Append one line: the event, the time in seconds since 1970, and the values.

        Raises:
            OSError: it cannot be written; the lines before are whole.
        """
        if self.path is not None:
            line = json.dumps({"event": event, "time": round(time.time(), 3), **values})
            append_whole(self.path, f"{line}\n".encode())
