"""Losses, gradients and scores that are not finite: a scaler skips what it can, all else stops the run with a name."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from runs import STEPS, lines

from msrn.config import Settings
from msrn.engine import learner as learning
from msrn.engine import trainer as training
from msrn.engine.trainer import Interrupted, Trainer, train
from msrn.errors import ConfigError, TrainingError

Tiny = Callable[..., Settings]


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float16 with a loss scaler on the CPU; its first scales are so large that gradients overflow."""

    def fabric(_settings: Settings) -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
        return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))

    monkeypatch.setattr(training, "make_fabric", fabric)


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.usefixtures("scaled")
def test_a_step_that_overflows_is_skipped_by_the_scaler_and_clipping_does_not_get_in_its_way(
    tiny: Tiny, tmp_path: Path, clip: float
) -> None:
    settings = tiny(tmp_path / "run", optim={"clip_norm": clip, "name": "sgd", "lr": 0.01})
    run = Trainer(settings, resume=False)
    scaler = run.fabric.strategy.precision.scaler
    weights = run.learner.net.head.output_layer.weight
    changed, scales = [], []
    for _ in range(12):
        before, scale = weights.detach().clone(), scaler.get_scale()
        run.learner.step(0, [next(iter(run.batches.loader(0, 0)))], steps_per_epoch=STEPS)
        changed.append(not torch.equal(weights, before))
        scales.append(scaler.get_scale() / scale)
    losses, _ = run.learner.check(threading.Event())
    assert scales[0] == 0.5, "the first step was to overflow"
    assert changed == [scale == 1 for scale in scales]
    assert changed[-1]
    assert all(map(math.isfinite, losses))


@pytest.mark.usefixtures("scaled")
def test_a_run_that_overflowed_is_resumed_with_its_scale(
    tiny: Tiny, here: Path, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    settings = tiny("run", optim={"clip_norm": 1.0, "name": "sgd", "lr": 0.01})
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(settings)
    at_step(0, lambda: None)
    saved = torch.load(here / "last.pt")["precision"]["scale"]
    assert saved < 2.0**24
    resumed = Trainer(settings, resume=True)
    assert resumed.fabric.strategy.precision.scaler.get_scale() == saved
    train(settings, resume=True)
    assert [line["epoch"] for line in lines(here, "epoch")] == [1, 2]


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_an_infinite_gradient_without_a_scaler_stops_the_run_at_its_step(
    tiny: Tiny, here: Path, monkeypatch: pytest.MonkeyPatch, clip: float
) -> None:
    run = Trainer(tiny("run", data={"val": "none"}, optim={"clip_norm": clip, "epochs": 1}), resume=False)
    original, calls = run.fabric.backward, iter(range(1, 1000))

    def overflowing(loss: Any) -> None:
        original(loss)
        if next(calls) == STEPS:  # the last: no later loss would show it, and nothing is evaluated
            run.learner.net.head.output_layer.weight.grad[0, 0] = math.inf

    monkeypatch.setattr(run.fabric, "backward", overflowing)
    with pytest.raises(TrainingError, match=rf"the gradient's norm is inf at step {STEPS - 1}; images"):
        run.train_epoch(0, threading.Event())
    assert not (here / "bundle").exists()


def test_weights_that_give_no_numbers_are_not_kept_where_nothing_is_validated(tiny: Tiny, here: Path) -> None:
    run = Trainer(tiny("run", data={"val": "none"}, optim={"epochs": 1}), resume=False)
    with torch.no_grad():
        run.learner.net.head.output_layer.weight.fill_(math.nan)
    with pytest.raises(TrainingError, match="scores are not finite"):
        run.evaluate_epoch(0, threading.Event())
    assert not (here / "bundle").exists()


def test_one_image_in_a_step_of_batch_norms_is_refused_with_what_to_change(tiny: Tiny, here: Path) -> None:
    settings = tiny("run", data={"batch_size": 1, "image_size": 32})
    with pytest.raises(ConfigError, match=r"batch norm needs more than one value(?s:.*)--model\.freeze_norm true"):
        train(settings)
    assert not here.exists()


def test_too_little_memory_for_a_step_names_what_lowers_it(
    tiny: Tiny, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(learning.Learner, "rehearse", full)
    with pytest.raises(ConfigError, match=r"too little memory for a step: CUDA out(?s:.*)--optim\.accumulate"):
        train(tiny("run"))
