"""What is MSRN? The Multi-layered Semantic Representation Network (arXiv 2106.11596), top to bottom.

    image (B, 3, H, W)
      └ backbone ──► taps (B, C_t, H_t, W_t)          stages of a CNN, three in the paper           section 3.1
           └ buffer, pool, project ──► (B, N_t, D)
    word vectors (L, E), label graph (L, L)
      └ graph attention ──► label semantics (L, D) ──► group semantics (G, D)                       section 3.2
    both
      └ semantic attention per tap ──► (B, K, D), K = L + G; taps side by side: (B, K, T D)         section 3.3
           └ head ──► logits (B, L)                                                                 section 3.4

Where we differ: any backbone, any number of taps, a second head (see ``PerLabelHead``), and semantics that are folded
into constants for inference. The numbers for the published configuration are those of the published network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msrn.errors import ConfigError, ShapeError
from msrn.models.backbone import FeatureTaps
from msrn.models.classifier import ModelOutput, Tagger
from msrn.models.label_semantics import FoldedSemantics, LabelSemantics
from msrn.ops.semantic_attention import Form, semantic_attention

__all__ = ["MSRN", "FlattenHead", "PerLabelHead"]


class MSRN(Tagger):
    """Multi-label logits from features at several depths, pooled once per label and per group of labels.

    Args:
        backbone: gives T feature maps.
        semantics: gives the K semantic vectors of width D.
        head: ``FlattenHead`` (the released checkpoints) or ``PerLabelHead``.
        width: D.
        buffers: per tap, whether an extra 1x1 convolution with bias stands between backbone and pooling.
        pools: per tap, side and stride of a max-pool; 1 leaves the map as it is.
        group_loss_weight: factor of the group loss (published: 1e-4).

    Raises:
        ConfigError: buffers or pools are not given once per tap.
    """

    semantics: LabelSemantics | FoldedSemantics
    attention: Form = "auto"
    """Which implementation of semantic attention runs."""

    def __init__(
        self,
        backbone: FeatureTaps,
        semantics: LabelSemantics,
        head: nn.Module,
        *,
        width: int = 512,
        buffers: Sequence[bool] = (True, True, False),
        pools: Sequence[int] = (2, 2, 2),
        group_loss_weight: float = 1e-4,
    ) -> None:
        super().__init__(backbone)
        taps = len(backbone.channels)
        for setting, values in (("model.buffers", buffers), ("model.pools", pools)):
            if len(values) != taps:
                raise ConfigError(f"expected one value per tap ({taps}), got {list(values)}", where=setting)
        self.semantics = semantics
        self.head = head
        self.tap_buffers = nn.ModuleList(
            nn.Conv2d(channels, channels, 1) if wanted else nn.Identity()
            for channels, wanted in zip(backbone.channels, buffers, strict=True)
        )
        self.projections = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in backbone.channels)
        self.pools = tuple(pools)
        self.group_loss_weight = group_loss_weight

    def forward(self, image: Tensor) -> ModelOutput:
        """``image (B, 3, H, W)``, normalised as ``backbone.statistics`` says, to logits ``(B, L)``."""
        semantics = self.semantics()
        vectors = semantics.vectors  # (K, D)
        taps = self.project(self.features(image))
        pooled = [semantic_attention(features, vectors, form=self.attention) for features in taps]
        logits = self.head(torch.cat(pooled, dim=-1), semantics.assignment)  # (B, K, T D) to (B, L)
        return ModelOutput(logits, {"group": self.group_loss_weight * semantics.group_loss()})

    def features(self, image: Tensor) -> list[Tensor]:
        """The taps after buffer and pool: ``(B, C_t, H_t, W_t)`` each."""
        maps = []
        for tap, (features, buffer, pool) in enumerate(
            zip(self.backbone(image), self.tap_buffers, self.pools, strict=True)
        ):
            if min(features.shape[-2:]) < pool:
                raise ShapeError(
                    f"tap {tap} has a map of {features.shape[-2]} x {features.shape[-1]}, too small for pool {pool}",
                    where=f"image {image.shape[-2]} x {image.shape[-1]} px",
                    hint="use larger images or set model.pools to 1 for this tap",
                )
            features = buffer(features)
            maps.append(F.max_pool2d(features, pool) if pool > 1 else features)
        return maps

    def project(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Taps ``(B, C_t, H_t, W_t)`` to the semantic width: ``(B, N_t, D)`` each, N_t = H_t W_t."""
        return [
            projection(features).flatten(2).transpose(1, 2)
            for projection, features in zip(self.projections, maps, strict=True)
        ]

    def fold(self) -> None:
        """Replace the label side by its present value. After this the model can no longer be trained."""
        if isinstance(self.semantics, LabelSemantics):
            self.semantics = self.semantics.fold()


class FlattenHead(nn.Module):
    """The released checkpoints' head: one hidden layer over everything. ``K T D x 2048`` weights, 264 M on COCO."""

    def __init__(self, *, num_labels: int, num_groups: int, channels: int, hidden: int = 2048) -> None:
        super().__init__()
        self.hidden = nn.Linear((num_labels + num_groups) * channels, hidden)
        self.output = nn.Linear(hidden, num_labels)

    def forward(self, pooled: Tensor, assignment: Tensor) -> Tensor:
        """``pooled (B, K, T D)`` to logits ``(B, L)``; the assignment is not used."""
        return self.output(F.leaky_relu(self.hidden(pooled.tanh().flatten(1)), 0.01))


class PerLabelHead(nn.Module):
    """Each label reads its own vector and those of its groups: ``L x 2 T D`` weights, 0.25 M on COCO."""

    def __init__(self, *, num_labels: int, channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(2 * channels)
        self.weight = nn.Parameter(torch.empty(num_labels, 2 * channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_labels).uniform_(-bound, bound))

    def forward(self, pooled: Tensor, assignment: Tensor) -> Tensor:
        """``pooled (B, K, T D)`` and ``assignment (L, G)`` to logits ``(B, L)``."""
        labels, groups = torch.split(pooled, list(assignment.shape), dim=1)
        joined = torch.cat((labels, assignment.to(groups.dtype) @ groups), dim=-1).tanh()  # (B, L, 2 T D)
        return torch.einsum("blc,lc->bl", joined, self.weight.to(joined.dtype)) + self.bias
