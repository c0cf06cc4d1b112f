"""Run cases in a child process under watch: what it opens, how much memory and time it takes, what it prints."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import sys
import sysconfig
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

from kinds import Kind

from msrn.errors import MsrnError

__all__ = ["SECONDS", "Watch", "case_files", "run_cases"]

SECONDS = 10
"""Processor time that a case may take; the system ends the process after it, whatever it is doing."""

MEMORY = 2 * 2**30
"""Address space that a case may take beyond that of the process at its start: 2 GiB."""

_PLACES = (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, Path(__file__).parents[2])
PROGRAM = (
    *(str(Path(path).resolve()) for path in _PLACES),
    *("/proc/self", "/proc/cpuinfo", "/sys/devices/system", "/dev/null"),
)
"""The program's own files: modules that are imported late, and their data."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
ACTIONS = (
    *(
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "os.remove",
        "os.rename",
        "os.link",
        "os.symlink",
        "socket.",
    ),
    *("subprocess.", "shutil.", "ctypes.dlopen", "pickle.find_class"),
)
"""What a reader of files has no reason to do, as the events of Python's audit hooks."""


def case_files(kind: Kind, seed: int, number: int) -> dict[str, bytes]:
    """The files of a case."""
    rng = Random(f"{kind.name} {seed} {number}")
    return kind.case(rng, number)


class Watch:
    """What the process does beyond its own folder; events are collected in ``seen`` while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.folder = ""
        self.seen: list[str] = []
        sys.addaudithook(self._event)
        warnings.showwarning = self._warning
        self.errors = os.open(os.environ.get("TMPDIR", "/tmp"), os.O_TMPFILE | os.O_RDWR)
        for stream in (1, 2):
            os.dup2(self.errors, stream)
        logging.basicConfig(level=logging.WARNING, format="%(name)s %(levelname)s %(message)s", force=True)
        logging.getLogger("msrn").setLevel(logging.CRITICAL)

    def start(self, folder: Path) -> None:
        self.folder, self.seen = str(folder.resolve()), []
        os.ftruncate(self.errors, 0)
        os.lseek(self.errors, 0, os.SEEK_SET)
        self.on = True

    def stop(self) -> list[str]:
        self.on = False
        sys.stderr.flush()
        sys.stdout.flush()
        if size := os.fstat(self.errors).st_size:
            self.seen.append(f"noise: {os.pread(self.errors, min(size, 500), 0).decode(errors='replace')}")
        return self.seen

    def _event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, int):
                self._opened(os.path.realpath(os.fsdecode(path)), mode, flags)
        elif event.startswith(ACTIONS) and not str(arguments[:1]).startswith(f"('{self.folder}/out"):
            self.seen.append(f"{event} {arguments!r:.200}")

    def _opened(self, path: str, mode: str | None, flags: int) -> None:
        if not f"{path}/".startswith(f"{self.folder}/") and not path.startswith(PROGRAM):
            self.seen.append(f"opened {path} outside its folder")
        elif flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not path.startswith(
            (f"{self.folder}/out", "/dev/null")
        ):
            self.seen.append(f"opened {path} to write ({mode})")

    def _warning(self, message: Any, category: type, *rest: Any) -> None:
        if self.on:
            self.seen.append(f"warning {category.__name__}: {message!s:.200}")


def run_cases(kind: Kind, seed: int, numbers: range, scratch: Path, report: int) -> None:
    """Run cases, and write a line for each to the file descriptor ``report`` before it starts, and for each fault.

    The process ends when all is done.
    """
    _limit()
    watch = Watch()
    for number in numbers:
        folder = scratch / str(number) / "in"
        os.write(report, b"%d\n" % number)
        files = case_files(kind, seed, number)
        write_files(folder, files)
        (scratch / str(number) / "secret.png").write_bytes(b"secret")
        (folder / "out").mkdir()
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")  # resets the largest resident size
        before = _peak()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        began = _seconds()
        watch.start(folder)
        fault = ""
        refused = False
        try:
            kind.read(folder)
        except MsrnError as error:
            fault, refused = _of_message(error), True
            if number == 0 and not kind.fixed:
                fault = f"the valid files are refused: {error}"
        except BaseException as error:
            fault = f"{type(error).__name__} at {_place(error)}: {error!s:.300}"
        seen = watch.stop()
        signal.setitimer(signal.ITIMER_PROF, 0)
        took, grown = _seconds() - began, _peak() - before
        faults = [*([fault] if fault else []), *seen]
        line = {"refused": refused, "seconds": took, "kib": grown, "faults": faults}
        os.write(report, json.dumps(line).encode() + b"\n")
        shutil.rmtree(scratch / str(number), ignore_errors=True)
    os._exit(0)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _of_message(error: MsrnError) -> str:
    """What is wrong with the text of one of our errors; empty if nothing."""
    text = str(error)
    if not error.message.strip():
        return f"{type(error).__name__} without a message"
    if len(text) > 200_000:
        return f"{type(error).__name__} with a message of {len(text):,} characters"
    if bad := {sign for sign in text if not (sign.isprintable() or sign == "\n")}:
        return f"{type(error).__name__} with unprintable signs {sorted(bad)[:5]} in its message"
    return ""


def _place(error: BaseException) -> str:
    """The innermost frames of a trace: the last one in msrn, and where it ended."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/msrn/" in frame.filename] or frames
    last = own[-1]
    return f"{Path(last.filename).name}:{last.lineno} {last.name}"


def _limit() -> None:
    with open("/proc/self/statm") as status:
        size = int(status.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
