"""Checkpoints and logs that are damaged, or that others wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from msrn.config import Settings
from msrn.engine.run_folder import read_state
from msrn.engine.run_log import RunLog
from msrn.engine.trainer import train
from msrn.errors import BundleError


@pytest.fixture
def begun(tiny_run: Path, tmp_path: Path) -> Path:
    """A run folder with a checkpoint alone."""
    (tmp_path / "last.pt").write_bytes((tiny_run / "last.pt").read_bytes())
    return tmp_path


def endless() -> dict[str, Any]:
    tree: dict[str, Any] = {}
    tree["settings"] = tree
    return tree


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": 5},
        {"settings": endless()},
        {"data": {"labels": 5}},
        {"model": [1]},
        {"optimizer": None},
    ],
)
def test_a_checkpoint_with_parts_of_other_kinds_is_damaged(begun: Path, changes: dict[str, Any]) -> None:
    torch.save({**read_state(begun), **changes}, begun / "last.pt")
    with pytest.raises(BundleError, match="the checkpoint is damaged"):
        read_state(begun)


@pytest.mark.parametrize(
    "changes",
    [{"progress": {"step": "many"}}, {"model": {}}, {"optimizer": {"state": {}, "param_groups": []}}],
)
def test_a_checkpoint_that_does_not_fit_its_run_is_damaged(
    begun: Path, tiny: Callable[..., Settings], changes: dict[str, Any]
) -> None:
    torch.save({**read_state(begun), **changes}, begun / "last.pt")
    with pytest.raises(BundleError, match="the checkpoint is damaged"):
        train(tiny(begun), resume=True)


def test_lines_of_a_log_that_are_no_events_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    good = {"event": "epoch", "step": 1, "epoch": 1}
    odd = ['{"step": 1}', "[" * 50_000, "5", '"abc"', '{"event": "epoch", "step": "x"}', ""]
    path.write_text("\n".join([*odd, json.dumps(good)]) + "\n")
    RunLog(path, keep_until=(3, 1))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [good]
