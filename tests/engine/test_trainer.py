"""Training: a run is a function of its settings, however often it is interrupted."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msrn.bundle.files import load_state, read_bundle
from msrn.config import Settings
from msrn.engine import trainer as training
from msrn.engine.evaluate import evaluate_bundle
from msrn.engine.trainer import Interrupted, train
from msrn.errors import BundleError, ConfigError, DataError, TrainingError

Tiny = Callable[..., Settings]
STEPS = 6
"""Optimiser steps of an epoch: 48 pictures in batches of 8."""

TRICKY: dict[str, dict[str, Any]] = {
    "plain": {},
    "averaged and accumulated": {
        "data": {"augment": "modern"},
        "optim": {"accumulate": 2, "ema": 0.9, "schedule": "onecycle", "clip_norm": 1.0},
    },
    "sgd with worker processes": {
        "data": {"workers": 2, "augment": "published"},
        "optim": {"name": "sgd", "lr": 0.05, "schedule": "step", "step_epochs": [1]},
    },
}


def lines(folder: Path, *events: str) -> list[dict[str, Any]]:
    """Log lines, without what depends on the clock."""
    read = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    clock = ("time", "seconds", "train_seconds", "wait_seconds", "images_per_second", "peak_memory_bytes", "minutes")
    kept = [{key: value for key, value in line.items() if key not in clock} for line in read]
    return [line for line in kept if not events or line["event"] in events]


def result(folder: Path) -> dict[str, Any]:
    """All that a run leaves behind but for times: files as bytes, tensors as lists of bytes."""
    state = load_state(folder / "last.pt")
    state["progress"].pop("seconds")
    files = ["bundle/model.safetensors", "bundle/bundle.json", "metrics-val.json", "settings.yaml"]
    return {
        "state": plain(state),
        "log": lines(folder, "start", "epoch", "judge", "end"),
        **{name: (folder / name).read_bytes() for name in files if (folder / name).exists()},
    }


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes())
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module")
def whole(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What the runs of TRICKY leave behind when nothing interrupts them; each is trained once."""
    kept: dict[str, dict[str, Any]] = {}

    def get(name: str) -> dict[str, Any]:
        if name not in kept:
            place = tmp_path_factory.mktemp("whole")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(place)  # the folder's name is part of the settings, so all runs are called "run"
                train(tiny("run", **TRICKY[name]))
            kept[name] = result(place / "run")
        return kept[name]

    return get


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """``at_step(n, act)``: act after the n-th step of the next run."""
    original = training._Run._step

    def patch(number: int, act: Callable[[], None]) -> None:
        def step(self: Any, parts: Any) -> float:
            loss = original(self, parts)
            if self.progress.step == number:
                act()
            return loss

        monkeypatch.setattr(training._Run, "_step", step)

    return patch


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


class Crash(Exception):  # noqa: N818
    """Stands for the end of a process."""


def test_a_run_leaves_settings_log_state_metrics_and_bundle(tiny_run: Path) -> None:
    found = {path.relative_to(tiny_run).as_posix() for path in tiny_run.rglob("*") if path.is_file()}
    assert found == {
        "settings.yaml", "log.jsonl", "last.pt", "metrics-val.json", "bundle/bundle.json", "bundle/model.safetensors"
    }  # fmt: skip
    log = lines(tiny_run)
    assert [line["event"] for line in log] == ["start", "epoch", "judge", "epoch", "judge", "end"]
    assert log[0] == {
        "event": "start", "step": 0, "train": 48, "labels": 16, "val": 13, "unknown": {"train": 0, "val": 0}
    }  # fmt: skip
    assert [line["step"] for line in log] == [0, STEPS, STEPS, 2 * STEPS, 2 * STEPS, 2 * STEPS]
    first, second = lines(tiny_run, "epoch")
    assert second["loss"] < first["loss"] < 0.75
    raw = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    tracked = {"train_seconds", "wait_seconds", "images_per_second", "peak_memory_bytes"}
    assert all(tracked <= line.keys() for line in raw if line["event"] == "epoch")


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("plain", 2),
        ("plain", STEPS),
        ("plain", 2 * STEPS),
        ("averaged and accumulated", STEPS + 3),
        ("sgd with worker processes", STEPS + 3),
    ],
)
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(
    tiny: Tiny,
    here: Path,
    whole: Callable[[str], dict[str, Any]],
    at_step: Callable[[int, Callable[[], None]], None],
    name: str,
    step: int,
) -> None:
    settings = tiny("run", **TRICKY[name])
    sign = signal.SIGINT if step % 2 else signal.SIGTERM
    at_step(step, lambda: os.kill(os.getpid(), sign))
    with pytest.raises(Interrupted):
        train(settings)
    assert lines(here)[-1] == {"event": "interrupted", "step": step}
    at_step(0, lambda: None)
    train(settings, resume=True)
    assert result(here) == whole(name)


