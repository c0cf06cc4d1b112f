"""Several processes: one that fails ends all with its message, one that is slow does not; results come once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msrn.cli import main

PROGRAM = Path(__file__).parents[1] / "helpers" / "faulty_process.py"
LONG = pytest.mark.skipif("MSRN_KILLS" not in os.environ, reason="make faults runs it: starting processes takes long")


def command(scenes: Path, folder: Path, *flags: str) -> list[str]:
    data = ["--data.reader=table", f"--data.root={scenes}", "--data.val=val", "--data.batch_size=12"]
    held = ["--model.freeze_norm=true", "--optim.epochs=2"]
    return ["train", "--preset=tiny", *data, *held, "--run.device=cpu", f"--run.folder={folder}", *flags]


def run(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, *launcher, *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=280, env=environment)


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def survivors(folder: Path) -> list[str]:
    """Processes that were started with this run folder and are still there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except OSError:
            continue
        found += [line.decode()] if str(folder).encode() in line else []
    return found


def test_a_slow_process_is_waited_for_and_a_killed_one_ends_all_with_a_message(scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run(str(PROGRAM), "slow, kill", "1", "5", *command(scenes, folder, "--run.devices=2"))
    assert done.returncode == 2, done.stderr
    assert "process 2 of 2 was killed by SIGKILL" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert [event["event"] for event in events(folder)] == ["start", "epoch", "evaluate"]  # four steps an epoch
    assert not survivors(folder)
    assert (folder / "last.pt").exists()


@LONG
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_process_that_raises_ends_all_with_its_message_said_once(scenes: Path, tmp_path: Path, rank: int) -> None:
    folder = tmp_path / "run"
    done = run(str(PROGRAM), "raise", str(rank), "2", *command(scenes, folder, "--run.devices=3"))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: an image is broken\n  at: a.jpg\n  hint: mend it") == 1
    assert "Traceback" not in done.stderr
    assert not survivors(folder)


@LONG
@pytest.mark.parametrize("fault", ["raise", "kill"])
def test_under_torchrun_too_the_others_end(scenes: Path, tmp_path: Path, fault: str) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    done = run(str(PROGRAM), fault, "1", "2", *command(scenes, tmp_path / "run"), launcher=launcher)
    assert done.returncode != 0
    assert ("an image is broken" if fault == "raise" else "another process of this run has ended") in done.stderr
    assert not survivors(tmp_path / "run")


@LONG
def test_three_processes_give_the_figures_of_one_and_print_them_once(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(scenes, tmp_path / "one")) == 0
    assert main(["evaluate", str(tmp_path / "one"), "--split=val", f"--out={tmp_path / 'by-1.json'}"]) == 0
    done = run("-m", "msrn", *command(scenes, tmp_path / "three", "--run.devices=3"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder") == 1
    assert done.stderr.count("epoch 2/2: val mAP") == 1
    losses = [
        [line["loss"] for line in events(tmp_path / name) if line["event"] == "epoch"] for name in ("one", "three")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)  # float32 sums in another order
    for devices in (2, 3):
        out = tmp_path / f"by-{devices}.json"
        flags = ["--split=val", "--run.device=cpu", f"--run.devices={devices}", f"--out={out}"]
        done = run("-m", "msrn", "evaluate", str(tmp_path / "one"), *flags)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("all figures") == 1
        assert json.loads(out.read_text()) == json.loads((tmp_path / "by-1.json").read_text())
