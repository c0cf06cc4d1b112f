"""Trainings that are killed at random instants and resumed leave what uninterrupted ones leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("MSRN_KILLS", "5"))
"""``make faults`` asks for more."""


@pytest.mark.timeout(600 + 40 * KILLS)
def test_killed_and_resumed_is_uninterrupted_bit_for_bit_without_stray_files(tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "helpers" / "kill_runs.py"
    which = "all" if "MSRN_KILLS" in os.environ else "each"
    command = [sys.executable, str(program), str(tmp_path), str(KILLS), "7", which]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580 + 40 * KILLS)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    changes = ["open last.pt", "rename last.pt", "open settings.yaml", "open log.jsonl", "open metrics-val.json"]
    bundle = ["mkdir bundle.partial", "rename model.safetensors", "open bundle.json", "rename bundle.partial"]
    for point in (*changes, *bundle, "half a checkpoint", "half a bundle"):
        assert f"killed at {point}: hit" in done.stdout
    assert "DIFFERS" not in done.stdout
    points = done.stdout.count(": hit") if which == "all" else 1
    assert done.stdout.count(": same") >= KILLS + points