def test_a_run_that_is_stopped_again_and_again_arrives_all_the_same(
    tiny: Tiny,
    here: Path,
    whole: Callable[[str], dict[str, Any]],
    at_step: Callable[[int, Callable[[], None]], None],
) -> None:
    name = "averaged and accumulated"
    settings = tiny("run", **TRICKY[name])
    for step in (1, 2, 5, STEPS, STEPS + 1, 2 * STEPS):
        at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(settings, resume=step > 1)
    train(settings, resume=True)
    assert result(here) == whole(name)
    train(settings, resume=True)  # nothing is left to do
    assert result(here) == whole(name)


@pytest.mark.parametrize(
    ("method", "call"), [("_step", 4), ("judge", 1), ("_keep", 2), ("snapshot", STEPS + 2), ("finish", 1)]
)
def test_a_run_that_dies_anywhere_goes_on_from_its_last_checkpoint(
    tiny: Tiny,
    here: Path,
    whole: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    call: int,
) -> None:
    original, calls = getattr(training._Run, method), iter(range(1, 1000))

    def dying(self: Any, *arguments: Any) -> Any:
        if next(calls) == call:
            raise Crash
        return original(self, *arguments)

    every_step = {"checkpoint_minutes": 0}
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, method, dying)
        with pytest.raises(Crash):
            train(tiny("run", run=every_step))
    train(tiny("run"), resume=True)
    found, expected = result(here), dict(whole("plain"))
    for key in ("settings.yaml", "bundle/bundle.json"):  # how often to save is told there too
        found[key] = found[key].replace(b"checkpoint_minutes: 0.0", b"checkpoint_minutes: 10.0")
        found[key] = found[key].replace(b'"checkpoint_minutes": 0.0', b'"checkpoint_minutes": 10.0')
    found["state"]["settings"] = expected["state"]["settings"]
    assert found == expected


def test_a_run_that_is_stopped_before_its_first_step_can_be_started_or_resumed(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "score", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tiny("run"))
    train(tiny("run"), resume=(here / "last.pt").exists())
    assert result(here) == whole("plain")


def test_a_run_whose_first_step_fails_can_be_resumed(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "_step", lambda *_: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            train(tiny("run"))
    train(tiny("run"), resume=True)
    assert result(here) == whole("plain")


def test_a_second_request_to_stop_ends_at_once(
    tiny: Tiny, here: Path, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    before = signal.getsignal(signal.SIGINT)

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(2, twice)
    with pytest.raises(KeyboardInterrupt):
        train(tiny("run"))
    assert signal.getsignal(signal.SIGINT) is before


def test_training_outside_the_main_thread_leaves_signals_alone(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]]
) -> None:
    thread = threading.Thread(target=train, args=(tiny("run"),))
    thread.start()
    thread.join()
    assert result(here) == whole("plain")


def test_a_resumed_run_refuses_every_setting_that_would_change_it(tiny: Tiny, tiny_run: Path) -> None:
    changed = tiny(tiny_run, optim={"lr": 0.1, "epochs": 9}, model={"width": 8}, data={"augment": "light"})
    before = result(tiny_run)
    with pytest.raises(ConfigError) as caught:
        train(changed, resume=True)
    told = [problem.message.split(" ")[0] for problem in caught.value.problems]
    assert sorted(told) == ["data.augment", "model.width", "optim.epochs", "optim.lr"]
    assert "optim.lr was 0.003 in this run and is now 0.1" in str(caught.value)
    assert result(tiny_run) == before


def test_a_resumed_run_takes_settings_that_change_nothing(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]], at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        train(tiny("run"))
    train(tiny("run", data={"workers": 1, "test": ""}, run={"checkpoint_minutes": 3}), resume=True)
    assert result(here)["bundle/model.safetensors"] == whole("plain")["bundle/model.safetensors"]


