"""How far does the backbone get alone? Average pool and one linear layer: the baseline beside every claim."""

from __future__ import annotations

from torch import Tensor, nn

from msrn.models.backbone import FeatureTaps
from msrn.models.classifier import ModelOutput, Tagger

__all__ = ["AveragePool"]


class AveragePool(Tagger):
    """Global average of the deepest tap, then a linear layer. It reads no label semantics."""

    def __init__(self, backbone: FeatureTaps, *, num_labels: int) -> None:
        super().__init__(backbone)
        self.output = nn.Linear(backbone.channels[-1], num_labels)

    def forward(self, image: Tensor) -> ModelOutput:
        """``image (B, 3, H, W)``, normalised as ``backbone.statistics`` says, to logits ``(B, L)``."""
        deepest = self.backbone(image)[-1]  # (B, C, H, W)
        return ModelOutput(self.output(deepest.mean(dim=(2, 3))), {})
