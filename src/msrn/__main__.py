"""What happens when ``msrn`` is started as a program? The command line, in a process that starts and ends quickly."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from typing import NoReturn

from msrn.cli import main


def run() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    # Imports make a million objects and no garbage; looking for some every 700 objects takes a second of a cold start.
    gc.set_threshold(100_000, 50, 50)
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


if __name__ == "__main__":
    run()
