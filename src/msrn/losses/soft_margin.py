"""What is minimised? Multi-label losses over ``(B, L)`` with unknown targets left out."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["soft_margin"]


def soft_margin(logits: Tensor, target: Tensor) -> Tensor:
    """Multi-label soft margin: binary cross-entropy with logits, mean over known labels, then over pictures.

    Args:
        logits: ``(B, L)``.
        target: ``(B, L)`` in {1, 0, nan}; nan is unknown and has no part in the loss. Every picture weighs the same,
            however many of its labels are known. One of which nothing is known counts as zero, so that the mean over
            pictures is the same however a batch is shared out; training leaves such pictures out beforehand.

    Returns:
        A scalar in float32. Without unknown targets it equals ``torch.nn.MultiLabelSoftMarginLoss``; with them, the
        partial BCE of Durand et al. (CVPR 2019, section 3.1) whose weight is one over the share of labels known.
    """
    known = ~target.isnan()
    entries = F.binary_cross_entropy_with_logits(logits.float(), target.nan_to_num(0.0), reduction="none")
    per_picture = entries.where(known, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)  # (B,)
    return per_picture.mean()
