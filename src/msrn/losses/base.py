"""The contract of a loss: logits and target in, a scalar out; what it knows of the training split and of progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

__all__ = ["LabelCounts", "Loss", "known_entries", "mean_over_known"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelCounts:
    """Known positives and known negatives of each label in the training split, both ``(L,)`` in float32."""

    positives: Tensor
    negatives: Tensor

    @classmethod
    def of(cls, target: Tensor) -> LabelCounts:
        """Count a target ``(n, L)`` in {1, 0, nan}."""
        return cls((target == 1).sum(dim=0).float(), (target == 0).sum(dim=0).float())


class Loss(nn.Module):
    """A loss, built as ``Loss(options, counts=LabelCounts)`` and called as ``loss(logits (B, L), target (B, L))``.

    A target is 1, 0 or nan (unknown); where ``soft_targets`` is true, any number from 0 to 1. An unknown entry has no
    part in value or gradient, even if its logit is infinite; a batch without a known entry gives 0, with a gradient of
    0. Half precision is computed in float32.
    """

    soft_targets: ClassVar[bool] = True
    """Whether targets between 0 and 1 are defined, as mixup and label smoothing make them."""

    compares_images: ClassVar[bool] = False
    """Whether an image's part depends on the others of its micro-batch. If not, the loss of a batch is the mean of the
    losses of its equal shares, so that accumulation and several processes change nothing."""

    epoch: int = 0
    """Epochs finished so far. Training sets it before each step, from the number of the step, so that a resumed run
    continues exactly."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar, in float32 (float64 for logits in float64)."""
        raise NotImplementedError


def known_entries(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in at least float32, target and mask of known entries, all ``(B, L)``; 0 where an entry is unknown.

    Unknown logits are replaced before anything is computed of them: not even an infinite one reaches the gradient.
    """
    known = ~target.isnan()
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype).where(known, 0.0), target.to(dtype).where(known, 0.0), known


def mean_over_known(entries: Tensor, known: Tensor) -> Tensor:
    """Mean over the known labels of an image, then over the ``B`` images; an image without a known label counts as 0.

    Every image weighs the same, however many of its labels are known.
    """
    per_image = entries.where(known, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)  # (B,)
    return per_image.mean()
