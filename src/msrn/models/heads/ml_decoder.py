"""ML-Decoder: a decoder of few fixed queries, each for a group of labels (Ridnik et al., WACV 2023, arXiv 2111.12933).

    deepest feature map (B, C, H, W) ── 1x1 convolution, ReLU ──► features (B, N, D)
    queries (K, D), fixed ── layer norm, attention to the features, feed-forward layer ──► (B, K, D)
      └ group fully-connected layer: query k gives the logits of its labels ──► logits (B, L)

No self-attention, queries that are not learned, and groups of labels (section 2). With ``queries: words`` there is a
query per label, projected from its embedding, and one output vector that all labels share, as for zero-shot learning:
the weights then do not depend on the labels.

Where we differ: labels are shared out so that no group is empty; queries pass no dropout before their norm; the query
augmentations for zero-shot learning are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from msrn import registry
from msrn.errors import ConfigError
from msrn.models.heads.base import Head, HeadOutput, LabelInput, LabelInputs, at_least_float32
from msrn.models.layers import AttentionBlock, Constant

__all__ = ["FixedQueries", "GroupOutput", "MLDecoder", "Options", "SharedOutput", "WordQueries"]

MOST_GROUPS = 100


class Options(registry.Options):
    """Options of ML-Decoder."""

    name: str = "ml_decoder"
    queries: Literal["fixed", "words"] = Field(
        "fixed", description="fixed: random vectors, one per group of labels; words: the embedding of each label"
    )
    groups: Annotated[int, Field(ge=0)] = Field(
        0, description="K, groups of labels for fixed queries; 0: one per label, at most 100, as in the paper"
    )
    width: Annotated[int, Field(ge=1)] = Field(768, description="D, divisible by heads")
    heads: Annotated[int, Field(ge=1)] = Field(8, description="attention heads")
    hidden: Annotated[int, Field(ge=1)] = Field(2048, description="F, hidden units of the feed-forward layer")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout of all layers")

    @model_validator(mode="after")
    def _options_fit(self) -> Options:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be divisible by heads ({self.heads})")
        if self.groups and self.queries == "words":
            raise ValueError(f"groups goes with fixed queries; with words each label has its own, got {self.groups}")
        return self


class MLDecoder(Head):
    """One decoder layer of K queries over the deepest map.

    There are ``D (C + 1) + 4 D (D + 1) + D (2 F + 1) + F + 6 D`` weights of projection, decoder layer and norms. With
    fixed queries and g labels in a group ``K g D + L`` are added, with words ``D (E + 1) + D + 1``.

    Args:
        options: see ``Options``.
        channels: of the feature maps; the last counts.
        labels: their number counts and, with ``queries: words``, their embeddings.

    Raises:
        ConfigError: there are more groups than labels.
    """

    queries: nn.Module

    def __init__(self, options: Options, *, channels: Sequence[int], labels: LabelInputs) -> None:
        super().__init__()
        count, width = len(labels), options.width
        if options.groups > count:
            message = f"expected at most one group for each of the {count} labels, got {options.groups}"
            raise ConfigError(message, "model.head.groups", "0 makes as many groups as fit")
        self.projection = nn.Conv2d(channels[-1], width, 1)
        self.labels_of_group = 1
        if options.queries == "words":
            assert labels.embeddings is not None
            self.queries = WordQueries(labels.embeddings, width)
        else:
            self.labels_of_group = math.ceil(count / (options.groups or min(count, MOST_GROUPS)))
            self.queries = FixedQueries(math.ceil(count / self.labels_of_group), width)
        self.decoder = AttentionBlock(width, heads=options.heads, hidden=options.hidden, dropout=options.dropout)
        self.output = (
            SharedOutput(width)
            if options.queries == "words"
            else GroupOutput(count, width, labels_of_group=self.labels_of_group)
        )
        self.count = count

    @classmethod
    def needs(cls, options: Options) -> frozenset[LabelInput]:
        """Embeddings, if they are the queries."""
        return frozenset({"embeddings"} if options.queries == "words" else ())

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """``(B, C, H, W)``, the last of the maps, to logits ``(B, L)``."""
        features, queries = self._features(feature_maps[-1]), self.queries()
        return HeadOutput(self.output(self.decoder(queries, queries, features, features)), {})

    def attention(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Attention of each label's query, mean over the attention heads, for the last of the maps.

        The labels of a group share a map.
        """
        weights = self.decoder.attention.weights(self.queries(), self._features(feature_maps[-1]))  # (B, K, N)
        of_labels = weights.repeat_interleave(self.labels_of_group, dim=1)[:, : self.count]
        return (of_labels.view(*of_labels.shape[:2], *feature_maps[-1].shape[2:]),)

    def precompute(self) -> None:
        """Replace the queries and their projection by their values."""
        queries = self.queries()
        self.queries = Constant(queries)
        self.decoder.attention.fix_queries(queries)

    def _features(self, deepest: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, N, D)``."""
        return F.relu(self.projection(deepest)).flatten(2).transpose(1, 2)


class FixedQueries(nn.Module):
    """K random vectors that are not learned, and the layer norm after them, which is."""

    vectors: Tensor

    def __init__(self, num_queries: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.randn(num_queries, width))
        self.norm = nn.LayerNorm(width)

    def forward(self) -> Tensor:
        """``(1, K, D)``."""
        queries: Tensor = self.norm(self.vectors.unsqueeze(0))
        return queries


class WordQueries(nn.Module):
    """Label embeddings ``(L, E)``, projected and normalised."""

    embeddings: Tensor

    def __init__(self, embeddings: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings.detach().clone().float(), persistent=False)
        self.projection = nn.Linear(embeddings.shape[1], width)
        self.norm = nn.LayerNorm(width)

    def forward(self) -> Tensor:
        """``(1, L, D)``."""
        queries: Tensor = self.norm(self.projection(self.embeddings.unsqueeze(0)))
        return queries


class GroupOutput(nn.Module):
    """The group fully-connected layer: label i has vector i mod g of group i div g, and a bias.

    The last group may hold fewer labels; what its spare vectors give is cut off.
    """

    def __init__(self, num_labels: int, width: int, *, labels_of_group: int) -> None:
        super().__init__()
        groups = math.ceil(num_labels / labels_of_group)
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(groups, labels_of_group, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(num_labels))

    def forward(self, vectors: Tensor) -> Tensor:
        """``(B, K, D)`` to logits ``(B, L)`` in float32 or wider."""
        wide, without_autocast = at_least_float32(vectors)
        with without_autocast:
            of_groups = torch.einsum("bkd,kgd->bkg", wide, self.weight).flatten(1)  # (B, K g)
            return of_groups[:, : len(self.bias)] + self.bias


class SharedOutput(nn.Module):
    """One vector and bias for all labels, so that labels are told apart by their queries alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(1, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, vectors: Tensor) -> Tensor:
        """``(B, L, D)`` to logits ``(B, L)`` in float32 or wider."""
        wide, without_autocast = at_least_float32(vectors)
        with without_autocast:
            return F.linear(wide, self.weight, self.bias).squeeze(2)
