"""Training: what is trained, what is held fixed, what is kept."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import STEPS, lines, plain

from msrn.bundle.read import read_bundle
from msrn.config import Settings
from msrn.engine import learner as learning
from msrn.engine import trainer as training
from msrn.engine.evaluate import evaluate
from msrn.engine.evaluation import Evaluation
from msrn.engine.setup import build_setup
from msrn.engine.trainer import Trainer, train
from msrn.errors import ConfigError, DataError, TrainingError

Tiny = Callable[..., Settings]


def test_a_run_leaves_settings_log_state_metrics_and_bundle(tiny_run: Path) -> None:
    found = {path.relative_to(tiny_run).as_posix() for path in tiny_run.rglob("*") if path.is_file()}
    assert found == {
        "settings.yaml", "log.jsonl", "last.pt", "metrics-val.json", "bundle/bundle.json", "bundle/model.safetensors",
        "bundle/label_inputs.safetensors", "bundle/split_images.safetensors",
    }  # fmt: skip
    log = lines(tiny_run)
    assert [line["event"] for line in log] == ["start", "epoch", "evaluate", "epoch", "evaluate", "end"]
    assert log[0] == {
        "event": "start", "step": 0, "train": 48, "labels": 16, "val": 13, "unknown": {"train": 0, "val": 0},
        "steps_per_epoch": STEPS,
    }  # fmt: skip
    assert [line["step"] for line in log] == [0, STEPS, STEPS, 2 * STEPS, 2 * STEPS, 2 * STEPS]
    first, second = lines(tiny_run, "epoch")
    assert second["loss"] < first["loss"] < 0.75
    raw = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    tracked = {"train_seconds", "wait_seconds", "images_per_second", "peak_memory_bytes"}
    assert all(tracked <= line.keys() for line in raw if line["event"] == "epoch")


def test_a_loss_that_is_not_finite_stops_with_step_files_and_checkpoint(tiny: Tiny, here: Path) -> None:
    settings = tiny("run", data={"val": "none"}, optim={"name": "sgd", "lr": 1e30})
    with pytest.raises(TrainingError) as caught:
        train(settings)
    message = str(caught.value)
    assert "at step 1" in message or "at step 2" in message
    named = [Path(line.strip()) for line in message.splitlines() if line.strip().endswith(".jpg")]
    assert len(set(named)) == 8
    assert all(path.is_file() for path in named)
    assert "last.pt" in message
    assert "optim.lr" in message
    assert (here / "last.pt").exists()


def test_scores_that_are_not_finite_stop_the_run_too(tiny: Tiny, here: Path) -> None:
    with pytest.raises(TrainingError, match="not finite for 13 of 13"):
        train(tiny("run", data={"batch_size": 48}, optim={"name": "sgd", "lr": 1e30, "epochs": 1}))


@pytest.mark.parametrize("parts", [2, -1])
def test_frozen_parts_of_the_backbone_come_out_as_they_went_in(tiny: Tiny, tmp_path: Path, parts: int) -> None:
    settings = tiny(tmp_path / "run", model={"freeze": parts}, optim={"epochs": 1})
    run = Trainer(settings, resume=False)
    groups = run.learner.net.backbone.parts()
    before = {key: value.clone() for key, value in run.learner.net.state_dict().items()}
    run.train_epoch(0, threading.Event())
    after = run.learner.net.state_dict()
    names = {id(parameter): name for name, parameter in run.learner.net.named_parameters()}
    for number, group in enumerate(groups):
        moved = [names[id(p)] for p in group if not torch.equal(before[names[id(p)]], after[names[id(p)]])]
        assert bool(moved) == (parts >= 0 and number >= parts), (number, moved)
    if parts < 0:
        assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone"))
    assert not torch.equal(before["head.output_layer.weight"], after["head.output_layer.weight"])


def test_held_norms_keep_their_statistics_while_their_weights_are_trained(tiny: Tiny, tmp_path: Path) -> None:
    run = Trainer(tiny(tmp_path / "run", model={"freeze_norm": True}), resume=False)
    before = {key: value.clone() for key, value in run.learner.net.backbone.state_dict().items()}
    run.train_epoch(0, threading.Event())
    for key, value in run.learner.net.backbone.state_dict().items():
        statistic = "running_" in key or "num_batches" in key
        assert torch.equal(before[key], value) == statistic, key


def test_the_ema_of_the_weights_is_what_is_evaluated_and_kept(tiny: Tiny, here: Path) -> None:
    train(tiny("run", optim={"ema": 0.5, "epochs": 1}))
    state = torch.load(here / "last.pt", weights_only=True)
    kept = read_bundle(here, precompute=False).model.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in state["ema"].items())
    assert not torch.equal(state["model"]["head.output_layer.weight"], kept["head.output_layer.weight"])


def test_the_learning_rate_follows_the_schedule_group_by_group(tiny: Tiny, tmp_path: Path) -> None:
    optim = {"schedule": "cosine", "backbone_lr_multiplier": 0.1, "lr": 0.01, "epochs": 2}
    run = Trainer(tiny(tmp_path / "run", optim=optim), resume=False)
    run.train_epoch(0, threading.Event())
    factor = 0.5 * (1 + np.cos(np.pi * (STEPS - 1) / (2 * STEPS)))
    rates = {round(group["lr"] / factor, 9) for group in run.learner.optimizer.param_groups}
    assert rates == {0.01, 0.001}


def test_clipping_bounds_the_step(tiny: Tiny, tmp_path: Path) -> None:
    moved = {}
    for clip in (0.0, 1e-6):
        optim = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "clip_norm": clip}
        run = Trainer(tiny(tmp_path / f"run{clip}", optim=optim), resume=False)
        before = [parameter.detach().clone() for parameter in run.learner.net.parameters()]
        run.learner.step(0, [next(iter(run.batches.loader(0, 0)))], steps_per_epoch=STEPS)
        change = [
            (now.detach() - then).flatten() for now, then in zip(run.learner.net.parameters(), before, strict=True)
        ]
        moved[clip] = float(torch.cat(change).norm())
    assert moved[0.0] > 1e-3
    assert moved[1e-6] == pytest.approx(1e-6, rel=0.1)  # rounding of weights near 1 to float32


def test_the_loss_is_told_the_epoch_and_the_counts_of_the_images_that_are_trained_on(
    tiny: Tiny, tmp_path: Path
) -> None:
    loss = {"name": "soft_margin", "weights": "ratio", "max_weight": 1000}
    run = Trainer(tiny(tmp_path / "run", loss=loss, data={"val": ""}), resume=False)
    codes = run.setup.train.targets("positive")
    positives, negatives = (codes == 1).sum(axis=0), (codes == 0).sum(axis=0)
    assert len(codes) < 48  # without the images that are held out
    np.testing.assert_allclose(run.learner.loss.positive_weight, negatives / np.maximum(positives, 1))  # type: ignore[arg-type]
    epochs = []
    for step in (0, 1, 5, 6):
        run.learner.step(step, [next(iter(run.batches.loader(0, 0)))], steps_per_epoch=3)
        epochs.append(run.learner.loss.epoch)
    assert epochs == [0, 0, 1, 2]


def test_accumulated_parts_give_the_gradient_of_the_whole_batch(tiny: Tiny, tmp_path: Path) -> None:
    heads = []
    for parts in (1, 4):
        optim = {"name": "sgd", "lr": 0.1, "accumulate": parts}
        folder = tmp_path / f"run{parts}"
        run = Trainer(tiny(folder, optim=optim, model={"freeze_norm": True}), resume=False)
        batches = iter(run.batches.loader(0, 0))
        run.learner.step(0, [next(batches) for _ in range(parts)], steps_per_epoch=STEPS)
        losses, _ = run.learner.check(threading.Event())
        heads.append((losses[0], run.learner.net.state_dict()))
    assert heads[0][0] == pytest.approx(heads[1][0], rel=1e-6)
    for key, value in heads[0][1].items():
        torch.testing.assert_close(value, heads[1][1][key], rtol=1e-4, atol=1e-6, msg=key)  # sums in another order


def test_the_baseline_trains_through_the_same_loop(tiny: Tiny, here: Path) -> None:
    trained = train(tiny("run", model={"head": "average_pool"}, optim={"epochs": 3}))
    losses = [line["loss"] for line in lines(here, "epoch")]
    assert losses[0] > losses[1] > losses[2]
    assert trained.val_map is not None
    assert 0 < trained.val_map <= 1
    assert type(read_bundle(here).model.head).__name__ == "AveragePool"


def test_without_a_validation_split_a_seeded_part_is_held_out(
    tiny: Tiny, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = tiny("run", data={"val": "", "val_fraction": 0.25})
    with caplog.at_level(logging.INFO):
        trained = train(settings)
    assert "12 of 48 training images are held out" in caplog.text
    assert {key: lines(here)[0][key] for key in ("train", "val")} == {"train": 36, "val": 12}
    evaluation, _ = evaluate(here, settings, split="val")
    assert evaluation.data.digest == json.loads((here / "metrics-val.json").read_text())["data"]["digest"]
    assert evaluation.metrics.mean_ap == trained.val_map
    assert read_bundle(here).metadata.splits["train"].images == 36
    other = build_setup(tiny("run", data={"val": ""}, run={"seed": 1}))
    same = build_setup(tiny("run", data={"val": ""}))
    assert other.val is not None
    assert same.val is not None
    assert other.val.digest != same.val.digest
    assert not {record.image for record in same.val.records} & {record.image for record in same.train.records}


def test_training_on_everything_keeps_the_last_epoch(tiny: Tiny, here: Path) -> None:
    trained = train(tiny("run", data={"val": "none"}))
    assert (trained.best_epoch, trained.val_map) == (2, None)
    bundle = read_bundle(here)
    assert set(bundle.thresholds) == {0.5}
    assert bundle.metadata.epoch == 2
    assert bundle.metadata.splits["train"].images == 48
    assert not lines(here, "evaluate")


def test_the_best_epoch_is_kept_not_the_last(tiny: Tiny, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, falls = training.evaluate_scores, iter([0.4, 0.6, 0.5])

    def falling(*arguments: Any, **options: Any) -> Evaluation:
        found = original(*arguments, **options)
        return replace(found, metrics=replace(found.metrics, mean_ap=next(falls)))

    monkeypatch.setattr(training, "evaluate_scores", falling)
    trained = train(tiny("run", optim={"epochs": 3}))
    assert (trained.best_epoch, trained.val_map) == (2, 0.6)
    assert json.loads((here / "metrics-val.json").read_text())["mAP"] == 0.6
    assert read_bundle(here).metadata.epoch == 2


def test_epochs_between_evaluations_are_not_evaluated_but_the_last_is(tiny: Tiny, here: Path) -> None:
    train(tiny("run", optim={"epochs": 3}, run={"evaluate_every": 2}))
    assert [line["epoch"] for line in lines(here, "evaluate")] == [2, 3]


def test_a_rehearsal_leaves_the_run_as_it_was(tiny: Tiny, tmp_path: Path) -> None:
    run = Trainer(tiny(tmp_path / "run"), resume=False)
    before = plain(run.learner.state_dict())
    run._rehearse()
    assert plain(run.learner.state_dict()) == before


def test_sizes_that_a_network_does_not_take_are_reported_with_those_it_does(tiny: Tiny, here: Path) -> None:
    settings = tiny("run", data={"image_size": 100}, model={"backbone": "hrnet_w18_small", "head": "max_pool"})
    with pytest.raises(ConfigError, match="hrnet_w18_small cannot be trained on images of 100 px") as caught:
        train(settings)
    assert "sizes that fit: " in caught.value.hint
    assert "96" in caught.value.hint
    assert not here.exists()


def test_half_precision_with_a_scaler_is_refused_on_a_cpu(tiny: Tiny, here: Path) -> None:
    with pytest.raises(ConfigError, match="16-mixed needs a CUDA device"):
        train(tiny("run", run={"precision": "16-mixed"}))


def test_a_split_smaller_than_a_batch_is_refused_before_anything_is_written(tiny: Tiny, here: Path) -> None:
    with pytest.raises(ConfigError, match=r"48 images, fewer than a batch of 64(?s:.*)--data.batch_size"):
        train(tiny("run", data={"batch_size": 64}))
    assert not here.exists()


def test_an_image_that_cannot_be_read_stops_the_run_and_is_named(tiny: Tiny, here: Path, scenes: Path) -> None:
    table = here.parent / "train.csv"
    (here.parent / "broken.jpg").write_bytes(b"no image")
    rows = (scenes / "train.csv").read_text().replace("images/", f"{scenes}/images/")
    table.write_text(rows + f"{here.parent}/broken.jpg,sun\n")
    data = {"reader": "table", "train": str(table), "val": "none", "root": "", "batch_size": 49}
    with pytest.raises(DataError, match=r"broken\.jpg"):
        train(tiny("run", data=data))


def test_an_image_that_cannot_be_evaluated_is_found_before_the_first_step(tiny: Tiny, here: Path, scenes: Path) -> None:
    (here.parent / "broken.jpg").write_bytes(b"no image")
    (here.parent / "train.csv").write_text((scenes / "train.csv").read_text().replace("images/", f"{scenes}/images/"))
    (here.parent / "val.csv").write_text(f"image,labels\nbroken.jpg,sun\n{scenes}/images/val/000000.jpg,-\n")
    data = {"reader": "table", "train": "train.csv", "val": "val.csv", "root": str(here.parent)}
    with pytest.raises(DataError, match=r"broken\.jpg"):
        train(tiny("run", data=data))
    assert not (here / "settings.yaml").exists()  # the same command works once the image is fixed


def test_a_loss_is_checked_every_few_steps_where_the_device_must_not_wait(tiny: Tiny, tmp_path: Path) -> None:
    run = Trainer(tiny(tmp_path / "run", optim={"name": "sgd", "lr": 1e30}), resume=False)
    batches = iter(run.batches.loader(0, 0))
    for step in range(4):
        run.learner.step(step, [next(batches)], steps_per_epoch=STEPS)
    with pytest.raises(learning.NonFinite) as caught:
        run.learner.check(threading.Event())
    assert 1 <= caught.value.step <= 2  # the step that failed, not the one it was found at
    assert len(caught.value.positions) == 8
