"""The watch over fuzzed readers sees what it is there for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import warnings
warnings.simplefilter("always")
import drive
from kinds import Kind

def read(folder):
    {reading}

kind = Kind("bad", lambda rng, number: {{"a.png": b"x" * (9 - number)}}, read)
figures, findings = drive.drive([(kind, 3)], seed=1, scratch=Path({scratch!r}), workers=1)
print([(f.fault, f.number, f.times) for f in findings], figures["bad"].cases)
"""


@pytest.mark.parametrize(
    ("reading", "seen"),
    [
        ("open(folder.parent / 'secret.png').close()", "outside its folder"),
        ("open('/etc/passwd').close()", "opened /etc/passwd outside its folder"),
        ("(folder / 'a.png').write_bytes(b'')", "to write"),
        ("raise KeyError('a')", "KeyError at <string>:"),
        ("import os; os.kill(os.getpid(), 11)", "the process ended with -11"),
        ("bytearray(3 * 2**30)", "MemoryError"),
        ("print('noise', file=sys.stderr)", "noise: noise"),
        ("warnings.warn('odd', stacklevel=1)", "warning UserWarning: odd"),
        ("import os; os.system('true')", "os.system"),
        ("import signal; signal.raise_signal(signal.SIGPROF)", "s of processor time"),
    ],
)
def test_a_fault_is_seen_and_the_smallest_case_named(tmp_path: Path, reading: str, seen: str) -> None:
    scratch = tmp_path / "scratch"
    program = PROGRAM.format(folder=str(Path(__file__).parent), reading=reading, scratch=str(scratch))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert seen in done.stdout, done.stdout + done.stderr
    assert ", 2, 3)] 3" in done.stdout, done.stdout  # the last case is the smallest; all three ran
