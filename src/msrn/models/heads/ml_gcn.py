"""ML-GCN: classifiers generated from label embeddings by graph convolution (Chen et al., CVPR 2019, arXiv 1904.03582).

    deepest feature map (B, C, H, W) ── maximum of each channel ──► (B, C)                               section 3.3
    label embeddings (L, E) ── two graph convolutions over the label graph ──► classifiers W (L, C)      section 3.3
    logits = pooled W^T

The label graph, thresholded and re-weighted as in section 3.4, is that of the settings ``labels.*``; the p = 0.2 of the
paper is ``labels.reweight`` 0.25 = p / (1 - p), because the normalised matrix has no scale.

Where we differ: nowhere but in the embeddings, if the settings name others than GloVe 6B of 300 dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from msrn import registry
from msrn.models.heads.base import Head, HeadOutput, LabelInput, LabelInputs, at_least_float32
from msrn.models.layers import Constant

__all__ = ["MLGCN", "LabelClassifiers", "Options"]

SLOPE = 0.2
"""Negative slope of the leaky ReLU (section 4.1)."""


class Options(registry.Options):
    """Options of ML-GCN."""

    name: str = "ml_gcn"
    width: Annotated[int, Field(ge=1)] = Field(1024, description="width of the labels between the graph convolutions")


class MLGCN(Head):
    """The channel-wise maximum of the deepest map times one generated classifier per label.

    There are ``E width + width C`` weights, whatever the number of labels, and no biases.
    """

    classifiers: nn.Module

    def __init__(self, options: Options, *, channels: Sequence[int], labels: LabelInputs) -> None:
        super().__init__()
        assert labels.embeddings is not None
        assert labels.graph is not None
        self.classifiers = LabelClassifiers(labels.embeddings, labels.graph, hidden=options.width, width=channels[-1])

    @classmethod
    def needs(cls, options: Options) -> frozenset[LabelInput]:
        """Both."""
        return frozenset({"embeddings", "graph"})

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """``(B, C, H, W)``, the last of the maps, to logits ``(B, L)``."""
        pooled, without_autocast = at_least_float32(feature_maps[-1].amax(dim=(2, 3)))  # (B, C)
        with without_autocast:
            return HeadOutput(F.linear(pooled, self.classifiers()), {})

    def precompute(self) -> None:
        """Replace the graph convolutions by the classifiers that they generate."""
        self.classifiers = Constant(self.classifiers())


class LabelClassifiers(nn.Module):
    """Two graph convolutions ``A X W`` over the label graph A, a leaky ReLU between them.

    Args:
        embeddings: ``(L, E)``.
        graph: A ``(L, L)``.
        hidden: width between the two.
        width: C, width of the classifiers.
    """

    embeddings: Tensor
    graph: Tensor

    def __init__(self, embeddings: Tensor, graph: Tensor, *, hidden: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings.detach().clone().float(), persistent=False)
        self.register_buffer("graph", graph.detach().clone().float(), persistent=False)
        sizes = ((embeddings.shape[1], hidden), (hidden, width))
        self.weights = nn.ParameterList(
            torch.empty(size).uniform_(-1 / math.sqrt(size[1]), 1 / math.sqrt(size[1])) for size in sizes
        )

    def forward(self) -> Tensor:
        """The classifiers ``(L, C)``, in float32 whatever the autocast state."""
        with torch.autocast(self.embeddings.device.type, enabled=False):
            first, second = self.weights
            hidden = F.leaky_relu((self.graph @ self.embeddings) @ first, SLOPE)  # (L, hidden)
            return (self.graph @ hidden) @ second
