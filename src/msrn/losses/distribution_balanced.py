"""Distribution-balanced loss for long-tailed label sets (Wu et al., ECCV 2020, arXiv 2007.09654): re-balanced weighting
(section 3.1), negative-tolerant regularisation (section 3.2), and the focal form that the paper reports best.

Where we differ: counts are known positives and negatives, so that unknown entries do not pass for negatives; a label
without any is counted as half an image, where the paper divides by 0. Like the authors' program, and unlike the paper's
formula, we divide the bias by lambda and multiply the focal form by a constant. The mean over the known labels of an
image is taken, then over images: with all labels known, the paper's. A target between 0 and 1 is the mixture of the two
terms, and counts as that share of a positive in the weights.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from msrn import registry
from msrn.losses.base import LabelCounts, Loss, known_entries, mean_over_known
from msrn.losses.focal import focal_term

__all__ = ["DistributionBalanced", "Options"]


class Options(registry.Options):
    """Options of the distribution-balanced loss; the defaults are the paper's for COCO-MLT."""

    name: str = "distribution_balanced"
    alpha: Annotated[float, Field(ge=0)] = Field(0.1, description="smallest weight of an entry")
    beta: Annotated[float, Field(gt=0)] = Field(10.0, description="steepness of the weights' smoothing")
    mu: float = Field(0.2, description="centre of the weights' smoothing; 0.3 for VOC-MLT")
    negative_scale: Annotated[float, Field(ge=1)] = Field(
        2.0, description="lambda: how far negatives are tolerated; 1: not, 5 for VOC-MLT"
    )
    bias: Annotated[float, Field(ge=0)] = Field(0.05, description="kappa: how far a label's share moves its logit")
    gamma: Annotated[float, Field(ge=0)] = Field(2.0, description="focusing of both terms; 0: none")
    scale: Annotated[float, Field(gt=0)] = Field(2.0, description="factor of the whole loss")


class DistributionBalanced(Loss):
    """Per entry ``w (t f(z) + (1 - t) f(-lambda z) / lambda)``, where ``f`` is the focal term.

    ``z = x - (kappa / lambda) log(1 / share - 1)`` with a label's share of positives in training.
    ``w = alpha + sigmoid(beta (r - mu))`` with ``r = (1 / n) / sum_positives (1 / n)``: how often an image would be
    drawn for this label, over how often it is drawn for all its labels; ``n`` counts positives in training.
    """

    inverse: Tensor
    shift: Tensor

    def __init__(self, options: Options, *, counts: LabelCounts) -> None:
        super().__init__()
        self.options = options
        positives, negatives = counts.positives.clamp(min=0.5), counts.negatives.clamp(min=0.5)
        self.register_buffer("inverse", 1 / positives)  # (L,)
        self.register_buffer("shift", options.bias / options.negative_scale * (negatives / positives).log())

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar."""
        logits, target, known = known_entries(logits, target)
        options, inverse = self.options, self.inverse.to(logits.dtype)
        drawn = (target * inverse).sum(dim=1, keepdim=True)  # (B, 1)
        rate = inverse / drawn.clamp(min=1e-12)  # an image without a positive: the largest weight, as in the paper
        weight = options.alpha + (options.beta * (rate - options.mu)).sigmoid()
        shifted, factor = logits - self.shift.to(logits.dtype), options.negative_scale
        positive = focal_term(shifted, options.gamma)
        negative = focal_term(-factor * shifted, options.gamma) / factor
        return options.scale * mean_over_known(weight * (target * positive + (1 - target) * negative), known)
