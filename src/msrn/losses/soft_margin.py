"""Multi-label soft margin: binary cross-entropy with logits over the known labels of each image.

Its options are label smoothing (Szegedy et al., CVPR 2016, section 7, with two outcomes in place of K) and weights from
the counts of the training split: the ratio of negatives to positives, or the effective number of images (Cui et al.,
CVPR 2019, arXiv 1901.05555, equation 2 of section 3 and section 4).

Where we differ: label smoothing moves both targets by half of epsilon, so that it does not depend on the number of
labels. The weights of Cui et al. have the mean 1 over labels, as ours, but no bound: a label with one positive among
thousands of images would take the whole loss.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from msrn import registry
from msrn.losses.base import LabelCounts, Loss, known_entries, mean_over_known

__all__ = ["Options", "SoftMargin", "soft_margin"]

MAX_WEIGHT, BETA = 20.0, 0.999


class Options(registry.Options):
    """Options of the soft margin loss; the defaults are the published loss."""

    name: str = "soft_margin"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="epsilon: targets become 1 - epsilon/2 and epsilon/2"
    )
    weights: Literal["none", "ratio", "effective"] = Field(
        "none",
        description="from the counts of the training split; ratio: a label's positives weigh as much together as its "
        "negatives do; effective: rare labels weigh more, by their effective number of images",
    )
    max_weight: Annotated[float, Field(ge=1)] | None = Field(
        None, description="ratio: largest weight of a positive; effective: of the rarest label, over the commonest; 20"
    )
    beta: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="effective: 0 weighs all labels the same, towards 1 by the inverse of their positives; 0.999"
    )

    @model_validator(mode="after")
    def _options_fit(self) -> Options:
        if self.max_weight is not None and self.weights == "none":
            raise ValueError("max_weight goes with weights ratio or effective")
        if self.beta is not None and self.weights != "effective":
            raise ValueError("beta goes with weights effective")
        return self


class SoftMargin(Loss):
    """``soft_margin`` with label smoothing and weights.

    For target ``t`` and ``p = sigmoid(logit)``: ``-w (w+ t log p + (1 - t) log(1 - p))``; by default w = w+ = 1.
    ``ratio``: ``w+ = negatives / positives``. ``effective``: ``w`` in proportion to ``1 / (1 - beta^positives)``, with
    mean 1 over labels.
    """

    positive_weight: Tensor | None
    label_weight: Tensor | None

    def __init__(self, options: Options, *, counts: LabelCounts) -> None:
        super().__init__()
        self.label_smoothing = options.label_smoothing
        positives, largest = counts.positives.clamp(min=1), options.max_weight or MAX_WEIGHT
        ratio = (counts.negatives / positives).clamp(1 / largest, largest)
        effective = 1 / (1 - (BETA if options.beta is None else options.beta) ** positives)
        effective = effective.clamp(max=largest * effective.min())
        effective = effective / effective.mean()
        self.register_buffer("positive_weight", ratio if options.weights == "ratio" else None)
        self.register_buffer("label_weight", effective if options.weights == "effective" else None)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar."""
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        return soft_margin(logits, target, label_weight=self.label_weight, positive_weight=self.positive_weight)


def soft_margin(
    logits: Tensor, target: Tensor, *, label_weight: Tensor | None = None, positive_weight: Tensor | None = None
) -> Tensor:
    """Multi-label soft margin: mean over the known labels of an image, then over images.

    Args:
        logits: ``(B, L)``.
        target: ``(B, L)``, from 0 to 1, or nan; nan is unknown and has no part in the loss. Every image weighs the
            same, however many of its labels are known. An image without a known label counts as zero, so that the mean
            does not depend on how a batch is divided; training leaves such images out beforehand.
        label_weight: ``(L,)``, of all entries of a label; None: 1.
        positive_weight: ``(L,)``, of the positive part of an entry; None: 1.

    Returns:
        A scalar in float32. Without unknown targets and weights it equals ``torch.nn.MultiLabelSoftMarginLoss``; with
        unknown targets, the partial BCE of Durand et al. (CVPR 2019, section 3.1) whose weight is one over the share of
        labels known.
    """
    known = ~target.isnan()
    if label_weight is None and positive_weight is None:
        # Torch's gradient is sigmoid(logit) - target here, finite even where a logit is infinite: nothing to replace.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        entries = F.binary_cross_entropy_with_logits(logits, target.nan_to_num(0.0).to(logits.dtype), reduction="none")
        return mean_over_known(entries, known)
    logits, target, known = known_entries(logits, target)
    entries = F.binary_cross_entropy_with_logits(
        logits, target, weight=_like(label_weight, logits), pos_weight=_like(positive_weight, logits), reduction="none"
    )
    return mean_over_known(entries, known)


def _like(weight: Tensor | None, logits: Tensor) -> Tensor | None:
    return None if weight is None else weight.to(logits.dtype)
