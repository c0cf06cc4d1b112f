"""How does a model learn? The loop, on one page; every part of it lives where it is named.

A run is a function of its settings. Order and augmentation of the pictures depend on (seed, epoch, picture), the
model's own randomness on (seed, step, process), the learning rate on the step: so a run that was interrupted at any
step and resumed gives, bit for bit on a CPU, what it would have given.
"""

from __future__ import annotations

import logging
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from msrn.bundle.files import load_state, save_state, write_bundle, write_json
from msrn.bundle.label_inputs import label_record
from msrn.config import Settings
from msrn.data.dataset import ImageDataset, on_device, training_loader
from msrn.data.manifest import Manifest
from msrn.engine.distributed import make_fabric, share_norms
from msrn.engine.evaluate import judge, score_split
from msrn.engine.feature_cache import training_pictures
from msrn.engine.optim import WeightAverage, build_optimizer, freeze_backbone, hold_norms, rate_factor
from msrn.engine.setup import build_task, split_targets
from msrn.engine.tracking import RunLog, progress_bar
from msrn.errors import ConfigError, Problem, TrainingError
from msrn.losses.soft_margin import soft_margin
from msrn.metrics.multilabel import best_thresholds
from msrn.models import Tagger

__all__ = ["Interrupted", "train"]

logger = logging.getLogger(__name__)

