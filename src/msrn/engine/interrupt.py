"""Requests to stop a run: signals are noted, and acted on between two steps."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Interrupted", "stop_requests"]

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C, an orderly end, a terminal that goes away, and what schedulers send before they take the machine back."""


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """The run was asked to stop; its state is saved. Holds the run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(str(folder))


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """``SIGNALS`` set the event instead of ending the process; a second SIGINT ends it.

    A SIGHUP that is ignored, as under ``nohup``, stays ignored.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        logger.warning("%s: stopping after this step; the state will be saved", signal.Signals(number).name)

    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    before = {number: signal.signal(number, request) for number in SIGNALS if number not in ignored}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
