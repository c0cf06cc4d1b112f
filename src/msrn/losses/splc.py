"""Self-paced loss correction, SPLC, for labels that are missing from the annotation (Zhang et al., arXiv 2112.07368,
section "Self-paced loss correction").

After the first epochs, a negative that the model is sure of is trained as the positive that it probably is. Both terms
are focal, with a margin for annotated positives, as in the authors' program.

Where we differ: the program sums over images and labels; here the mean over the known labels of an image is taken, then
over images, as in ``soft_margin``. A target between 0 and 1 is the mixture of the two terms; its negative part is
corrected. Entries that are marked unknown stay unknown: they are masked, not corrected.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from msrn import registry
from msrn.losses.base import LabelCounts, Loss, known_entries, mean_over_known
from msrn.losses.focal import focal_term

__all__ = ["SPLC", "Options"]


class Options(registry.Options):
    """Options of self-paced loss correction; the defaults are the paper's."""

    name: str = "splc"
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.6, description="tau: a negative with a higher probability is taken as positive"
    )
    start_epoch: Annotated[int, Field(ge=0)] = Field(1, description="epochs to finish before anything is corrected")
    margin: Annotated[float, Field(ge=0)] = Field(1.0, description="taken off the logit of an annotated positive")
    gamma: Annotated[float, Field(ge=0)] = Field(2.0, description="focusing of both terms")


class SPLC(Loss):
    """Focal terms; from ``start_epoch`` on, negatives with ``p > threshold`` get the term of a positive."""

    def __init__(self, options: Options, *, counts: LabelCounts) -> None:
        super().__init__()
        self.options = options

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar."""
        logits, target, known = known_entries(logits, target)
        gamma = self.options.gamma
        positive, negative = focal_term(logits - self.options.margin, gamma), focal_term(-logits, gamma)
        if self.epoch >= self.options.start_epoch:
            missing = logits.detach().sigmoid() > self.options.threshold
            negative = focal_term(logits, gamma).where(missing, negative)
        return mean_over_known(target * positive + (1 - target) * negative, known)