MAY_CHANGE = {
    *("run.folder", "run.device", "run.evaluate_every", "run.checkpoint_minutes"),
    *("data.workers", "data.test", "data.cache"),
}
"""Settings that do not shape the result and may differ when a run is resumed."""


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """The run was asked to stop; its state is saved. Holds the run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(str(folder))


def train(settings: Settings, *, resume: bool = False) -> dict[str, Any]:
    """Train, judge after every epoch, keep the best by validation mAP as the bundle.

    Args:
        settings: the whole tree; ``run.folder`` must be set.
        resume: go on from the folder's checkpoint; settings that shape the result must be those of the run.

    Returns:
        Where the bundle is, the best epoch and its validation mAP, minutes and peak memory.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingError: the loss is not finite. DataError, ConfigError and others: as the parts raise them.
    """
    run = _Run(settings, resume=resume)
    with _stop_requests() as stop:
        for epoch in range(run.progress.epochs, settings.optim.epochs):
            run.learn(epoch, stop)
            run.judge(epoch)
            run.snapshot()
    return run.finish()


@dataclass(slots=True)
class _Progress:
    """Where a run stands. Plain values: it is saved with the weights."""

    step: int = 0
    """Optimiser steps done."""
    epochs: int = 0
    """Epochs done and judged; a run may be stopped between the two."""
    losses: list[float] = field(default_factory=list)
    """Loss of each step of the present epoch."""
    seconds: float = 0.0
    """Spent in training and judging, over all sessions."""
    best_map: float = -1.0
    best_epoch: int = 0


class _Run:
    """One run on one process: what ``train`` steps through."""

    def __init__(self, settings: Settings, *, resume: bool) -> None:
        self.settings = settings
        self.folder = Path(settings.run.folder)
        self.fabric = fabric = make_fabric(settings)
        saved = _saved_state(self.folder, settings, resume=resume)
        torch.manual_seed(settings.run.seed)
        self.task = build_task(settings)
        self.net: Tagger = self.task.model.to(memory_format=torch.channels_last)
        freeze_backbone(self.net.backbone, settings.model.freeze)
        self.progress = _Progress(**saved["progress"]) if saved else _Progress()
        if saved:
            self.net.load_state_dict(saved["model"])
        share_norms(self.net, fabric)
        optimizer = build_optimizer(self.net, settings.optim)
        self.model, self.optimizer = fabric.setup(self.net, optimizer)
        self.average = WeightAverage(self.net, settings.optim.ema) if settings.optim.ema else None
        if saved:
            self.optimizer.load_state_dict(saved["optimizer"])
            fabric.strategy.precision.load_state_dict(saved["precision"])
            if self.average:
                self.average.model.load_state_dict(saved["average"])
        self.images, self.val_images = training_pictures(self.task, settings, self.net.backbone, fabric)
        self.steps_per_epoch = len(self.images) // settings.data.batch_size
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"the training split has {len(self.images)} pictures, fewer than a batch of {settings.data.batch_size}",
                where="data.batch_size",
                hint="set a smaller --data.batch_size",
            )
        self.clock = time.monotonic()
        self.saved_at = self.clock
        fabric.barrier()  # no process may look for a run in the folder once another has begun one
        log_path = self.folder / "log.jsonl" if fabric.is_global_zero else None
        if saved:
            self.log = RunLog(log_path, keep_until=(self.progress.step, self.progress.epochs))
            return
        if self.task.val:  # a broken evaluation shows itself before an epoch is spent
            self.score(self.task.val.first(2 * settings.data.eval_batch_size), None)
        # Nothing is written before all parts are known to fit. The state comes last: with it the folder holds a run,
        # and that can be resumed from its step 0.
        self.log = RunLog(log_path, keep_until=(-1, 0))
        counts = {"train": len(self.task.train), "labels": len(self.task.labels)}
        unknown = {"train": self.task.train.unknown_entries}
        unknown |= {"val": self.task.val.unknown_entries} if self.task.val else {}
        self.log.write("start", step=0, **counts, val=len(self.task.val) if self.task.val else 0, unknown=unknown)
        if log_path:
            (self.folder / "settings.yaml").write_text(settings.to_yaml(), encoding="utf-8")
        self.snapshot()

    @property
    def judged(self) -> Tagger:
        """The weights that are evaluated and kept: the average, if there is one."""
        return self.average.model if self.average else self.net

    def learn(self, epoch: int, stop: threading.Event) -> None:
        """The rest of one epoch."""
        settings, fabric, progress = self.settings, self.fabric, self.progress
        self.model.train()
        hold_norms(self.net.backbone, everywhere=settings.model.freeze_norm)
        done = progress.step - epoch * self.steps_per_epoch
        batches = iter(self._loader(epoch, done))
        began, waited = time.monotonic(), 0.0
        title, batch_size = f"epoch {epoch + 1}/{settings.optim.epochs}", settings.data.batch_size
        total = self.steps_per_epoch * batch_size
        with progress_bar(title, total, done=done * batch_size, shown=fabric.is_global_zero) as ticker:
            for _ in range(done, self.steps_per_epoch):
                asked = time.monotonic()
                parts = [next(batches) for _ in range(settings.optim.accumulate)]
                waited += time.monotonic() - asked
                loss = self._step(parts)
                ticker.advance(batch_size, f"loss {loss:.4f}")
                if self._asked_to_stop(stop):
                    self.snapshot()
                    self.log.write("interrupted", step=progress.step)
                    raise Interrupted(self.folder)
                if time.monotonic() - self.saved_at > 60 * settings.run.checkpoint_minutes:
                    self.snapshot()
        spent = time.monotonic() - began
        self.log.write(
            "epoch",
            step=progress.step,
            epoch=epoch + 1,
            loss=float(np.mean(progress.losses)),
            lr=self.optimizer.param_groups[-1]["lr"],
            train_seconds=round(spent, 2),
            wait_seconds=round(waited, 2),
            images_per_second=round((self.steps_per_epoch - done) * batch_size / max(spent, 1e-9), 2),
            peak_memory_bytes=_peak_memory(fabric),
        )

    def _step(self, parts: list[dict[str, Any]]) -> float:
        """Forward and backward over the parts of one global batch, then one step of the optimiser."""
        settings, fabric, step = self.settings, self.fabric, self.progress.step
        factor = rate_factor(step, steps_per_epoch=self.steps_per_epoch, settings=settings.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        torch.manual_seed(_mix(settings.run.seed, step, fabric.global_rank))
        total = torch.zeros((), device=fabric.device)
        for number, batch in enumerate(parts, start=1):
            image = on_device(batch["image"], fabric.device)
            target = batch["target"].to(fabric.device, non_blocking=True)
            with fabric.no_backward_sync(self.model, enabled=number < len(parts)):
                output = self.model(image)
                loss = (soft_margin(output.logits, target) + sum(output.aux.values())) / len(parts)
                self._must_be_finite(loss, batch)
                fabric.backward(loss)
            total += loss.detach()
        if settings.optim.clip_norm:
            fabric.clip_gradients(self.model, self.optimizer, max_norm=settings.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.progress.step += 1
        if self.average:
            self.average.update(self.net, self.progress.step)
        self.progress.losses.append(float(torch.as_tensor(fabric.all_reduce(total, reduce_op="mean"))))
        return self.progress.losses[-1]

    def judge(self, epoch: int) -> None:
        """Validate at the end of an epoch; the best so far becomes the bundle."""
        self.progress.losses, self.progress.epochs = [], epoch + 1
        last = epoch + 1 == self.settings.optim.epochs
        if not last and (epoch + 1) % self.settings.run.evaluate_every:
            return
        if self.task.val is None:
            if last and self.fabric.is_global_zero:
                self._keep([0.5] * len(self.task.labels), epoch + 1, {"thresholds_chosen": "0.5 for all labels"})
            return
        began = time.monotonic()
        scores = self.score(self.task.val, self.val_images)
        difficult = self.settings.data.difficult
        metrics = judge(scores, self.task.val, difficult=difficult)
        told = {"mAP": metrics["mAP"], "CF1": metrics["all"]["CF1"], "OF1": metrics["all"]["OF1"]}
        told = {f"val_{name}": value for name, value in told.items()}
        self.log.write(
            "judge", step=self.progress.step, epoch=epoch + 1, **told, seconds=round(time.monotonic() - began, 2)
        )
        logger.info("epoch %d/%d: val mAP %.2f %%", epoch + 1, self.settings.optim.epochs, 100 * metrics["mAP"])
        if metrics["mAP"] > self.progress.best_map:
            self.progress.best_map, self.progress.best_epoch = metrics["mAP"], epoch + 1
            if self.fabric.is_global_zero:
                write_json(self.folder / "metrics-val.json", metrics)
                thresholds = best_thresholds(scores, split_targets(self.task.val, difficult).counts)
                facts = {
                    "thresholds_chosen": "best F1 per label on what is known of the validation split; 0.5 for labels "
                    "without a known positive or a known negative there",
                    "metrics": {name: metrics[name] for name in ("mAP", "all", "top_k", "protocol", "data")},
                }
                self._keep([float(value) for value in thresholds], epoch + 1, facts)

    def score(self, part: Manifest, images: ImageDataset | None) -> np.ndarray:
        """Probabilities of the weights that are judged; the processes' unpadded shards joined."""
        settings, fabric = self.settings.data, self.fabric
        return score_split(self.judged, part, self.task.preprocessing, settings=settings, fabric=fabric, images=images)

    def snapshot(self) -> None:
        """Write the run's state, from which ``resume`` goes on exactly."""
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = self.saved_at = now
        if self.fabric.is_global_zero:
            state = {
                "settings": self.settings.model_dump(mode="json"),
                "progress": asdict(self.progress),
                "model": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
            }
            if self.average:
                state["average"] = self.average.model.state_dict()
            save_state(self.folder / "last.pt", state)
        self.fabric.barrier()

    def finish(self) -> dict[str, Any]:
        """The last line of the log, and what ``train`` returns."""
        progress = self.progress
        result = {
            "best_epoch": progress.best_epoch if self.task.val else self.settings.optim.epochs,
            "val_mAP": progress.best_map if self.task.val else None,
            "minutes": round(progress.seconds / 60, 2),
            "peak_memory_bytes": _peak_memory(self.fabric),
        }
        self.log.write("end", step=progress.step, **result)
        return {**result, "folder": str(self.folder), "bundle": str(self.folder / "bundle")}

    def _loader(self, epoch: int, done: int) -> DataLoader[Any]:
        settings = self.settings
        return training_loader(
            self.images,
            batch_size=settings.data.batch_size,
            parts=settings.optim.accumulate,
            workers=settings.data.workers,
            seed=settings.run.seed,
            epoch=epoch,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            start_step=done,
        )

    def _keep(self, thresholds: list[float], epoch: int, facts: dict[str, Any]) -> None:
        """Write the bundle."""
        task = self.task
        train_data: dict[str, Any] = {"source": task.train.source, "split": task.train.split}
        train_data["images"] = len(task.train)
        train_data["unknown_entries"] = task.train.unknown_entries
        write_bundle(
            self.folder / "bundle",
            self.judged,
            labels=task.labels,
            preprocessing=task.preprocessing,
            thresholds=thresholds,
            settings=self.settings,
            facts={
                **facts,
                "epoch": epoch,
                "train_data": {**train_data, "digest": task.train.digest},
                "label_side": label_record(task.vectors, task.graph),
            },
        )

    def _must_be_finite(self, loss: Tensor, batch: dict[str, Any]) -> None:
        if bool(torch.isfinite(loss)):
            return
        names = [str(self.task.train.path(int(index))) for index in batch["index"]]
        raise TrainingError(
            f"the loss is {float(loss.detach())} at step {self.progress.step}; pictures of that batch:\n    "
            + "\n    ".join(names),
            where=f"{self.folder}; its last.pt is the state of the last checkpoint",
            hint="lower optim.lr, set optim.clip_norm, or use precision 32-true",
        )

    def _asked_to_stop(self, stop: threading.Event) -> bool:
        asked = torch.tensor(float(stop.is_set()), device=self.fabric.device)
        return bool(torch.as_tensor(self.fabric.all_reduce(asked, reduce_op="sum")) > 0)


def _saved_state(folder: Path, settings: Settings, *, resume: bool) -> dict[str, Any] | None:
    """The state to go on from; None for a new run. A folder that holds a run is never written over."""
    if not resume:
        if (folder / "last.pt").exists():
            raise ConfigError(
                "this folder already holds a run",
                where=str(folder),
                hint="pass --resume to go on with it, or another --run.folder",
            )
        return None
    state = load_state(folder / "last.pt")
    before, now = _flat(state["settings"]), _flat(settings.model_dump(mode="json"))
    problems = [
        Problem(f"{key} was {before.get(key)!r} in this run and is now {value!r}", where=str(folder))
        for key, value in now.items()
        if key not in MAY_CHANGE and before.get(key) != value
    ]
    if problems:
        raise ConfigError.of(problems, "a resumed run must keep the settings that shape its result")
    return state


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event instead of ending the process; a second SIGINT ends it."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        logger.warning("stopping after this step; the state will be saved")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _peak_memory(fabric: Fabric) -> int:
    """Largest use so far, bytes: of the device on CUDA, of this process (resident) on a CPU."""
    if fabric.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(fabric.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
