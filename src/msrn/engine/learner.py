"""What training changes: weights, optimizer state and EMA, and the step that changes them."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from msrn import registry
from msrn.config import Settings
from msrn.data.dataset import on_device
from msrn.data.mixes.base import Mix
from msrn.engine.distributed import share_norms
from msrn.engine.optim import WeightEMA, build_optimizer, lr_factor
from msrn.engine.sam import ascended, norms, unchanged_buffers
from msrn.engine.teacher import Teacher
from msrn.engine.unused import hold_unused
from msrn.errors import BundleError
from msrn.losses.base import Loss
from msrn.models.classifier import MultiLabelClassifier, memory_layout
from msrn.models.state_files import first_line

__all__ = ["Learner", "NonFinite"]

logger = logging.getLogger(__name__)


@dataclass
class NonFinite(Exception):  # noqa: N818 - the trainer turns it into an error that names the images
    """A loss or a gradient was not finite: which, its value, the step, and the positions of that batch's images."""

    what: str
    value: float
    step: int
    positions: list[int]


class Learner:
    """A model in training, on one process.

    Args:
        model: on the CPU; it is moved to the fabric's device.
        loss: what is minimised, beside the head's auxiliary losses.
        settings: the whole tree.
        fabric: device, precision and the other processes.
        state: from ``state_dict``, to continue from.
        teacher: what the logits are trained on beside the targets.

    Raises:
        BundleError: the state does not fit the model or the settings.
    """

    def __init__(
        self,
        model: MultiLabelClassifier,
        loss: Loss,
        *,
        settings: Settings,
        fabric: Fabric,
        state: dict[str, Any] | None,
        teacher: Teacher | None = None,
    ) -> None:
        self.settings = settings
        self.fabric = fabric
        self.layout = memory_layout(model)
        model = model.to(memory_format=self.layout)
        if settings.data.feature_cache:  # maps come as they are stored, channels first, and stay so
            model.head.to(memory_format=torch.contiguous_format)
        model.backbone.freeze(settings.model.freeze)
        hold_unused(model, settings.data.image_size)
        weights = list(model.backbone.parameters())
        free = sum(weight.numel() for weight in weights if weight.requires_grad)
        logger.info("%s of %s backbone weights are trained", f"{free:,}", f"{sum(map(Tensor.numel, weights)):,}")
        if state:
            with _damage_named(settings):
                model.load_state_dict(state["model"])
        self.loss = loss.to(fabric.device)
        self.teacher = teacher
        self.mix: Mix = registry.load("mix", settings.optim.mix.name)(settings.optim.mix)
        self.net: MultiLabelClassifier = share_norms(model, fabric)
        self.model, self.optimizer = fabric.setup(self.net, build_optimizer(self.net, settings.optim))
        self.ema = WeightEMA(self.net, settings.optim.ema) if settings.optim.ema else None
        if state:
            with _damage_named(settings):
                self.optimizer.load_state_dict(state["optimizer"])
                fabric.strategy.precision.load_state_dict(state["precision"])
                if self.ema:
                    self.ema.model.load_state_dict(state["ema"])
        self._scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
        # step, its loss and the norm of its gradient on the device, its images
        self._unchecked: list[tuple[int, Tensor, Tensor, list[int]]] = []

    @property
    def evaluated(self) -> MultiLabelClassifier:
        """The weights that are evaluated and kept: the EMA, if there is one."""
        return self.ema.model if self.ema else self.net

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that a later ``Learner`` continues from exactly."""
        state = {
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        return state | ({"ema": self.ema.model.state_dict()} if self.ema else {})

    def bytes_on_disk(self) -> tuple[int, int]:
        """How large the checkpoints of the run and its bundle will be, about: for a disk that is too small."""
        optim = self.settings.optim
        held = sum(value.nbytes for value in self.net.state_dict().values())
        trained = sum(weight.nbytes for weight in self.net.parameters() if weight.requires_grad)
        moments = 2 if optim.name == "adamw" else int(optim.momentum > 0)
        return held * (1 + (self.ema is not None)) + moments * trained, held

    def train(self) -> None:
        """Training mode, with the norms held that the settings hold."""
        self.model.train()
        self.net.backbone.hold_norms(everywhere=self.settings.model.freeze_norm)

    def rehearse(self, batch: dict[str, Any]) -> None:
        """Forward and backward over one micro-batch, after which everything is as before.

        Raises:
            RuntimeError, ValueError and others: as torch and the network raise them where sizes do not fit.
        """
        self.train()
        with unchanged_buffers(self.net.modules()):
            self.fabric.backward(self._loss(batch, 0, 0))
        self.optimizer.zero_grad()

    def step(self, number: int, micro_batches: Sequence[dict[str, Any]], *, steps_per_epoch: int) -> None:
        """Forward and backward over the micro-batches of one global batch, then one step of the optimizer.

        Nothing here waits for the device.

        Args:
            number: optimizer steps done before this one.
            micro_batches: this process's part.
            steps_per_epoch: of the learning-rate schedule.
        """
        settings = self.settings
        factor = lr_factor(number, steps_per_epoch=steps_per_epoch, settings=settings.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.loss.epoch = number // steps_per_epoch
        loss = self._backward(number, micro_batches)
        if settings.optim.sam:
            with ascended(self.net, settings.optim.sam), unchanged_buffers(norms(self.net)):
                self._backward(number, micro_batches)
        norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.net, number + 1)
        positions = [int(index) for batch in micro_batches for index in batch["index"]]
        self._unchecked.append((number, loss, norm, positions))

    def _backward(self, number: int, micro_batches: Sequence[dict[str, Any]]) -> Tensor:
        """Add the gradient of a step's loss to the weights; the loss. Called again, it draws the same numbers."""
        fabric = self.fabric
        torch.manual_seed(_mix(self.settings.run.seed, number, fabric.global_rank))
        total = torch.zeros((), device=fabric.device)
        for place, batch in enumerate(micro_batches, start=1):
            with fabric.no_backward_sync(self.model, enabled=place < len(micro_batches)):
                loss = self._loss(batch, number, place) / len(micro_batches)
                fabric.backward(loss)
            total += loss.detach()
        return total

    def _loss(self, batch: dict[str, Any], number: int, place: int) -> Tensor:
        """The loss of the ``place``-th micro-batch of a step, a scalar; its images are mixed as the settings ask."""
        image = on_device(batch["image"], self.fabric.device, self.layout)
        target = batch["target"].to(self.fabric.device, non_blocking=True)
        draws = np.random.default_rng([self.settings.run.seed, 12, number, self.fabric.global_rank, place])
        image, target = self.mix(image, target, draws)
        output = self.model(image)
        loss: Tensor = self.loss(output.logits, target) + sum(output.aux_losses.values())
        if self.teacher:
            assert isinstance(image, Tensor)  # the settings refuse a teacher of features
            loss = loss + self.teacher.loss(image, output.logits)
        return loss

    def _clip(self) -> Tensor:
        """Clip the gradient where the settings ask for it; its norm before that, on the device.

        With a loss scaler the norm is given as 0: the scaler skips a step whose gradient is infinite, and halves its
        scale. Nothing may raise before it has seen that.
        """
        bound = self.settings.optim.clip_norm
        norm: Tensor | None = None
        if bound:
            norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=bound, error_if_nonfinite=False)
        if self._scaled:
            return torch.zeros((), device=self.fabric.device)
        if norm is None:
            gradients = [weight.grad for weight in self.net.parameters() if weight.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
        return norm.detach().float()

    def check(self, stop: threading.Event) -> tuple[list[float], bool]:
        """Losses of the steps since the last check, mean over processes, and whether a process was asked to stop.

        This reads from the device, and waits for it.

        Raises:
            NonFinite: with the first of them.
        """
        steps, losses, norms, positions = zip(*self._unchecked, strict=True)
        self._unchecked = []
        own = torch.stack(losses)
        both = torch.stack((own, torch.stack(norms)))  # (2, steps)
        if not bool(both.isfinite().all()):
            first = int(both.isfinite().all(dim=0).logical_not().nonzero()[0])
            loss, norm = both[:, first].tolist()
            what, value = ("gradient's norm", norm) if math.isfinite(loss) else ("loss", loss)
            raise NonFinite(what, value, steps[first], positions[first])
        asked = own.new_tensor([float(stop.is_set())])
        shared = torch.as_tensor(self.fabric.all_reduce(torch.cat((own, asked)), reduce_op="mean")).tolist()
        return shared[:-1], shared[-1] > 0


@contextmanager
def _damage_named(settings: Settings) -> Iterator[None]:
    """Turn what torch raises on a checkpoint that does not fit the run into one of our errors."""
    try:
        yield
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        message = f"the checkpoint is damaged: {first_line(error)}"
        raise BundleError(message, settings.run.folder, "restore it, or start a new run") from error


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