def test_a_folder_that_holds_a_run_is_not_written_over(tiny: Tiny, tiny_run: Path) -> None:
    before = result(tiny_run)
    with pytest.raises(ConfigError, match=r"already holds a run(?s:.*)--resume"):
        train(tiny(tiny_run))
    assert result(tiny_run) == before


def test_resuming_where_nothing_is_says_so(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="found none"):
        train(tiny(tmp_path / "nothing"), resume=True)
    assert not (tmp_path / "nothing").exists()


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
    run = training._Run(settings, resume=False)
    groups = run.net.backbone.stage_modules()
    before = {key: value.clone() for key, value in run.net.state_dict().items()}
    run.learn(0, threading.Event())
    after = run.net.state_dict()
    prefixes = {id(module): name for name, module in run.net.named_modules()}
    for number, group in enumerate(groups):
        names = [key for module in group for key in after if key.startswith(prefixes[id(module)] + ".")]
        moved = [key for key in names if not torch.equal(before[key], after[key])]
        assert bool(moved) == (parts >= 0 and number >= parts), (number, moved)
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_held_norms_keep_their_statistics_while_their_weights_learn(tiny: Tiny, tmp_path: Path) -> None:
    run = training._Run(tiny(tmp_path / "run", model={"freeze_norm": True}), resume=False)
    before = {key: value.clone() for key, value in run.net.backbone.state_dict().items()}
    run.learn(0, threading.Event())
    for key, value in run.net.backbone.state_dict().items():
        statistic = "running_" in key or "num_batches" in key
        assert torch.equal(before[key], value) == statistic, key


def test_the_average_of_the_weights_is_what_is_judged_and_kept(tiny: Tiny, here: Path) -> None:
    train(tiny("run", optim={"ema": 0.5, "epochs": 1}))
    state = load_state(here / "last.pt")
    kept = read_bundle(here, fold=False).model.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in state["average"].items())
    assert not torch.equal(state["model"]["head.weight"], kept["head.weight"])


def test_the_learning_rate_follows_the_schedule_group_by_group(tiny: Tiny, tmp_path: Path) -> None:
    optim = {"schedule": "cosine", "backbone_factor": 0.1, "lr": 0.01, "epochs": 2}
    run = training._Run(tiny(tmp_path / "run", optim=optim), resume=False)
    run.learn(0, threading.Event())
    factor = 0.5 * (1 + np.cos(np.pi * (STEPS - 1) / (2 * STEPS)))
    rates = {round(group["lr"] / factor, 9) for group in run.optimizer.param_groups}
    assert rates == {0.01, 0.001}


def test_clipping_bounds_the_step(tiny: Tiny, tmp_path: Path) -> None:
    moved = {}
    for clip in (0.0, 1e-6):
        optim = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "clip_norm": clip}
        run = training._Run(tiny(tmp_path / f"run{clip}", optim=optim), resume=False)
        before = [parameter.detach().clone() for parameter in run.net.parameters()]
        run._step([next(iter(run._loader(0, 0)))])
        change = [(now.detach() - then).flatten() for now, then in zip(run.net.parameters(), before, strict=True)]
        moved[clip] = float(torch.cat(change).norm())
    assert moved[0.0] > 1e-3
    assert moved[1e-6] == pytest.approx(1e-6, rel=0.1)  # rounding of weights near 1 to float32


def test_accumulated_parts_give_the_gradient_of_the_whole_batch(tiny: Tiny, tmp_path: Path) -> None:
    heads = []
    for parts in (1, 4):
        optim = {"name": "sgd", "lr": 0.1, "accumulate": parts}
        folder = tmp_path / f"run{parts}"
        run = training._Run(tiny(folder, optim=optim, model={"freeze_norm": True}), resume=False)
        batches = iter(run._loader(0, 0))
        loss = run._step([next(batches) for _ in range(parts)])
        heads.append((loss, run.net.state_dict()))
    assert heads[0][0] == pytest.approx(heads[1][0], rel=1e-6)
    for key, value in heads[0][1].items():
        torch.testing.assert_close(value, heads[1][1][key], rtol=1e-4, atol=1e-6, msg=key)  # sums in another order


def test_the_baseline_trains_through_the_same_loop(tiny: Tiny, here: Path) -> None:
    told = train(tiny("run", model={"name": "average_pool"}, optim={"epochs": 3}))
    losses = [line["loss"] for line in lines(here, "epoch")]
    assert losses[0] > losses[1] > losses[2]
    assert 0 < told["val_mAP"] <= 1
    assert type(read_bundle(here).model).__name__ == "AveragePool"


