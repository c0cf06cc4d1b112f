"""Focal loss (Lin et al., ICCV 2017, arXiv 1708.02002, section 3.2, equation 5), one binary decision per label.

Where we differ: the paper sums over anchors and divides by the number of matched ones; here the mean over the known
labels of an image is taken, then over images, as in ``soft_margin``. A target between 0 and 1 is the mixture of the two
terms, ``t`` parts of the positive and ``1 - t`` of the negative; the paper has none.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msrn import registry
from msrn.losses.base import LabelCounts, Loss, known_entries, mean_over_known

__all__ = ["Focal", "Options", "focal_term"]


class Options(registry.Options):
    """Options of the focal loss; the defaults are the paper's."""

    name: str = "focal"
    gamma: Annotated[float, Field(ge=0)] = Field(2.0, description="how much decided entries are played down; 0: not")
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        0.25, description="weight of positives, 1 - alpha of negatives; null: 1 for both"
    )


class Focal(Loss):
    """``-alpha (1 - p)^gamma log p`` of a positive, ``-(1 - alpha) p^gamma log(1 - p)`` of a negative."""

    def __init__(self, options: Options, *, counts: LabelCounts) -> None:
        super().__init__()
        self.gamma = options.gamma
        self.weights = (1.0, 1.0) if options.alpha is None else (options.alpha, 1 - options.alpha)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar."""
        logits, target, known = known_entries(logits, target)
        positive, negative = focal_term(logits, self.gamma), focal_term(-logits, self.gamma)
        of_positive, of_negative = self.weights
        return mean_over_known(of_positive * target * positive + of_negative * (1 - target) * negative, known)


def focal_term(logits: Tensor, gamma: float) -> Tensor:
    """``-(1 - p)^gamma log p`` of each entry; of ``-logits`` it is the term of a negative.

    The power is taken as an exponential of a logarithm, whose gradient is finite at ``p = 1`` for any ``gamma``.
    """
    return (gamma * F.logsigmoid(-logits)).exp() * -F.logsigmoid(logits)
