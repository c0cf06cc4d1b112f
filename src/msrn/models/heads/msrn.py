"""The MSRN head: semantic attention over feature maps at several depths (arXiv 2106.11596).

    feature maps (B, C_t, H_t, W_t)                           stages of a CNN, three in the paper    section 3.1
      └ extra convolution, max-pool, projection ──► (B, N_t, D)
    label embeddings (L, E), label graph (L, L)
      └ graph attention ──► label semantics (L, D) ──► group semantics (G, D)                        section 3.2
    both
      └ semantic attention per map ──► (B, K, D), K = L + G; maps side by side: (B, K, T D)          section 3.3
           └ output layer ──► logits (B, L)                                                          section 3.4

Where we differ: any backbone, any number of maps, a second output layer (``PerLabelOutput``), and semantics that are
precomputed for inference; and options that leave a part out, to measure what it contributes. The published
configuration gives the published network's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from msrn import registry
from msrn.errors import ConfigError, ShapeError
from msrn.labels.space import LabelSpace
from msrn.models.heads.base import Head, HeadOutput, LabelInput, LabelInputs, at_least_float32
from msrn.models.label_semantics import LabelSemantics, PrecomputedSemantics, num_groups_for
from msrn.models.published import load_published
from msrn.ops.semantic_attention import semantic_attention

__all__ = ["MSRN", "FlattenOutput", "Options", "PerLabelOutput"]


class Options(registry.Options):
    """Options of the MSRN head. Lists hold one value per feature map, shallow to deep."""

    name: str = "msrn"
    width: Annotated[int, Field(ge=1)] = Field(512, description="D, width of the semantics")
    group_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="groups per label: G = int(ratio L), at least 1; 0: no groups"
    )
    group_loss: Annotated[float, Field(ge=0)] = Field(1e-4, description="weight of the group loss")
    label_embeddings: Literal["given", "learned"] = Field(
        "given", description="given: those of labels.embeddings; learned: a random vector per label, trained"
    )
    label_graph: Literal["given", "none"] = Field(
        "given", description="given: that of labels.graph; none: no graph is read, and no label hears of another"
    )
    maps: Annotated[int, Field(ge=0)] = Field(
        0, description="deepest feature maps that are read, of those of model.stages; 0: all"
    )
    extra_convs: tuple[bool, ...] = Field(
        (True, True, False), description="extra 1x1 convolution with bias between backbone and pool"
    )
    pools: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 2, 2), description="side and stride of the max-pool; 1: none"
    )
    output_layer: Literal["flatten", "per_label"] = Field(
        "flatten", description="flatten, as in the released checkpoints, or per_label, with far fewer weights"
    )
    checkpoint: registry.PathText = Field(
        "", description="released MSRN checkpoint (.pth.tar) to start from; needs a ResNet-101"
    )
    checkpoint_labels: registry.PathText = Field(
        "",
        description="file of label names, one a line, in the checkpoint's order; empty: the order of the published "
        "vocabulary with these labels",
    )

    @model_validator(mode="after")
    def _checkpoint_fits(self) -> Options:
        parts = {"label_embeddings": "given", "label_graph": "given", "maps": 0}
        changed = [f"{name} {getattr(self, name)}" for name, value in parts.items() if getattr(self, name) != value]
        changed += [] if self.group_ratio else ["group_ratio 0"]
        if self.checkpoint and changed:
            raise ValueError(f"a released checkpoint has all parts of the network, got {', '.join(changed)}")
        return self


class MSRN(Head):
    """Logits from features at several depths, pooled once per label and once per group of labels.

    Args:
        options: see ``Options``.
        channels: of the T feature maps.
        labels: names of at least two labels, with embeddings and graph unless the options say otherwise.

    Raises:
        ConfigError: fewer than two labels, more ``maps`` than there are, or ``extra_convs`` or ``pools`` are not given
            once per feature map.
        LabelError, WeightsError: the released checkpoint's order or weights do not fit.
    """

    semantics: LabelSemantics | PrecomputedSemantics

    def __init__(self, options: Options, *, channels: Sequence[int], labels: LabelInputs) -> None:
        super().__init__()
        count, groups = len(labels), num_groups_for(len(labels), options.group_ratio)
        if count < 2:
            hint = "use --model.head average_pool"
            raise ConfigError(f"the head msrn needs at least two labels, got {count}", "model.head", hint)
        for option, values in (("extra_convs", options.extra_convs), ("pools", options.pools)):
            if len(values) != len(channels):
                expected = f"expected one value per feature map ({len(channels)}), got {list(values)}"
                raise ConfigError(expected, f"model.head.{option}")
        if options.maps > len(channels):
            expected = f"expected at most {len(channels)}, as the backbone gives, got {options.maps}"
            raise ConfigError(expected, "model.head.maps", "add stages with model.stages")
        self.options = options
        self.names = labels.names
        self.first = len(channels) - options.maps if options.maps else 0  # the first map that is read
        self.pools = options.pools[self.first :]
        width, channels = options.width, channels[self.first :]
        output_layer: nn.Module = (
            FlattenOutput(num_labels=count, num_groups=groups, width=width * len(channels))
            if options.output_layer == "flatten"
            else PerLabelOutput(num_labels=count, num_groups=groups, width=width * len(channels))
        )
        needs = self.needs(options)
        self.semantics = LabelSemantics(
            labels.embeddings if "embeddings" in needs else None,
            labels.graph if "graph" in needs else None,
            num_labels=count,
            width=width,
            num_groups=groups,
        )
        self.output_layer = output_layer
        self.extra_convs = nn.ModuleList(
            nn.Conv2d(each, each, 1) if wanted else nn.Identity()
            for each, wanted in zip(channels, options.extra_convs[self.first :], strict=True)
        )
        self.projections = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)

    @classmethod
    def needs(cls, options: Options) -> frozenset[LabelInput]:
        """Both, less what the options leave out."""
        wanted: dict[LabelInput, str] = {"embeddings": options.label_embeddings, "graph": options.label_graph}
        return frozenset(name for name, choice in wanted.items() if choice == "given")

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """Feature maps ``(B, C_t, H_t, W_t)`` to logits ``(B, L)`` and the weighted group loss."""
        semantics = self.semantics()
        vectors = semantics.vectors  # (K, D)
        features = self.project(self.pooled(feature_maps))
        attended = [semantic_attention(each, vectors) for each in features]  # T x (B, K, D)
        logits = self.output_layer(attended, semantics.assignment)
        grouped = semantics.assignment.shape[1] > 0
        return HeadOutput(logits, {"group": self.options.group_loss * semantics.group_loss()} if grouped else {})

    def pooled(self, feature_maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps that are read after extra convolution and pool: ``(B, C_t, H_t, W_t)`` each."""
        maps = []
        for number, (features, conv, pool) in enumerate(
            zip(feature_maps[self.first :], self.extra_convs, self.pools, strict=True), start=self.first
        ):
            height, width = features.shape[-2:]
            if min(height, width) < pool:
                raise ShapeError(
                    f"feature map {number} is {height} x {width}, too small for a pool of {pool}",
                    where="model.head.pools",
                    hint="use larger images, or a pool of 1 for this map",
                )
            features = conv(features)
            maps.append(F.max_pool2d(features, pool) if pool > 1 else features)
        return maps

    def project(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps ``(B, C_t, H_t, W_t)`` to the semantic width: ``(B, N_t, D)`` each, N_t = H_t W_t."""
        return [
            projection(features).flatten(2).transpose(1, 2)
            for projection, features in zip(self.projections, maps, strict=True)
        ]

    def precompute(self) -> None:
        """Replace the label semantics by their current values."""
        if isinstance(self.semantics, LabelSemantics):
            self.semantics = self.semantics.precompute()

    def label_groups(self) -> Tensor | None:
        """The assignment of labels to groups, ``(L, G)``; None without groups."""
        assignment: Tensor = self.semantics().assignment
        return assignment if assignment.shape[1] else None

    def initialize(self, backbone: nn.Module) -> None:
        """Load the released checkpoint that the options name."""
        if self.options.checkpoint:
            order = self.options.checkpoint_labels
            names = LabelSpace.read(Path(order)).names if order else None
            load_published(self, backbone, self.options.checkpoint, order=names)


class FlattenOutput(nn.Module):
    """The released checkpoints' output layer: one hidden layer over everything.

    There are ``K T D x 2048`` weights in its first layer, 264 M on COCO.
    """

    def __init__(self, *, num_labels: int, num_groups: int, width: int, hidden: int = 2048) -> None:
        super().__init__()
        self.hidden = nn.Linear((num_labels + num_groups) * width, hidden)
        self.output = nn.Linear(hidden, num_labels)

    def forward(self, attended: Sequence[Tensor], assignment: Tensor) -> Tensor:
        """``(B, K, D)`` for each of T maps to logits ``(B, L)``; the assignment is not used."""
        joined = torch.cat(list(attended), dim=-1).tanh().flatten(1)  # (B, K T D)
        hidden, without_autocast = at_least_float32(F.leaky_relu(self.hidden(joined), 0.01))
        with without_autocast:
            logits: Tensor = self.output(hidden)
            return logits


class PerLabelOutput(nn.Module):
    """Each label reads its own vector and, where there are groups, those of its groups.

    There are ``L x 2 T D`` weights, 0.25 M on COCO, and half of them without groups. Vectors of the maps and of the
    groups are weighted one by one and never joined: they are the largest tensors of the head.
    """

    def __init__(self, *, num_labels: int, num_groups: int, width: int) -> None:
        super().__init__()
        read = 2 * width if num_groups else width
        bound = 1 / math.sqrt(read)
        self.weight = nn.Parameter(torch.empty(num_labels, read).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_labels).uniform_(-bound, bound))

    def forward(self, attended: Sequence[Tensor], assignment: Tensor) -> Tensor:
        """``(B, K, D)`` for each of T maps, and ``assignment (L, G)``, to logits ``(B, L)``."""
        count, groups = assignment.shape
        read = [each[:, :count] for each in attended]  # (B, L, D) each
        if groups:
            shares = assignment.T.to(attended[0].dtype)
            read += [(each[:, count:].mT @ shares).mT for each in attended]
        weights = self.weight.view(count, len(read), -1).transpose(0, 1)  # of each: (L, D)
        if attended[0].mT.is_contiguous():  # the layout that attention leaves on a CPU
            weights = weights.mT.contiguous().mT
        logits = self.bias
        for vectors, weight in zip(read, weights, strict=True):
            wide, without_autocast = at_least_float32(vectors.tanh())
            with without_autocast:
                logits = logits + (wide * weight).sum(dim=-1)
        return logits
