"""Asymmetric loss, ASL (Ridnik et al., ICCV 2021, arXiv 2009.14119, section 2: asymmetric focusing and probability
shifting, joined in "ASL definition").

Where we differ: the authors' program sums over images and labels; here the mean over the known labels of an image is
taken, then over images, as in ``soft_margin``, so a learning rate tuned for the sum with plain SGD has to be multiplied
by B L (AdamW does not care). The program bounds logarithms at 1e-8; ours are exact. The adaptive asymmetry of the
paper is left out. A target between 0 and 1 is the mixture of the two terms.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msrn import registry
from msrn.losses.base import LabelCounts, Loss, known_entries, mean_over_known

__all__ = ["ASL", "Options"]


class Options(registry.Options):
    """Options of the asymmetric loss; the defaults are those of the paper's experiments on COCO."""

    name: str = "asl"
    gamma_positive: Annotated[float, Field(ge=0)] = Field(0.0, description="focusing of positives")
    gamma_negative: Annotated[float, Field(ge=0)] = Field(4.0, description="focusing of negatives")
    clip: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05, description="m: negatives with a probability up to this have no part in the loss; 0: all have"
    )
    focusing_gradient: bool = Field(
        True, description="let gradients through the focusing weights, as defined; false: as the authors trained"
    )


class ASL(Loss):
    """``-(1 - p)^g+ log p`` of a positive, ``-q^g- log(1 - q)`` of a negative, where ``q = max(p - clip, 0)``."""

    def __init__(self, options: Options, *, counts: LabelCounts) -> None:
        super().__init__()
        self.options = options

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar."""
        logits, target, known = known_entries(logits, target)
        positive = self._focused(F.logsigmoid(-logits), self.options.gamma_positive) * -F.logsigmoid(logits)
        return mean_over_known(target * positive + (1 - target) * self._negative(logits), known)

    def _negative(self, logits: Tensor) -> Tensor:
        clip, gamma = self.options.clip, self.options.gamma_negative
        if not clip:
            return self._focused(F.logsigmoid(logits), gamma) * -F.logsigmoid(-logits)
        probability = logits.sigmoid()
        counts = probability > clip
        # Entries that do not count are replaced: the logarithm of their shifted probability does not exist.
        log_shifted = (probability - clip).where(counts, 0.5).log()
        term = self._focused(log_shifted, gamma) * -((-logits).sigmoid() + clip).log()
        return term.where(counts, torch.zeros_like(term))

    def _focused(self, log_weight: Tensor, gamma: float) -> Tensor:
        """``weight^gamma``, from the logarithm of the weight."""
        weight = (gamma * log_weight).exp()
        return weight if self.options.focusing_gradient else weight.detach()
