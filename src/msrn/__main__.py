"""What happens when ``msrn`` is started as a program? The command line, in a process that starts and ends quickly."""

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
    try:
        code = main()
    except SystemExit as end:  # --help and --version
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    # Python would now take torch apart, module by module, for another second; the system frees memory at once.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def collect_garbage_seldom() -> None:
    """Look for garbage first after a million objects, then after every hundred thousand.

    The million are those of imports, and none of them is garbage; looking for some after every 700, as Python does,
    takes more than a second of a cold start.
    """
    gc.set_threshold(1_000_000, 50, 50)
    gc.callbacks.append(lambda _phase, _facts: gc.set_threshold(100_000, 50, 50))


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for the next tensor; other libraries of C are left alone.

    By default each large tensor is mapped anew and given back, and the system zeroes its pages every time: between a
    seventh and a third of a training step on a CPU, for a process that ends no smaller than it was at its largest.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)  # never


if __name__ == "__main__":
    run()
