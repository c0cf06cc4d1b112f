"""Multi-label soft margin: binary cross-entropy with logits over the known labels of each image."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from msrn import registry

__all__ = ["Options", "SoftMargin", "soft_margin"]


class Options(registry.Options):
    """The soft margin loss has no options."""

    name: str = "soft_margin"


class SoftMargin(nn.Module):
    """``soft_margin`` as a loss that can be chosen by name."""

    def __init__(self, options: Options) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar; see ``soft_margin``."""
        return soft_margin(logits, target)


def soft_margin(logits: Tensor, target: Tensor) -> Tensor:
    """Multi-label soft margin: mean over the known labels of an image, then over images.

    Args:
        logits: ``(B, L)``.
        target: ``(B, L)`` in {1, 0, nan}; nan is unknown and has no part in the loss. Every image weighs the same,
            however many of its labels are known. An image without a known label counts as zero, so that the mean does
            not depend on how a batch is divided; training leaves such images out beforehand.

    Returns:
        A scalar in float32. Without unknown targets it equals ``torch.nn.MultiLabelSoftMarginLoss``; with them, the
        partial BCE of Durand et al. (CVPR 2019, section 3.1) whose weight is one over the share of labels known.
    """
    known = ~target.isnan()
    entries = F.binary_cross_entropy_with_logits(logits.float(), target.nan_to_num(0.0), reduction="none")
    per_image = entries.where(known, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)  # (B,)
    return per_image.mean()
