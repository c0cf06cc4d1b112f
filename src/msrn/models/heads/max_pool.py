"""Max pooling and one linear layer: the baseline that ML-GCN and its successors compare with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from msrn import registry
from msrn.models.heads.base import Head, HeadOutput, LabelInputs, at_least_float32

__all__ = ["MaxPool", "Options"]


class Options(registry.Options):
    """Max pooling has no options."""

    name: str = "max_pool"


class MaxPool(Head):
    """Largest value of each channel of the deepest feature map, then a linear layer: ``(C + 1) L`` weights."""

    def __init__(self, options: Options, *, channels: Sequence[int], labels: LabelInputs) -> None:
        super().__init__()
        self.output = nn.Linear(channels[-1], len(labels))

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """``(B, C, H, W)``, the last of the maps, to logits ``(B, L)``."""
        pooled, without_autocast = at_least_float32(feature_maps[-1].amax(dim=(2, 3)))  # (B, C)
        with without_autocast:
            return HeadOutput(self.output(pooled), {})
