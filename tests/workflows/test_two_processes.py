"""Do two processes give what one gives?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMON = [
    "--preset",
    "tiny",
    "--data.format",
    "scenes",
    "--data.val",
    "val",
    "--optim.epochs",
    "1",
    "--run.device",
    "cpu",
]


def msrn(arguments: list[str], *, processes: int) -> None:
    """The command line, in one process or under torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "msrn", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def run_train(folder: Path, scenes: Path, *, processes: int) -> dict[str, Any]:
    """One epoch; the log's lines by event, and the metrics."""
    msrn(["train", *COMMON, "--data.root", str(scenes), "--run.folder", str(folder)], processes=processes)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "epoch", "judge", "end"]
    metrics = json.loads((folder / "metrics-val.json").read_text())
    return {line["event"]: line for line in lines} | {"metrics": metrics, "folder": folder}


@pytest.fixture(scope="module")
def runs(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    return run_train(folder / "one", scenes, processes=1), run_train(folder / "two", scenes, processes=2)


def test_losses_at_the_same_global_batch_agree(runs: tuple[dict[str, Any], dict[str, Any]]) -> None:
    one, two = runs
    # Batch norm in training takes its statistics over both processes; what is left is the order of float32 sums.
    assert two["epoch"]["loss"] == pytest.approx(one["epoch"]["loss"], rel=1e-4)


def test_every_picture_is_judged_once(runs: tuple[dict[str, Any], dict[str, Any]]) -> None:
    one, two = runs
    assert one["metrics"]["images"] == two["metrics"]["images"] == 13  # odd: the shards differ in length
    assert two["metrics"]["mAP"] == pytest.approx(one["metrics"]["mAP"], abs=0.02)


def test_two_processes_judge_a_bundle_exactly_as_one_does(runs: tuple[dict[str, Any], dict[str, Any]]) -> None:
    folder = runs[0]["folder"]
    msrn(["evaluate", str(folder), "--split", "val", "--out", str(folder / "two.json")], processes=2)
    assert json.loads((folder / "two.json").read_text()) == runs[0]["metrics"]
