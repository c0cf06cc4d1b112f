"""Query2Label: a transformer decoder whose queries are the labels (Liu et al., arXiv 2107.10834, section 3).

    deepest feature map (B, C, H, W) ── 1x1 convolution ──► (B, N, D) ── encoder layers ──► features
    label queries (L, D), learned
      └ per decoder layer: self-attention, attention to the features, feed-forward layer ──► (B, L, D)
           └ one output vector per label ──► logits (B, L)

Keys, and the queries of the encoder, carry the sine encoding of their position (Carion et al., 2020, as the paper
says). The paper's network over ResNet-101 has one encoder and two decoder layers, D = 2048, 4 attention heads, 8192
hidden units.

Where we differ: the self-attention of the first decoder layer depends on no image, so it runs once per batch, with the
same dropout for all images, and ``precompute`` makes it a constant. The authors' program leaves out self-attention
between labels by default, which is ``self_attention: false`` here; it also normalises once more after the last layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from msrn import registry
from msrn.errors import ConfigError
from msrn.models.heads.base import Head, HeadOutput, LabelInputs
from msrn.models.layers import Attention, AttentionBlock, Constant, PerLabelLinear

__all__ = ["LabelQueries", "Options", "Query2Label", "SelfAttention", "sine_positions"]


class Options(registry.Options):
    """Options of Query2Label."""

    name: str = "query2label"
    width: Annotated[int, Field(ge=0)] = Field(
        0, description="D, divisible by 4 and by heads; 0: the channels of the deepest map, as in the paper"
    )
    heads: Annotated[int, Field(ge=1)] = Field(4, description="attention heads")
    encoder_layers: Annotated[int, Field(ge=0)] = Field(1, description="layers of self-attention between positions")
    decoder_layers: Annotated[int, Field(ge=1)] = Field(2, description="layers of attention from labels to positions")
    hidden_ratio: Annotated[int, Field(ge=1)] = Field(4, description="hidden units of feed-forward layers, times D")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout of all layers")
    self_attention: bool = Field(True, description="self-attention between labels; the authors' program leaves it out")


class Query2Label(Head):
    """Learned label queries that attend to the deepest map, and one output vector per label.

    With ``A = 4 D (D + 1)`` weights of an attention and F hidden units, there are ``D (C + 1)`` of the projection,
    ``A + D (2 F + 1) + F + 4 D`` of each encoder and decoder layer, ``A + 2 D`` more of a decoder layer with
    self-attention, and ``L D + L (D + 1)`` of queries and output.

    Args:
        options: see ``Options``.
        channels: of the feature maps; the last counts.
        labels: their number counts.

    Raises:
        ConfigError: the width is not divisible by 4 or by the number of heads.
    """

    queries: nn.Module

    def __init__(self, options: Options, *, channels: Sequence[int], labels: LabelInputs) -> None:
        super().__init__()
        width, heads, dropout = options.width or channels[-1], options.heads, options.dropout
        if width % heads or width % 4:
            raise ConfigError(
                f"expected a width divisible by 4 and by the number of heads ({heads}), got {width}",
                where="model.head.width",
                hint=f"set --model.head.width {max(1, width // math.lcm(4, heads)) * math.lcm(4, heads)}",
            )

        def block() -> AttentionBlock:
            return AttentionBlock(width, heads=heads, hidden=options.hidden_ratio * width, dropout=dropout)

        def between_labels() -> nn.Module:
            return SelfAttention(width, heads=heads, dropout=dropout) if options.self_attention else nn.Identity()

        self.projection = nn.Conv2d(channels[-1], width, 1)
        self.encoder = nn.ModuleList(block() for _ in range(options.encoder_layers))
        self.queries = LabelQueries(len(labels), width, between_labels())
        self.decoder = nn.ModuleList(block() for _ in range(options.decoder_layers))
        self.between_layers = nn.ModuleList(between_labels() for _ in range(options.decoder_layers - 1))
        self.output = PerLabelLinear(len(labels), width)

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """``(B, C, H, W)``, the last of the maps, to logits ``(B, L)``."""
        queries, keys, features = self._inputs_of_last_layer(feature_maps[-1])
        return HeadOutput(self.output(self.decoder[-1](queries, queries, keys, features)), {})

    def attention(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Attention of the labels in the last decoder layer, mean over the attention heads, for the last of the maps.

        With an encoder, a position stands for all that it has attended to.
        """
        queries, keys, _ = self._inputs_of_last_layer(feature_maps[-1])
        weights = self._attention_of_layer(-1).weights(queries, keys)  # (B, L, N)
        return (weights.view(*weights.shape[:2], *feature_maps[-1].shape[2:]),)

    def precompute(self) -> None:
        """Replace the queries of the first attention to the features, and their projection, by their values."""
        queries = self.queries()
        self.queries = Constant(queries)
        self._attention_of_layer(0).fix_queries(queries)

    def _attention_of_layer(self, place: int) -> Attention:
        layer = self.decoder[place]
        assert isinstance(layer, AttentionBlock)
        return layer.attention

    def _inputs_of_last_layer(self, deepest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(B, L, D)``, or ``(1, L, D)`` where there is one layer; keys and features ``(B, N, D)``."""
        features = self.projection(deepest).flatten(2).transpose(1, 2)  # (B, N, D)
        positions = sine_positions(*deepest.shape[2:], width=features.shape[2], like=features)  # (N, D)
        for layer in self.encoder:
            placed = features + positions
            features = layer(features, placed, placed, features)
        keys, queries = features + positions, self.queries()
        for layer, between in zip(self.decoder, self.between_layers, strict=False):  # all layers but the last
            queries = between(layer(queries, queries, keys, features))
        return queries, keys, features


class SelfAttention(nn.Module):
    """Attention between labels, added to its input and followed by a layer norm."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads=heads, dropout=dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor) -> Tensor:
        """``(B, L, D)`` to ``(B, L, D)``."""
        added: Tensor = self.norm(vectors + self.dropout(self.attention(vectors, vectors, vectors)))
        return added


class LabelQueries(nn.Module):
    """One learned vector per label, and the self-attention of the first decoder layer: no image has a part in it."""

    def __init__(self, num_labels: int, width: int, between_labels: nn.Module) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(num_labels, width))
        self.between_labels = between_labels

    def forward(self) -> Tensor:
        """``(1, L, D)``."""
        queries: Tensor = self.between_labels(self.vectors.unsqueeze(0))
        return queries


def sine_positions(height: int, width_of_map: int, *, width: int, like: Tensor) -> Tensor:
    """The sine encoding of each position of a map: ``(H W, width)``, half for its row and half for its column.

    Row y of H, counted from 1, has ``sin`` and ``cos`` of ``2 pi y / H / 10000^(2 i / (width / 2))`` side by side for i
    = 0, 1, ...; columns alike. The width is divisible by 4; dtype (at least float32) and device are those of ``like``.
    """
    half = width // 2
    dtype = torch.promote_types(like.dtype, torch.float32)
    wavelengths = 10000 ** (torch.arange(0, half, 2, device=like.device, dtype=dtype) / half)  # (width / 4)

    def along(count: int) -> Tensor:
        places = torch.arange(1, count + 1, device=like.device, dtype=dtype) * (2 * math.pi / count)
        angles = places.unsqueeze(1) / wavelengths
        return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)  # (count, half)

    rows = along(height).unsqueeze(1).expand(-1, width_of_map, -1)
    columns = along(width_of_map).expand(height, -1, -1)
    return torch.cat((rows, columns), dim=2).flatten(0, 1)
