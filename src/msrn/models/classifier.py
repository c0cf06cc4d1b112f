"""What is a model, to everything that trains or uses one? One picture in, one logit per label out."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from msrn.models.backbone import FeatureTaps

__all__ = ["ModelOutput", "Tagger"]


class ModelOutput(NamedTuple):
    """What every model returns."""

    logits: Tensor
    """``(B, L)``."""
    aux: dict[str, Tensor]
    """Auxiliary losses by name: scalars, already weighted."""


class Tagger(nn.Module):
    """Base of all models: a backbone, ``forward(image) -> ModelOutput``, and ``fold`` for inference."""

    backbone: FeatureTaps

    def __init__(self, backbone: FeatureTaps) -> None:
        super().__init__()
        self.backbone = backbone

    def fold(self) -> None:
        """Turn whatever does not depend on pictures into constants; nothing by default."""
