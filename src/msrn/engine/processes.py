"""The processes of a run on one machine: started by the first, and ended with any one of them that fails.

No heartbeat and no timeout is involved: a process that is slow is waited for, one that has ended is noticed at once.
Under torchrun it is torchrun that starts and ends them.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch.distributed as dist

from msrn.errors import TrainingError

__all__ = ["end_with_first", "one_fate", "start_others"]

logger = logging.getLogger(__name__)

PARENT = "MSRN_FIRST_PROCESS"
"""Environment variable: the number of the process that started this one."""

LOOK_SECONDS, GRACE_SECONDS = 0.2, 10.0
"""Between two looks at the others; for this process to end by itself after one of them."""

PR_SET_PDEATHSIG = 1  # of linux/prctl.h

_lost = threading.Event()


def start_others(processes: int, *, port: int) -> None:
    """Start this program again for every other process of this machine; if one of them fails, all end.

    This process ends after the others, with a message that says which failed and how.

    Args:
        processes: all of them.
        port: where the first process listens.
    """
    here = os.environ
    here |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": "0"}
    here |= {"WORLD_SIZE": str(processes), PARENT: str(os.getpid())}
    program = [sys.executable, *sys.orig_argv[1:]]
    others = [subprocess.Popen(program, env={**here, "LOCAL_RANK": str(rank)}) for rank in range(1, processes)]
    threading.Thread(target=_watch, args=(others,), daemon=True, name="watch the other processes").start()


def end_with_first() -> None:
    """In a process that ``start_others`` started: the system ends it when the first process ends."""
    if os.environ.get(PARENT) in (None, str(os.getpid())):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[PARENT]):  # it ended before it could be watched
        os._exit(1)


@contextmanager
def one_fate() -> Iterator[None]:
    """Turn the error of a collective operation whose other end has gone into one that says so.

    Raises:
        TrainingError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not (dist.is_available() and dist.is_initialized() and _is_lost(error)):
            raise
        _lost.set()
        if os.environ.get(PARENT) == str(os.getpid()):
            time.sleep(GRACE_SECONDS)  # it is watched: the message comes from there, and the end
        first = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"another process of this run has ended ({first})", hint="its own message says why"
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    """Whether a connection between processes broke: gloo says so in words alone."""
    words = ("closed by peer", "reset by peer", "Broken pipe", "Socket closed", "remote process exited")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def _watch(others: Sequence[subprocess.Popen[bytes]]) -> None:
    while any(other.poll() is None for other in others) or any(other.returncode for other in others):
        for rank, other in enumerate(others, start=1):
            if code := other.poll():
                _lost.wait(GRACE_SECONDS)  # it may have the same to say, and end by itself
                how = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
                memory = "; often memory was short" if code == -signal.SIGKILL else ""
                logger.error("process %d of %d %s%s: the run cannot go on", rank + 1, len(others) + 1, how, memory)
                for each in others:
                    each.kill()
                os._exit(code if code > 0 else 2)
        time.sleep(LOOK_SECONDS)
