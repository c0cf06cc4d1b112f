"""Share cases among child processes, and collect what is wrong: crashes, hangs, other errors, reads outside, noise."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinds import Kind
from watch import SECONDS, case_files, run_cases, write_files

__all__ = ["Figures", "Finding", "drive"]

CHUNK = 400
"""Cases that one child runs at most."""

STILL = 60
"""Seconds without a sign of life after which a child is ended: it waits for something."""


@dataclass(slots=True)
class Finding:
    """One fault, with the smallest case that shows it."""

    kind: str
    fault: str
    number: int
    size: int
    times: int = 1
    folder: str = ""


@dataclass(slots=True)
class Figures:
    """What one kind did: cases, those refused, seconds of all, of the slowest, its number; largest growth of memory."""

    cases: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    at: int = 0
    mib: float = 0.0


@dataclass(slots=True)
class _Child:
    kind: Kind
    rest: range
    pid: int
    pipe: int
    number: int = -1
    alive: float = field(default_factory=time.monotonic)
    unread: bytes = b""


def drive(
    shares: Sequence[tuple[Kind, int]], *, seed: int, scratch: Path, workers: int
) -> tuple[dict[str, Figures], list[Finding]]:
    """Run the cases 0 to n - 1 of every kind.

    Args:
        shares: kinds with their numbers of cases.
        seed: of all cases.
        scratch: an empty folder for the files of running cases.
        workers: processes.
    """
    waiting = [
        (kind, range(start, min(start + CHUNK, count))) for kind, count in shares for start in range(0, count, CHUNK)
    ]
    figures = {kind.name: Figures() for kind, _ in shares}
    findings: dict[tuple[str, str], Finding] = {}
    kinds = {kind.name: kind for kind, _ in shares}
    for kind in kinds.values():
        case_files(kind, seed, 0)  # valid files are made once, before processes fork
    running: dict[int, _Child] = {}
    selector = selectors.DefaultSelector()

    def note(kind: str, number: int, fault: str) -> None:
        size = sum(map(len, case_files(kinds[kind], seed, number).values()))
        key = kind, re.sub(r"[0-9]+|'[^']*'|\"[^\"]*\"|/\S+", "", fault)[:120]
        known = findings.get(key)
        times = known.times + 1 if known else 1
        if known is None or size < known.size:
            findings[key] = Finding(kind, fault, number, size)
        findings[key].times = times

    def start(kind: Kind, numbers: range) -> None:
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            try:
                run_cases(kind, seed, numbers, scratch / kind.name, theirs)
            finally:
                os._exit(70)
        os.close(theirs)
        running[ours] = _Child(kind, numbers, pid, ours)
        selector.register(ours, selectors.EVENT_READ)

    def lines(child: _Child, more: bytes) -> None:
        *whole, child.unread = (child.unread + more).split(b"\n")
        for line in whole:
            child.alive = time.monotonic()
            if not line.startswith(b"{"):
                child.number = int(line)
                continue
            told = json.loads(line)
            mine = figures[child.kind.name]
            mine.cases += 1
            mine.refused += told["refused"]
            mine.seconds += told["seconds"]
            if told["seconds"] > mine.slowest:
                mine.slowest, mine.at = told["seconds"], child.number
            mine.mib = max(mine.mib, told["kib"] / 1024)
            for fault in told["faults"]:
                note(child.kind.name, child.number, fault)

    def end(child: _Child, why: str = "") -> None:
        selector.unregister(child.pipe)
        os.close(child.pipe)
        del running[child.pipe]
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        if code == 0 and not why:
            return
        figures[child.kind.name].cases += 1
        if code == -signal.SIGPROF:
            why = f"took more than {SECONDS} s of processor time"
        note(child.kind.name, child.number, why or f"the process ended with {code}")
        if rest := child.rest[child.rest.index(child.number) + 1 :]:
            waiting.append((child.kind, rest))

    while waiting or running:
        while waiting and len(running) < workers:
            start(*waiting.pop(0))
        for key, _ in selector.select(timeout=5):
            child = running[key.fd]
            if more := os.read(key.fd, 2**16):
                lines(child, more)
            else:
                end(child)
        for child in [each for each in running.values() if time.monotonic() - each.alive > STILL]:
            os.kill(child.pid, signal.SIGKILL)
            end(child, f"no sign of life for {STILL} s")
    return figures, list(findings.values())


def save(finding: Finding, kind: Kind, seed: int, folder: Path) -> None:
    """Write the files of a finding's smallest case to a folder of its own."""
    place = folder / f"{finding.kind}-{finding.number}"
    write_files(place, case_files(kind, seed, finding.number))
    finding.folder = str(place)
