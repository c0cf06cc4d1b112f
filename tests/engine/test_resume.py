"""Does a run that was stopped and resumed give what it would have given?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from msrn.config import load_settings, merge, preset
from msrn.engine import train as engine
from msrn.engine.checkpoint import load_state
from msrn.errors import ConfigError, TrainingError

CLOCKS = {"time", "train_seconds", "wait_seconds", "images_per_second", "seconds", "minutes", "peak_memory_bytes"}


def tiny(scenes: Path, folder: Path, **over: dict[str, Any]):
    data = {"format": "scenes", "root": str(scenes), "val": "val", "augment": "light"}
    tree = merge(preset("tiny"), {"data": data, "run": {"folder": str(folder)}, "optim": {"ema": 0.9, "accumulate": 2}})
    return load_settings(merge(tree, over))


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the run to stop once it has done this many steps."""
    asked = engine._Run._asked_to_stop

    def ask(run: Any, stop: Any) -> bool:
        if run.progress.step == steps:
            stop.set()
        return asked(run, stop)

    monkeypatch.setattr(engine._Run, "_asked_to_stop", ask)


def told(folder: Path) -> list[dict[str, Any]]:
    """The log without clocks, and without the interruption."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines if line["event"] != "interrupted"]


@pytest.mark.parametrize("steps", [2, 6, 8])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole, parts = tiny(scenes, tmp_path / "whole"), tiny(scenes, tmp_path / "parts")
    engine.train(whole)
    with monkeypatch.context() as patch:
        stop_after(steps, patch)
        with pytest.raises(engine.Interrupted):
            engine.train(parts)
    torch.manual_seed(1234)  # whatever other randomness there was in between
    engine.train(parts, resume=True)

    expected, got = (load_state(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    for part in ("model", "average"):
        assert expected[part].keys() == got[part].keys()
        assert all(torch.equal(value, got[part][name]) for name, value in expected[part].items())
    assert told(tmp_path / "whole") == told(tmp_path / "parts")
    files = ("bundle/model.safetensors", "metrics-val.json")
    assert all((tmp_path / "whole" / f).read_bytes() == (tmp_path / "parts" / f).read_bytes() for f in files)


def test_settings_that_shape_the_result_may_not_change_on_resume(scenes: Path, tmp_path: Path) -> None:
    engine.train(tiny(scenes, tmp_path / "run", optim={"epochs": 1}))
    with pytest.raises(ConfigError) as caught:
        engine.train(tiny(scenes, tmp_path / "run", optim={"epochs": 1, "lr": 0.5}, data={"workers": 1}), resume=True)
    assert "optim.lr was 0.003 in this run and is now 0.5" in str(caught.value)
    assert "workers" not in str(caught.value)


def test_a_folder_that_holds_a_run_is_not_written_over(scenes: Path, tmp_path: Path) -> None:
    engine.train(tiny(scenes, tmp_path / "run", optim={"epochs": 1}))
    before = (tmp_path / "run" / "last.pt").read_bytes()
    with pytest.raises(ConfigError, match="already holds a run"):
        engine.train(tiny(scenes, tmp_path / "run", optim={"epochs": 1}))
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_with_step_and_pictures(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        engine.train(tiny(scenes, tmp_path / "run", optim={"lr": 1e30, "ema": 0.0, "accumulate": 1}))
    assert "at step 1" in str(caught.value)
    assert str(caught.value).count("images/train/") == 8


def test_a_broken_data_set_leaves_no_run_folder(scenes: Path, tmp_path: Path) -> None:
    table = tmp_path / "broken.csv"
    table.write_text("image,labels\nnowhere.jpg,sun\n")
    with pytest.raises(Exception, match="nowhere"):
        engine.train(tiny(scenes, tmp_path / "run", data={"format": "table", "root": "", "train": str(table)}))
    assert not (tmp_path / "run").exists()


def test_without_a_validation_split_the_last_epoch_is_kept(scenes: Path, tmp_path: Path) -> None:
    result = engine.train(tiny(scenes, tmp_path / "run", data={"val": "none"}))
    assert result["val_mAP"] is None
    assert json.loads((tmp_path / "run" / "bundle" / "bundle.json").read_text())["epoch"] == 2
