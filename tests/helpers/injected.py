"""Faults of the disk, injected into this process at its n-th change of a folder; and children to inject them into.

A change is an operation that Python announces to audit hooks before the system sees it: opening a file to write,
renaming, removing, making a folder. ``full`` is real from there on, for every library: the system refuses every byte.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
MOVES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
TEMPORARY = re.compile(r"^\.(.{1,40})\.\d+-[0-9a-f]{8}(\.\w+)?$")

Act = Callable[[str, str], None]
"""Called with a change, such as ``open last.pt``, and the whole path."""


def on_change(folder: Path, act: Act) -> None:
    """Call ``act("open last.pt")`` and so on before every change below a folder; this cannot be undone."""
    inside = os.path.realpath(folder) + os.sep
    own = os.getpid()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in MOVES and not (event == "open" and args[2] & WRITES):
            return
        if isinstance(args[0], int) or os.getpid() != own:
            return
        path = os.path.abspath(os.fsdecode(args[0]))
        if path.startswith(inside):
            act(f"{event.removeprefix('os.')} {plain_name(os.path.basename(path))}", path)

    sys.addaudithook(hook)


def plain_name(name: str) -> str:
    """The name of the file that a temporary file stands for."""
    found = TEMPORARY.match(name)
    while found:
        name = f"{found[1]}{found[2] or ''}"
        found = TEMPORARY.match(name)
    return re.sub(r"^\.(\w+)\.\w+\.part$", r"scratch of \1", name)


def at(number: int, fault: Callable[[str], None]) -> Act:
    """An act that does nothing until the n-th change, from 0, and then is the fault."""
    seen = -1

    def act(_change: str, path: str) -> None:
        nonlocal seen
        seen += 1
        if seen >= number:
            fault(path)

    return act


def kill(_path: str) -> None:
    """The process ends before the change."""
    os.kill(os.getpid(), signal.SIGKILL)


def full(_path: str) -> None:
    """From now on no file takes a byte (EFBIG), as on a full disk; folders, names and empty files can be made."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def torn(size: int = 5000) -> Callable[[str], None]:
    """The process ends as it writes the byte after ``size`` of a file."""

    def fault(_path: str) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return fault


def read_only(path: str) -> None:
    """Every change fails, as on a file system that the system has made read-only after an error."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


def warm() -> None:
    """Load what every child would load for itself, which takes longer than a small training."""
    import torch

    from msrn.ops.semantic_attention import semantic_attention

    torch.set_num_threads(1)
    semantic_attention(torch.zeros(1, 4, 8), torch.zeros(2, 8, requires_grad=True))


def child(work: Callable[[], int], *, inside: Path, out: Path | None = None) -> tuple[int, str]:
    """Run ``work`` in a forked process in a folder; its exit code (negative: the signal), and what it wrote to stderr.

    Args:
        work: returns the exit code.
        inside: the folder where the process stands.
        out: file that takes its stdout.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        code = 99
        try:
            os.chdir(inside)
            os.dup2(writing, 2)
            taken = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if out else os.open(os.devnull, os.O_WRONLY)
            os.dup2(taken, 1)
            sys.dont_write_bytecode = True  # a compiled module that is cut short would break the installation
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        printed = pipe.read().decode(errors="replace")
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), printed