def test_without_a_validation_split_a_seeded_part_is_held_out(
    tiny: Tiny, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = tiny("run", data={"val": "", "val_fraction": 0.25})
    with caplog.at_level(logging.INFO):
        told = train(settings)
    assert "12 of 48 training pictures are held out" in caplog.text
    assert {key: lines(here)[0][key] for key in ("train", "val")} == {"train": 36, "val": 12}
    metrics, _ = evaluate_bundle(here, settings, split="val")
    assert metrics == json.loads((here / "metrics-val.json").read_text())  # evaluate finds the same pictures
    assert metrics["mAP"] == told["val_mAP"]
    facts = read_bundle(here).facts
    assert facts["train_data"]["images"] == 36
    other = training.build_task(tiny("run", data={"val": ""}, run={"seed": 1}))
    same = training.build_task(tiny("run", data={"val": ""}))
    assert other.val is not None
    assert same.val is not None
    assert other.val.digest != same.val.digest
    assert not {record.image for record in same.val.records} & {record.image for record in same.train.records}


def test_training_on_everything_keeps_the_last_epoch(tiny: Tiny, here: Path) -> None:
    told = train(tiny("run", data={"val": "none"}))
    assert (told["best_epoch"], told["val_mAP"]) == (2, None)
    bundle = read_bundle(here)
    assert set(bundle.thresholds) == {0.5}
    assert bundle.facts["epoch"] == 2
    assert bundle.facts["train_data"]["images"] == 48
    assert not lines(here, "judge")


def test_the_best_epoch_is_kept_not_the_last(tiny: Tiny, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, falls = training.judge, iter([0.4, 0.6, 0.5])

    def judged(*arguments: Any, **options: Any) -> dict[str, Any]:
        return {**original(*arguments, **options), "mAP": next(falls)}

    monkeypatch.setattr(training, "judge", judged)
    told = train(tiny("run", optim={"epochs": 3}))
    assert (told["best_epoch"], told["val_mAP"]) == (2, 0.6)
    assert json.loads((here / "metrics-val.json").read_text())["mAP"] == 0.6
    assert read_bundle(here).facts["epoch"] == 2


def test_epochs_between_evaluations_are_not_judged_but_the_last_is(tiny: Tiny, here: Path) -> None:
    train(tiny("run", optim={"epochs": 3}, run={"evaluate_every": 2}))
    assert [line["epoch"] for line in lines(here, "judge")] == [2, 3]


def test_a_split_smaller_than_a_batch_is_refused_before_anything_is_written(tiny: Tiny, here: Path) -> None:
    with pytest.raises(ConfigError, match=r"48 pictures, fewer than a batch of 64(?s:.*)--data.batch_size"):
        train(tiny("run", data={"batch_size": 64}))
    assert not here.exists()


def test_a_picture_that_cannot_be_read_stops_the_run_and_is_named(tiny: Tiny, here: Path, scenes: Path) -> None:
    table = here.parent / "train.csv"
    (here.parent / "broken.jpg").write_bytes(b"no picture")
    rows = (scenes / "train.csv").read_text().replace("images/", f"{scenes}/images/")
    table.write_text(rows + f"{here.parent}/broken.jpg,sun\n")
    data = {"format": "table", "train": str(table), "val": "none", "root": "", "batch_size": 49}
    with pytest.raises(DataError, match=r"broken\.jpg"):
        train(tiny("run", data=data))


def test_a_picture_that_cannot_be_judged_shows_itself_before_the_first_step(
    tiny: Tiny, here: Path, scenes: Path
) -> None:
    (here.parent / "broken.jpg").write_bytes(b"no picture")
    (here.parent / "train.csv").write_text((scenes / "train.csv").read_text().replace("images/", f"{scenes}/images/"))
    (here.parent / "val.csv").write_text(f"image,labels\nbroken.jpg,sun\n{scenes}/images/val/000000.jpg,-\n")
    data = {"format": "table", "train": "train.csv", "val": "val.csv", "root": str(here.parent)}
    with pytest.raises(DataError, match=r"broken\.jpg"):
        train(tiny("run", data=data))
    assert not (here / "settings.yaml").exists()  # the same command works once the picture is mended
