"""Trainings that are killed at random instants and resumed leave what uninterrupted ones leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KILLS = int(os.environ.get("MSRN_KILLS", "5"))
"""``make faults`` asks for more."""


def test_killed_and_resumed_is_uninterrupted_bit_for_bit_without_stray_files(tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "helpers" / "kill_runs.py"
    command = [sys.executable, str(program), str(tmp_path), str(KILLS), "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 + 40 * KILLS)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": same") == KILLS
