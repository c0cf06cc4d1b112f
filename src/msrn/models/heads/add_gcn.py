"""ADD-GCN: a graph over label vectors, built anew for each image (Ye et al., ECCV 2020, arXiv 2012.02994).

    deepest feature map (B, C, H, W)
      ├ 1x1 convolution ──► activation maps M (B, L, N) ── maximum over positions ──► scores s_m (B, L)
      └ 1x1 convolution ──► X (B, N, D);  V = sigmoid(M) X (B, L, D)        semantic attention module, section 3.2
           └ V + static graph convolution ──► H;  H + dynamic graph convolution ──► Z (B, L, D)        section 3.3
                └ one output vector per label ──► scores s_z (B, L)
    logits = (s_m + s_z) / 2                                                                           section 3.4

Where we differ: what a graph convolution gives is added to its input, as in the authors' program. That program also has
a batch norm in the dynamic graph, a second activation in each graph convolution, and reads the dynamic graph
transposed; the paper has none of these, nor do we.
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
from msrn.models.heads.base import Head, HeadOutput, LabelInputs, at_least_float32
from msrn.models.layers import PerLabelLinear

__all__ = ["ADDGCN", "DynamicGraph", "Options", "StaticGraph"]

SLOPE = 0.2
"""Negative slope of the leaky ReLU."""


class Options(registry.Options):
    """Options of ADD-GCN."""

    name: str = "add_gcn"
    width: Annotated[int, Field(ge=1)] = Field(1024, description="D, width of the label vectors")


class ADDGCN(Head):
    """Content-aware label vectors, related by a learned static graph and by one that depends on the image.

    There are ``L C + D (C + 1) + L^2 + 3 D (D + 1) + L (2 D + 1) + L (D + 1)`` weights.
    """

    def __init__(self, options: Options, *, channels: Sequence[int], labels: LabelInputs) -> None:
        super().__init__()
        count, width = len(labels), options.width
        self.activations = nn.Conv2d(channels[-1], count, 1, bias=False)
        self.projection = nn.Conv2d(channels[-1], width, 1)
        self.static_graph = StaticGraph(count, width)
        self.dynamic_graph = DynamicGraph(count, width)
        self.output = PerLabelLinear(count, width)

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """``(B, C, H, W)``, the last of the maps, to logits ``(B, L)``."""
        activations = self._activations(feature_maps)  # (B, L, N)
        features = self.projection(feature_maps[-1]).flatten(2).transpose(1, 2)  # (B, N, D)
        vectors = activations.sigmoid() @ features  # (B, L, D)
        vectors = vectors + self.static_graph(vectors)
        vectors = vectors + self.dynamic_graph(vectors)
        return HeadOutput((activations.amax(dim=2) + self.output(vectors)) / 2, {})

    def attention(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The sigmoid of the activation maps, over its sum, for the last of the maps."""
        activated = self._activations(feature_maps).sigmoid()
        shares = activated / activated.sum(dim=2, keepdim=True)
        return (shares.view(*shares.shape[:2], *feature_maps[-1].shape[2:]),)

    def _activations(self, feature_maps: Sequence[Tensor]) -> Tensor:
        deepest, without_autocast = at_least_float32(feature_maps[-1])
        with without_autocast:
            maps: Tensor = self.activations(deepest).flatten(2)
            return maps


class StaticGraph(nn.Module):
    """``LeakyReLU(A V W)`` with a learned graph A ``(L, L)`` that all images share."""

    def __init__(self, num_labels: int, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(num_labels)
        self.graph = nn.Parameter(torch.empty(num_labels, num_labels).uniform_(-bound, bound))
        self.output = nn.Linear(width, width)

    def forward(self, vectors: Tensor) -> Tensor:
        """``(B, L, D)`` to ``(B, L, D)``."""
        return F.leaky_relu(self.output(self.graph @ vectors), SLOPE)


class DynamicGraph(nn.Module):
    """``LeakyReLU(A H W)`` with a graph A ``(B, L, L)`` of each image: ``A_ij = sigmoid(w_i . [h_j; g] + b_i)``.

    g, the image as a whole, is a linear layer of the mean over label vectors. The product with the joined vector is
    computed as the sum of two, so that L copies of g are never made.
    """

    def __init__(self, num_labels: int, width: int) -> None:
        super().__init__()
        self.whole = nn.Linear(width, width)
        self.edges = nn.Linear(width, num_labels, bias=False)
        self.edges_of_whole = nn.Linear(width, num_labels)
        self.output = nn.Linear(width, width)

    def forward(self, vectors: Tensor) -> Tensor:
        """``(B, L, D)`` to ``(B, L, D)``."""
        whole = self.edges_of_whole(self.whole(vectors.mean(dim=1)))  # (B, L)
        graph = (self.edges(vectors).transpose(1, 2) + whole.unsqueeze(2)).sigmoid()  # (B, L, L)
        return F.leaky_relu(self.output(graph @ vectors), SLOPE)
