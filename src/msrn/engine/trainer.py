"""Training: for each epoch, for each batch, forward, loss, backward, step; then evaluate and save.

A run is a function of its settings. Order and augmentation of the images depend on (seed, epoch, image), their mixing
and the model's own randomness on (seed, step, process), the learning rate on the step: a run that was interrupted at
any step and resumed gives, bit for bit on a CPU, what it would have given without.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from msrn.bundle.metadata import Metadata, read_metadata
from msrn.config import Settings
from msrn.data.dataset import LabelledDataset
from msrn.data.manifest import Manifest
from msrn.engine.batches import Batches
from msrn.engine.bundle_metadata import compose_metadata, warn_of_untuned
from msrn.engine.distributed import make_fabric, peak_memory
from msrn.engine.evaluate import evaluate_scores, model_record
from msrn.engine.evaluation import Evaluation
from msrn.engine.feature_cache import training_images
from msrn.engine.identity import identity_of, require_same, split_images, warn_of_overlap
from msrn.engine.interrupt import Interrupted, stop_requests
from msrn.engine.learner import Learner, NonFinite
from msrn.engine.optim import warn_of_idle_steps
from msrn.engine.processes import one_fate
from msrn.engine.rehearsal import rehearse
from msrn.engine.run_folder import RunFolder, claim_default_folder
from msrn.engine.scoring import StopRequestedError, score_split
from msrn.engine.setup import build_loss, build_setup, rebuild_setup, split_targets
from msrn.engine.teacher import Teacher
from msrn.engine.training_result import TrainingResult
from msrn.errors import BundleError, TrainingError
from msrn.metrics import TunedThreshold, tune_thresholds
from msrn.progress import progress_bar

__all__ = ["Interrupted", "TrainingResult", "train"]

logger = logging.getLogger(__name__)

CHECK_STEPS = 10
"""Steps between checks on a GPU or with several processes: a loss is read from the device then, not at every step."""


@one_fate()
def train(settings: Settings, *, resume: bool = False) -> TrainingResult:
    """Train, evaluate after every epoch, keep the best by validation mAP as the bundle.

    Args:
        settings: the whole tree. Without ``run.folder``, a new run gets a folder of its own under ``runs/``.
        resume: continue from the folder's checkpoint; settings that shape the result must be those of the run.

    Raises:
        Interrupted: a signal such as SIGINT or SIGTERM came; the state is saved.
        TrainingError: a loss, a gradient or a score is not finite.
        DataError, ConfigError and others: as the parts raise them.
    """
    trainer = Trainer(settings, resume=resume)
    with stop_requests() as stop:
        for epoch in range(trainer.progress.epochs, settings.optim.epochs):
            trainer.train_epoch(epoch, stop)
            trainer.evaluate_epoch(epoch, stop)
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


def _progress_of(tree: Any, where: Path) -> Progress:
    try:
        return TypeAdapter(Progress).validate_python(tree)
    except ValidationError as error:
        raise BundleError(f"the checkpoint is damaged: progress: {error.errors()[0]['msg']}", str(where)) from error


class Trainer:
    """The state of one run on one process, and the steps that change it."""

    def __init__(self, settings: Settings, *, resume: bool) -> None:
        self.settings = settings
        self.fabric = fabric = make_fabric(settings)
        self.folder = RunFolder(Path(settings.run.folder), writes=fabric.is_global_zero)
        saved = None
        if resume:
            saved = self.folder.load_state(settings)
        elif settings.run.folder:
            self.folder.require_usable(0)
        torch.manual_seed(settings.run.seed)
        self.setup = rebuild_setup(settings) if resume else build_setup(settings)
        teacher = self._teacher()
        # once: it hashes the manifests, and every checkpoint holds it
        self.identity = identity_of(self.setup, teacher=teacher.digest if teacher else "")
        if saved:
            require_same(saved, self.identity, folder=self.folder.path, processes=fabric.world_size)
        self.progress = _progress_of(saved["progress"], self.folder.state_file) if saved else Progress()
        loss = build_loss(settings, self.setup.train)
        self.learner = Learner(self.setup.model, loss, settings=settings, fabric=fabric, state=saved, teacher=teacher)
        self.images, self.val_images = training_images(self.setup, settings, self.learner.net.backbone, fabric)
        self.batches = Batches(self.images, settings, fabric)
        self.clock = self.saved_at = time.monotonic()
        fabric.barrier()  # no process may look for a run in the folder once another has begun one
        if not saved:
            self._rehearse()
            self._claim()
        self.folder.open_log(keep_until=(self.progress.step, self.progress.epochs))
        if not self.folder.log.begun:
            self._begin()

    def train_epoch(self, epoch: int, stop: threading.Event) -> None:
        """The steps of one epoch that are not done yet."""
        settings, progress = self.settings, self.progress
        self.learner.train()
        done = progress.step - epoch * self.batches.steps_per_epoch
        steps, batches = self.batches.steps_per_epoch, iter(self.batches.loader(epoch, done))
        began, waited = time.monotonic(), 0.0
        title, batch_size = f"epoch {epoch + 1}/{settings.optim.epochs}", settings.data.batch_size
        total, shown = steps * batch_size, self.fabric.is_global_zero
        every = 1 if self.fabric.device.type == "cpu" else CHECK_STEPS
        with progress_bar(title, total, done=done * batch_size, shown=shown) as ticker:
            for number in range(done + 1, steps + 1):
                asked = time.monotonic()
                micro_batches = [next(batches) for _ in range(settings.optim.accumulate)]
                waited += time.monotonic() - asked
                self.learner.step(progress.step, micro_batches, steps_per_epoch=steps)
                progress.step += 1
                if number % every and number < steps:
                    ticker.advance(batch_size)
                    continue
                try:
                    losses, stopping = self.learner.check(stop)
                except NonFinite as error:
                    raise self._refuse(error) from None
                progress.losses.extend(losses)
                ticker.advance(batch_size, f"loss {progress.losses[-1]:.4f}")
                if stopping:
                    self._stop()
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
            images_per_second=round((steps - done) * batch_size / max(spent, 1e-9), 2),
            peak_memory_bytes=peak_memory(self.fabric),
        )

    def evaluate_epoch(self, epoch: int, stop: threading.Event) -> None:
        """Evaluate at the end of an epoch; the best so far becomes the bundle."""
        settings, progress, val = self.settings, self.progress, self.setup.val
        last = epoch + 1 == settings.optim.epochs
        due = val is not None and (last or not (epoch + 1) % settings.run.evaluate_every)
        began = time.monotonic()
        try:
            if val is None and last:  # the weights are kept unseen: they must at least give numbers
                self.score(self.setup.train.first(settings.data.eval_batch_size), None)
            scores = self.score(val, self.val_images, stop) if val is not None and due else None
        except StopRequestedError:
            self._stop()
        progress.losses, progress.epochs = [], epoch + 1
        if val is None or scores is None:
            if last:
                self._keep(epoch + 1, [], None)
            return
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
            tuned = tune_thresholds(scores, split_targets(val, settings.data.difficult).counts, settings.thresholds)
            kept = self._keep(epoch + 1, tuned, evaluation)
            if self.fabric.is_global_zero:
                model = model_record(kept, val, split_images(self.identity), precision=settings.run.precision)
                self.folder.write_metrics(replace(evaluation, model=model).to_json())

    def score(
        self, manifest: Manifest, images: Sequence[LabelledDataset] | None, stop: threading.Event | None = None
    ) -> np.ndarray:
        """Probabilities of a split by the evaluated weights; the processes' unpadded shards joined.

        Raises:
            StopRequestedError: ``stop`` was set on the way. With several processes, evaluation is finished first.
        """
        return score_split(
            self.learner.evaluated,
            manifest,
            self.setup.preprocessing,
            settings=self.settings.data,
            fabric=self.fabric,
            images=images,
            stop=stop if self.fabric.world_size == 1 else None,
        )

    def save(self, *, first: bool = False) -> None:
        """Write the run's state, from which ``resume`` continues exactly."""
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = self.saved_at = now
        state = {
            "settings": self.settings.model_dump(mode="json"),
            "data": self.identity,
            "processes": self.fabric.world_size,
            "progress": asdict(self.progress),
            **self.learner.state_dict(),
        }
        self.folder.save_state(state, first=first)
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
        # Read, as an earlier session may have kept it; the user may have moved it since.
        if self.fabric.is_global_zero and self.folder.bundle.exists():
            warn_of_untuned(read_metadata(self.folder.bundle))
        self.folder.log.write(
            "end",
            step=progress.step,
            best_epoch=result.best_epoch,
            val_mAP=result.val_map,
            minutes=result.minutes,
            peak_memory_bytes=result.peak_memory_bytes,
        )
        return result

    def _teacher(self) -> Teacher | None:
        distill, setup = self.settings.optim.distill, self.setup
        if not distill.bundle:
            return None
        return Teacher(distill, setup.labels.names, preprocessing=setup.preprocessing, fabric=self.fabric)

    def _stop(self) -> NoReturn:
        """End as asked; the run can be resumed."""
        self.save()
        self.folder.log.write("interrupted", step=self.progress.step)
        raise Interrupted(self.folder.path)

    def _rehearse(self) -> None:
        few, val = 2 * self.settings.data.eval_batch_size, self.setup.val
        rehearse(
            self.learner,
            next(iter(self.batches.loader(0, 0))),
            lambda: self.score(val.first(few), None) if val else None,
            settings=self.settings,
        )

    def _claim(self) -> None:
        """Take the folder: its first file is the checkpoint. A bundle is written for trial, and removed."""
        checkpoint, bundle = self.learner.bytes_on_disk()
        if not self.settings.run.folder:
            name = claim_default_folder(self.settings) if self.fabric.is_global_zero else ""
            run = self.settings.run.model_copy(update={"folder": self.fabric.broadcast(name)})
            self.settings = self.settings.model_copy(update={"run": run})
            self.folder = RunFolder(Path(run.folder), writes=self.fabric.is_global_zero)
        if self.fabric.is_global_zero:
            self.folder.require_usable(2 * (checkpoint + bundle))
        self.save(first=True)
        metadata = compose_metadata(self.setup, self.settings, epoch=1, tuned=[], evaluation=None)
        self.folder.try_bundle(self.learner.evaluated, self.setup.inputs, metadata)

    def _begin(self) -> None:
        """The settings, and the first event of the log."""
        setup = self.setup
        warn_of_overlap(self.identity)
        warn_of_idle_steps(self.settings.optim)
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
            steps_per_epoch=self.batches.steps_per_epoch,
        )

    def _refuse(self, error: NonFinite) -> TrainingError:
        names = [str(self.setup.train.path(position)) for position in error.positions]
        return TrainingError(
            f"the {error.what} is {error.value} at step {error.step}; images of that batch:\n    "
            + "\n    ".join(names),
            where=f"{self.folder.path}; its last.pt is the state of the last checkpoint",
            hint="lower optim.lr, set optim.clip_norm, or use precision 32-true",
        )

    def _keep(self, epoch: int, tuned: list[TunedThreshold], evaluation: Evaluation | None) -> Metadata:
        """Make the evaluated weights the bundle; without an evaluation, all thresholds are 0.5."""
        setup = self.setup
        metadata = compose_metadata(setup, self.settings, epoch=epoch, tuned=tuned, evaluation=evaluation)
        return self.folder.keep(self.learner.evaluated, setup.inputs, metadata, split_images(self.identity))
