"""The folder of a comparison or search, and the processes that run in it one at a time."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msrn.errors import ConfigError

__all__ = ["claimed", "end_with_parent", "error_in_log", "run_process"]

DIES_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux: the signal that a process gets when its parent ends."""


@contextmanager
def claimed(folder: Path, marker: str) -> Iterator[int]:
    """Hold a folder that is new, empty, or of an earlier call; ``marker`` is the subfolder that tells. Gives its lock.

    Raises:
        ConfigError: the folder holds something else, or another process holds it.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).is_dir():
        hint = "choose a new folder; nothing in this one was changed"
        raise ConfigError(
            f"expected a new or empty folder, or one with {marker}/ of an earlier call", str(folder), hint
        )
    (folder / marker).mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / marker / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError("another process works in this folder", str(folder), "wait for it, or stop it") from None
        yield lock
    finally:
        os.close(lock)


def run_process(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    lock: int,
    stop: threading.Event,
    dispensable: Callable[[], bool] = lambda: False,
) -> int:
    """Run ``python -m module`` until it ends; its output is appended to ``log``. Returns the exit code.

    It is asked to stop (SIGTERM, once) when ``stop`` is set or when ``dispensable``, looked at twice a second, is true.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
            pass_fds=(lock,),  # a child that outlives this process keeps the folder locked
        )
        asked = False
        while child.poll() is None:
            if not asked and (stop.is_set() or dispensable()):
                child.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(0.5)
    return child.returncode


def end_with_parent() -> None:
    """Ask the system to send this process SIGTERM when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGTERM)


def error_in_log(log: Path, code: int) -> str:
    """The last of our errors that a process wrote, in one line; its exit code where it wrote none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else f"exit code {code}"
