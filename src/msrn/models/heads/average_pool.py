"""Average pooling and one linear layer: the baseline beside every claim."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from msrn import registry
from msrn.models.heads.base import Head, HeadOutput, LabelInputs, at_least_float32

__all__ = ["AveragePool", "Options"]


class Options(registry.Options):
    """Average pooling has no options."""

    name: str = "average_pool"


class AveragePool(Head):
    """Global average of the deepest feature map, then a linear layer: ``(C + 1) L`` weights."""

    def __init__(self, options: Options, *, channels: Sequence[int], labels: LabelInputs) -> None:
        super().__init__()
        self.output = nn.Linear(channels[-1], len(labels))

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """``(B, C, H, W)``, the last of the maps, to logits ``(B, L)``."""
        pooled, without_autocast = at_least_float32(feature_maps[-1].mean(dim=(2, 3)))  # (B, C)
        with without_autocast:
            return HeadOutput(self.output(pooled), {})
