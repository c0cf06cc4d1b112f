"""Whole comparisons and searches on small scenes, in processes of their own, interrupted and continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from msrn.__main__ import main
from msrn.compare.cell import read_result, read_scores, read_target
from msrn.compare.grid import read_grid
from msrn.demo.scenes import write_scenes
from msrn.metrics.multilabel import mean_average_precision

pytest.importorskip("optuna", reason="needs the extra search")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    write_scenes(folder / "scenes", train=24, val=10, test=12, size=64)
    data = {
        "root": str(folder / "scenes"),
        "train": "train",
        "val": "val",
        "test": "test",
        "labels": str(folder / "scenes" / "labels.txt"),
    }
    base = {"preset": "tiny", "data": data, "optim.epochs": 2, "model.freeze": -1}
    cached = {**base, "data.feature_cache": str(folder / "features")}
    recipes = {"pool": {"model.head": "average_pool"}, "csra": {"model.head": "csra"}, "odd": {"model.backbone": "odd"}}
    grid = {"base": cached, "vary": {"recipe": recipes}}
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    search = {"base": cached, "vary": {"model.head": ["csra"]}, "trials": 2}
    search["space"] = {"optim.lr": {"low": 1e-3, "high": 1e-1, "log": True}, "model.head.residual": [0.1, 0.5]}
    (folder / "search.yaml").write_text(yaml.safe_dump(search))
    return folder


def test_a_grid_is_run_once_names_what_failed_and_reports_what_the_scores_say(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", str(place / "grid.yaml"), "--out", str(place / "out")]
    assert main(command) == 1  # one run failed
    said = capsys.readouterr()
    assert said.err.count("failed, ") == 1
    assert "'odd'" in said.err
    assert "| csra |" in said.out
    results = {}
    for cell in read_grid(place / "grid.yaml").cells:
        folder = place / "out" / "cells" / cell.folder_name
        if result := read_result(folder):
            results[cell.variant] = result
            expected = mean_average_precision(read_scores(folder), read_target(folder))[0]
            assert result.mean_ap == pytest.approx(expected, abs=1e-6)
            assert (result.split, result.images, result.head_parameters > 0) == ("test", 12, True)
    assert list(results) == ["pool", "csra"]
    comparison = json.loads((place / "out" / "comparison.json").read_text())
    assert len(comparison["failed"]) == 1
    before = {path: path.read_bytes() for path in (place / "out" / "cells").rglob("result.json")}
    assert main(command) == 1
    again = capsys.readouterr()
    assert again.err.count("known already") == 2
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_folder_of_the_users_own_is_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(place / "grid.yaml"), "--out", str(place / "scenes")]) == 2
    assert "nothing in this one was changed" in capsys.readouterr().err


def test_an_interrupted_search_continues_its_trial_and_writes_a_grid(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["search", str(place / "search.yaml"), "--out", str(place / "found")]
    child = subprocess.Popen(
        [sys.executable, "-m", "msrn", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list((place / "found").rglob("last.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    while not _free(place / "found") and time.monotonic() < deadline:  # the trial itself stops when it notices
        time.sleep(0.1)
    assert main(command) == 0
    said = capsys.readouterr()
    assert "csra [1/2]" in said.err
    assert "csra [2/2]" in said.err
    assert not list((place / "found").rglob("last.pt"))
    best = read_grid(place / "found" / "best.yaml")
    assert [cell.seed for cell in best.cells] == [0, 1, 2]
    assert best.cells[0].settings.model.head.name == "csra"
    assert main(command) == 0  # nothing is left to do
    assert "[1/2]" not in capsys.readouterr().err


def _free(folder: Path) -> bool:
    import fcntl

    with (folder / "trials" / ".lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
