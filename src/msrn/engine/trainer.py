"""Training: for each epoch, for each batch, forward, loss, backward, step; then evaluate and save.

A run is a function of its settings. Order and augmentation of the images depend on (seed, epoch, image), the model's
own randomness on (seed, step, process), the learning rate on the step: a run that was interrupted at any step and
resumed gives, bit for bit on a CPU, what it would have given without.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from msrn.bundle.label_inputs import embedding_record, graph_record
from msrn.bundle.metadata import Metadata, SplitRecord, read_metadata
from msrn.bundle.write import package_versions
from msrn.config import Settings
from msrn.data.dataset import ImageDataset, training_loader
from msrn.data.manifest import Manifest
from msrn.engine.distributed import make_fabric, peak_memory
from msrn.engine.evaluate import evaluate_scores, score_split
from msrn.engine.evaluation import Evaluation
from msrn.engine.feature_cache import training_images
from msrn.engine.interrupt import Interrupted, stop_requests
from msrn.engine.learner import Learner, NonFiniteLoss
from msrn.engine.processes import one_fate
from msrn.engine.rehearsal import untrainable
from msrn.engine.run_folder import RunFolder
from msrn.engine.setup import SHOWN, build_loss, build_setup, split_targets
from msrn.errors import ConfigError, TrainingError
from msrn.metrics import TunedThreshold, tune_thresholds
from msrn.progress import progress_bar

__all__ = ["Interrupted", "TrainingResult", "train"]

logger = logging.getLogger(__name__)

CHECK_STEPS = 10
"""Steps between checks on a GPU or with several processes: a loss is read from the device then, not at every step."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run gives."""

    folder: Path
    bundle: Path
    best_epoch: int
    """Whose weights are in the bundle, from 1."""
    val_map: float | None
    """Validation mAP of that epoch, 0 to 1; None without a validation split."""
    minutes: float
    peak_memory_bytes: int
    """Of the device on CUDA, resident in this process on a CPU."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"folder": str(self.folder), "bundle": str(self.bundle)}


@one_fate()
def train(settings: Settings, *, resume: bool = False) -> TrainingResult:
    """Train, evaluate after every epoch, keep the best by validation mAP as the bundle.

    Args:
        settings: the whole tree; ``run.folder`` must be set.
        resume: continue from the folder's checkpoint; settings that shape the result must be those of the run.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingError: the loss is not finite. DataError, ConfigError and others: as the parts raise them.
    """
    trainer = Trainer(settings, resume=resume)
    with stop_requests() as stop:
        for epoch in range(trainer.progress.epochs, settings.optim.epochs):
            trainer.train_epoch(epoch, stop)
            trainer.evaluate_epoch(epoch)
            trainer.save()
    return trainer.finish()


@dataclass(slots=True)
class Progress:
    """Where a run stands. Plain values: it is saved with the weights."""

    step: int = 0
    """Optimizer steps done."""
    epochs: int = 0
    """Epochs trained and evaluated; a run may be stopped between the two."""
    losses: list[float] = field(default_factory=list)
    """Loss of each step of the current epoch."""
    seconds: float = 0.0
    """Spent in training and evaluation, over all sessions."""
    best_map: float = -1.0
    best_epoch: int = 0


class Trainer:
    """The state of one run on one process, and the steps that change it."""

    def __init__(self, settings: Settings, *, resume: bool) -> None:
        self.settings = settings
        self.fabric = fabric = make_fabric(settings)
        self.folder = RunFolder(Path(settings.run.folder), writes=fabric.is_global_zero)
        saved = None
        if resume:
            saved = self.folder.load_state(settings)
        else:
            self.folder.require_empty()
        torch.manual_seed(settings.run.seed)
        self.setup = build_setup(settings, pretrained=not resume)
        self.data_identity = self.setup.identity()  # once: it hashes the manifests, and every checkpoint holds it
        if saved:
            self.folder.require_same_data(saved["data"], self.data_identity)
        self.progress = Progress(**saved["progress"]) if saved else Progress()
        loss = build_loss(settings, self.setup.train)
        self.learner = Learner(self.setup.model, loss, settings=settings, fabric=fabric, state=saved)
        self.images, self.val_images = training_images(self.setup, settings, self.learner.net.backbone, fabric)
        self.steps_per_epoch = self._steps_per_epoch()
        self.clock = self.saved_at = time.monotonic()
        fabric.barrier()  # no process may look for a run in the folder once another has begun one
        if not saved:
            self._rehearse()
            self.save()  # first of all files: from now on the folder holds a run that can be resumed
        self.folder.open_log(keep_until=(self.progress.step, self.progress.epochs))
        if not self.folder.log.begun:
            self._begin()

    def train_epoch(self, epoch: int, stop: threading.Event) -> None:
        """The steps of one epoch that are not done yet."""
        settings, progress = self.settings, self.progress
        self.learner.train()
        done = progress.step - epoch * self.steps_per_epoch
        batches = iter(self._loader(epoch, done))
        began, waited = time.monotonic(), 0.0
        title, batch_size = f"epoch {epoch + 1}/{settings.optim.epochs}", settings.data.batch_size
        total, shown = self.steps_per_epoch * batch_size, self.fabric.is_global_zero
        every = 1 if self.fabric.device.type == "cpu" else CHECK_STEPS
        with progress_bar(title, total, done=done * batch_size, shown=shown) as ticker:
            for number in range(done + 1, self.steps_per_epoch + 1):
                asked = time.monotonic()
                micro_batches = [next(batches) for _ in range(settings.optim.accumulate)]
                waited += time.monotonic() - asked
                self.learner.step(progress.step, micro_batches, steps_per_epoch=self.steps_per_epoch)
                progress.step += 1
                if number % every and number < self.steps_per_epoch:
                    ticker.advance(batch_size)
                    continue
                try:
                    losses, stopping = self.learner.check(stop)
                except NonFiniteLoss as error:
                    raise self._refuse(error) from None
                progress.losses.extend(losses)
                ticker.advance(batch_size, f"loss {progress.losses[-1]:.4f}")
                if stopping:
                    self.save()
                    self.folder.log.write("interrupted", step=progress.step)
                    raise Interrupted(self.folder.path)
                if time.monotonic() - self.saved_at > 60 * settings.run.checkpoint_minutes:
                    self.save()
        spent = time.monotonic() - began
        self.folder.log.write(
            "epoch",
            step=progress.step,
            epoch=epoch + 1,
            loss=float(np.mean(progress.losses)),
            lr=self.learner.optimizer.param_groups[-1]["lr"],
            train_seconds=round(spent, 2),
            wait_seconds=round(waited, 2),
            images_per_second=round((self.steps_per_epoch - done) * batch_size / max(spent, 1e-9), 2),
            peak_memory_bytes=peak_memory(self.fabric),
        )

    def evaluate_epoch(self, epoch: int) -> None:
        """Evaluate at the end of an epoch; the best so far becomes the bundle."""
        settings, progress = self.settings, self.progress
        progress.losses, progress.epochs = [], epoch + 1
        last = epoch + 1 == settings.optim.epochs
        if not last and (epoch + 1) % settings.run.evaluate_every:
            return
        val = self.setup.val
        if val is None:
            if last:
                self._keep(epoch + 1, [], None)
            return
        began = time.monotonic()
        scores = self.score(val, self.val_images)
        evaluation = evaluate_scores(scores, val, difficult=settings.data.difficult)
        metrics = evaluation.metrics
        self.folder.log.write(
            "evaluate",
            step=progress.step,
            epoch=epoch + 1,
            val_mAP=metrics.mean_ap,
            val_CF1=metrics.all.class_f1,
            val_OF1=metrics.all.overall_f1,
            seconds=round(time.monotonic() - began, 2),
        )
        logger.info("epoch %d/%d: val mAP %.2f %%", epoch + 1, settings.optim.epochs, 100 * metrics.mean_ap)
        if metrics.mean_ap > progress.best_map:
            progress.best_map, progress.best_epoch = metrics.mean_ap, epoch + 1
            self.folder.write_metrics(evaluation.to_json())
            tuned = tune_thresholds(scores, split_targets(val, settings.data.difficult).counts, settings.thresholds)
            self._keep(epoch + 1, tuned, evaluation)

    def score(self, manifest: Manifest, images: ImageDataset | None) -> np.ndarray:
        """Probabilities of a split by the evaluated weights; the processes' unpadded shards joined."""
        data, fabric = self.settings.data, self.fabric
        return score_split(
            self.learner.evaluated, manifest, self.setup.preprocessing, settings=data, fabric=fabric, images=images
        )

    def save(self) -> None:
        """Write the run's state, from which ``resume`` continues exactly."""
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = self.saved_at = now
        state = {
            "settings": self.settings.model_dump(mode="json"),
            "data": self.data_identity,
            "progress": asdict(self.progress),
            **self.learner.state_dict(),
        }
        self.folder.save_state(state)
        self.fabric.barrier()

    def finish(self) -> TrainingResult:
        """Write the last event of the log."""
        progress = self.progress
        validated = self.setup.val is not None
        result = TrainingResult(
            folder=self.folder.path,
            bundle=self.folder.bundle,
            best_epoch=progress.best_epoch if validated else self.settings.optim.epochs,
            val_map=progress.best_map if validated else None,
            minutes=round(progress.seconds / 60, 2),
            peak_memory_bytes=peak_memory(self.fabric),
        )
        self._report_untuned()
        self.folder.log.write(
            "end",
            step=progress.step,
            best_epoch=result.best_epoch,
            val_mAP=result.val_map,
            minutes=result.minutes,
            peak_memory_bytes=result.peak_memory_bytes,
        )
        return result

    def _report_untuned(self) -> None:
        """Name the labels whose thresholds could not be tuned."""
        support = read_metadata(self.folder.bundle).threshold_support if self.folder.bundle.exists() else {}
        if untuned := [name for name, record in support.items() if not record.tuned]:
            more = f" and {len(untuned) - SHOWN:,} more" if len(untuned) > SHOWN else ""
            logger.warning(
                "thresholds of %d of %d labels stay at 0.5, which the validation split cannot better: %s%s",
                len(untuned), len(support), ", ".join(untuned[:SHOWN]), more,
            )  # fmt: skip

    def _rehearse(self) -> None:
        """Try what a run does before anything is written: a training step without a result, and an evaluation."""
        try:
            self.learner.rehearse(next(iter(self._loader(0, 0))))
            if self.setup.val:
                self.score(self.setup.val.first(2 * self.settings.data.eval_batch_size), None)
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise untrainable(error, self.learner.net, self.settings) from error

    def _begin(self) -> None:
        """The settings, and the first event of the log."""
        setup = self.setup
        unknown = {"train": setup.train.unknown_entries}
        unknown |= {"val": setup.val.unknown_entries} if setup.val else {}
        self.folder.write_settings(self.settings)
        self.folder.log.write(
            "start",
            step=0,
            train=len(setup.train),
            labels=len(setup.labels),
            val=len(setup.val) if setup.val else 0,
            unknown=unknown,
        )

    def _refuse(self, error: NonFiniteLoss) -> TrainingError:
        names = [str(self.setup.train.path(position)) for position in error.positions]
        return TrainingError(
            f"the loss is {error.loss} at step {error.step}; images of that batch:\n    " + "\n    ".join(names),
            where=f"{self.folder.path}; its last.pt is the state of the last checkpoint",
            hint="lower optim.lr, set optim.clip_norm, or use precision 32-true",
        )

    def _keep(self, epoch: int, tuned: list[TunedThreshold], evaluation: Evaluation | None) -> None:
        """Make the evaluated weights the bundle; without an evaluation, all thresholds are 0.5."""
        setup, settings = self.setup, self.settings
        splits = {"train": SplitRecord.of(setup.train)}
        splits |= {"val": SplitRecord.of(setup.val)} if setup.val else {}
        sources, names = setup.sources, setup.labels.names
        metadata = Metadata(
            labels=names,
            labels_digest=setup.labels.digest,
            preprocessing=setup.preprocessing,
            precision=settings.run.precision,
            thresholds=dict.fromkeys(names, 0.5),
            threshold_support={},
            thresholds_chosen="0.5 for all",
            thresholds_split=None,
            splits=splits,
            epoch=epoch,
            metrics=evaluation.headline() if evaluation else {},
            embeddings=embedding_record(sources.embeddings) if sources.embeddings else None,
            graph=graph_record(sources.graph) if sources.graph else None,
            settings=settings.model_dump(mode="json"),
            versions=package_versions(),
            files={},
        )
        if tuned:
            metadata = metadata.with_thresholds(tuned, chosen=str(settings.thresholds), split=splits["val"])
        self.folder.keep(self.learner.evaluated, setup.inputs, metadata)

    def _steps_per_epoch(self) -> int:
        steps = len(self.images) // self.settings.data.batch_size
        if steps == 0:
            raise ConfigError(
                f"the training split has {len(self.images)} images, fewer than a batch of "
                f"{self.settings.data.batch_size}",
                where="data.batch_size",
                hint="set a smaller --data.batch_size",
            )
        return steps

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
