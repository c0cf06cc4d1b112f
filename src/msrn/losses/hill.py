"""Hill loss for labels that are missing from the annotation (Zhang et al., arXiv 2112.07368, section "Hill loss").

Negatives get a loss in the shape of a hill: it falls again where the model is sure of a label that the annotation calls
negative, as it is then often a positive that was forgotten. Positives get the focal loss with a margin.

Where we differ: the authors' program sums over images and labels; here the mean over the known labels of an image is
taken, then over images, as in ``soft_margin``. A target between 0 and 1 is the mixture of the two terms.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from msrn import registry
from msrn.losses.base import LabelCounts, Loss, known_entries, mean_over_known
from msrn.losses.focal import focal_term

__all__ = ["Hill", "Options"]


class Options(registry.Options):
    """Options of the Hill loss; the defaults are the paper's."""

    name: str = "hill"
    hill: Annotated[float, Field(ge=1)] = Field(1.5, description="lambda of a negative's loss (lambda - p) p^2")
    margin: Annotated[float, Field(ge=0)] = Field(1.0, description="taken off a positive's logit; the paper: 0.5 to 1")
    gamma: Annotated[float, Field(ge=0)] = Field(2.0, description="focusing of positives")


class Hill(Loss):
    """``(lambda - p) p^2`` of a negative; ``-(1 - q)^gamma log q`` of a positive, ``q = sigmoid(logit - margin)``."""

    def __init__(self, options: Options, *, counts: LabelCounts) -> None:
        super().__init__()
        self.options = options

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar."""
        logits, target, known = known_entries(logits, target)
        probability = logits.sigmoid()
        negative = (self.options.hill - probability) * probability.square()
        positive = focal_term(logits - self.options.margin, self.options.gamma)
        return mean_over_known(target * positive + (1 - target) * negative, known)
