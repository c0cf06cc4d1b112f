"""Two-way multi-label loss (Kobayashi, CVPR 2023, section 3): compare positives with negatives, over the labels of an
image and over the images of a label.

An image or a label without a known positive in the micro-batch has no part, as in the author's program.

Where we differ: for an empty set, that program has logits of -100; here the set contributes exactly nothing. Unknown
entries belong to neither set. Targets between 0 and 1 are not defined, as the loss is one of sets.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msrn import registry
from msrn.losses.base import LabelCounts, Loss, known_entries

__all__ = ["Options", "TwoWay"]

NOTHING = -1e30
"""A logit whose exponential is 0. Minus infinity would make the gradient of an empty set nan."""


class Options(registry.Options):
    """Options of the two-way loss; the defaults are the paper's."""

    name: str = "two_way"
    temperature_positive: Annotated[float, Field(gt=0)] = Field(
        4.0, description="of the soft minimum over positives; larger: all of them count, smaller: the worst"
    )
    temperature_negative: Annotated[float, Field(gt=0)] = Field(1.0, description="of the soft maximum over negatives")


class TwoWay(Loss):
    """``softplus(Tn log sum_N exp(x / Tn) + Tp log sum_P exp(-x / Tp))``: the mean over images plus that over labels.

    N and P are the known negatives and positives of an image, or of a label within the micro-batch.
    """

    soft_targets: ClassVar[bool] = False
    compares_images: ClassVar[bool] = True

    def __init__(self, options: Options, *, counts: LabelCounts) -> None:
        super().__init__()
        self.options = options

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar."""
        logits, target, known = known_entries(logits, target)
        positive, negative = known & (target == 1), known & (target == 0)
        return self._one_way(logits, positive, negative, dim=1) + self._one_way(logits, positive, negative, dim=0)

    def _one_way(self, logits: Tensor, positive: Tensor, negative: Tensor, *, dim: int) -> Tensor:
        tp, tn = self.options.temperature_positive, self.options.temperature_negative
        lowest = tp * torch.logsumexp((-logits / tp).where(positive, NOTHING), dim=dim)
        highest = tn * torch.logsumexp((logits / tn).where(negative, NOTHING), dim=dim)
        counts = positive.any(dim=dim)
        return F.softplus(lowest + highest).where(counts, 0.0).sum() / counts.sum().clamp(min=1)
