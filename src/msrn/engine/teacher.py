"""Distillation: a trained classifier, the teacher, says what the logits of a batch should be, too.

Multi-label knowledge distillation (Yang et al., ICCV 2023, arXiv 2308.06453): its first part, MLD, which compares the
probabilities of teacher and student label by label. Its label-wise embeddings are left out, as heads need not have any.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from msrn.bundle.metadata import WEIGHTS_FILE
from msrn.bundle.read import read_bundle
from msrn.config import DistillSettings
from msrn.data.transforms import Preprocessing
from msrn.errors import BundleError, ConfigError
from msrn.models.classifier import memory_layout

__all__ = ["Teacher", "binary_divergence"]

logger = logging.getLogger(__name__)

SHOWN = 20
"""Labels that a message names at most."""


class Teacher:
    """The classifier of a bundle, which is read now and never again. It is not trained, nor kept by the run.

    Labels are bound by name; those that the teacher lacks have no part. Images of other input statistics are rescaled
    for it. It sees what the student sees: the same crops, mixed in the same way.

    Args:
        settings: the section ``optim.distill``.
        labels: of the run.
        preprocessing: of the run.
        fabric: device and precision.

    Raises:
        BundleError: as ``read_bundle``, with the setting to change. ConfigError: no common label, or images of another
            size.
    """

    def __init__(
        self, settings: DistillSettings, labels: Sequence[str], *, preprocessing: Preprocessing, fabric: Fabric
    ) -> None:
        try:
            bundle = read_bundle(settings.bundle)
        except BundleError as error:
            hint = "say where its bundle or run folder is with --optim.distill.bundle"
            raise BundleError(f"the teacher cannot be read: {error.message}", error.where, hint) from error
        where = f"optim.distill.bundle {settings.bundle}"
        theirs = bundle.preprocessing
        if theirs.size != preprocessing.size:
            message = f"the teacher takes images of {theirs.size} px, and this run trains on {preprocessing.size} px"
            raise ConfigError(message, where, f"train with --data.image_size {theirs.size}, or choose another teacher")
        known = {name: column for column, name in enumerate(bundle.labels.names)}
        taught = [column for column, name in enumerate(labels) if name in known]
        if not taught:
            message = "the teacher has none of the labels of this run"
            raise ConfigError(message, where, f"it has {', '.join(bundle.labels.names[:SHOWN])}")
        if lacking := [name for name in labels if name not in known]:
            more = f" and {len(lacking) - SHOWN:,} more" if len(lacking) > SHOWN else ""
            logger.warning(
                "the teacher has %d of %d labels; without it: %s%s",
                len(taught), len(labels), ", ".join(lacking[:SHOWN]), more,
            )  # fmt: skip
        self.settings, self.fabric = settings, fabric
        self.digest = bundle.metadata.files[WEIGHTS_FILE]
        """SHA-256 of its weights: a resumed run must find the same."""
        self.model = bundle.model.to(fabric.device).to(memory_format=memory_layout(bundle.model))
        self.columns = torch.tensor(taught, device=fabric.device)
        """Of the run's labels, those that the teacher has; ``their_columns`` are the same labels in its own order."""
        self.their_columns = torch.tensor([known[labels[column]] for column in taught], device=fabric.device)
        ours_mean, ours_std, mean, std = (
            torch.tensor(each, device=fabric.device).view(1, -1, 1, 1)
            for each in (preprocessing.mean, preprocessing.std, theirs.mean, theirs.std)
        )
        self._scale, self._shift = ours_std / std, (ours_mean - mean) / std

    def loss(self, image: Tensor, logits: Tensor) -> Tensor:
        """The weighted divergence of a micro-batch, a scalar.

        Args:
            image: ``(B, 3, H, W)`` as the student sees it.
            logits: the student's, ``(B, L)``.
        """
        with torch.no_grad(), self.fabric.autocast():
            taught = self.model(image * self._scale + self._shift).logits
        student, teacher = logits[:, self.columns], taught[:, self.their_columns]
        return self.settings.weight * binary_divergence(student, teacher, temperature=self.settings.temperature)


def binary_divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """``T^2 KL(sigmoid(teacher / T) || sigmoid(student / T))`` of each label, mean over labels and images, in float32.

    One label is one decision between two outcomes. The paper has no temperature, so T = 1 is its loss but for the mean,
    which the paper takes over images alone; T and the factor ``T^2``, which keeps gradients at one scale, are those of
    Hinton et al. (arXiv 1503.02531, section 2).

    Args:
        student: logits ``(B, L)``.
        teacher: logits ``(B, L)``; no gradient goes there.
        temperature: T; larger ones compare how unsure the two are where both decide alike.
    """
    student, teacher = student.float() / temperature, teacher.detach().float() / temperature
    target = teacher.sigmoid()
    crossed = F.binary_cross_entropy_with_logits(student, target)
    own = F.binary_cross_entropy_with_logits(teacher, target)
    return temperature**2 * (crossed - own)
