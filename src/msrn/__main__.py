"""The program ``msrn``: the command line, in a process that starts and ends quickly."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import sys
from typing import NoReturn

from msrn.cli import main

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names and numbers of malloc.h


def run() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    keep_freed_memory()
    collect_garbage_seldom()
    code = main()
    # Python's own teardown unloads torch module by module, which takes a second; the system frees memory at once.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def collect_garbage_seldom() -> None:
    """Collect garbage first after a million new objects, then after every hundred thousand.

    The first million are those of imports, none of them garbage; a collection after every 700, Python's default, takes
    more than a second of a cold start.
    """
    gc.set_threshold(1_000_000, 50, 50)
    gc.callbacks.append(lambda _phase, _info: gc.set_threshold(100_000, 50, 50))


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next tensor; other C libraries are not changed.

    By default each large tensor is mapped and unmapped, and the system zeroes its pages every time: between a seventh
    and a third of a training step on a CPU. In exchange, the process stays as large as it was at its largest.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)  # never


if __name__ == "__main__":
    run()
