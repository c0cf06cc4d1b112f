"""Damaged and hostile files of every kind end in our errors or right results, within bounds of time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CASES = int(os.environ.get("MSRN_FUZZ", "2000"))
"""``make fuzz`` asks for more."""
WORKERS = int(os.environ.get("MSRN_FUZZ_WORKERS", "1"))
SEED = 7


def test_damaged_and_hostile_files_end_in_our_errors_or_right_results(tmp_path: Path) -> None:
    program = Path(__file__).with_name("run.py")
    command = [sys.executable, str(program), str(CASES), str(SEED), str(tmp_path), "--workers", str(WORKERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 faults" in done.stdout
