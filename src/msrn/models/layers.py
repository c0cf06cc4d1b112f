"""Layers that several heads share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msrn.models.heads.base import at_least_float32

__all__ = ["Attention", "AttentionBlock", "Constant", "PerLabelLinear"]


class Constant(nn.Module):
    """The output of a module that depends on no image, in its place: any input is ignored."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value.detach().clone())

    def forward(self, *_: Tensor) -> Tensor:
        """The stored tensor."""
        return self.value


class PerLabelLinear(nn.Module):
    """Each label's logit from a vector of its own: ``L (D + 1)`` weights."""

    def __init__(self, num_labels: int, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(num_labels, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_labels).uniform_(-bound, bound))

    def forward(self, vectors: Tensor) -> Tensor:
        """``(B, L, D)`` to logits ``(B, L)`` in float32 or wider."""
        wide, without_autocast = at_least_float32(vectors)
        with without_autocast:
            return torch.einsum("bld,ld->bl", wide, self.weight) + self.bias


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., 2017, section 3.2.2): ``4 D (D + 1)`` weights.

    Args:
        width: D, divisible by the number of heads.
        heads: attention heads.
        dropout: share of the attention weights that is dropped in training.
    """

    query: nn.Module

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query, self.key, self.value, self.output = (_projection(width) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """``queries (B, Q, D)``, or ``(1, Q, D)`` for all images alike; keys and values ``(B, N, D)``.

        Returns:
            ``(B, Q, D)``.
        """
        attended = F.scaled_dot_product_attention(
            self._split(self.query(queries)).expand(len(keys), -1, -1, -1),
            self._split(self.key(keys)),
            self._split(self.value(values)),
            dropout_p=self.dropout if self.training else 0.0,
        )  # (B, heads, Q, D / heads)
        joined: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return joined

    def weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The attention weights ``(B, Q, N)`` of ``forward`` without dropout, mean over the attention heads."""
        query, key = self._split(self.query(queries)), self._split(self.key(keys))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])  # (B, heads, Q, N)
        return scores.float().softmax(dim=-1).mean(dim=1)

    def fix_queries(self, queries: Tensor) -> None:
        """Replace the projection of the queries by its value for these; all later queries are taken for them."""
        self.query = Constant(self.query(queries))

    def _split(self, vectors: Tensor) -> Tensor:
        """``(B, Q, D)`` to ``(B, heads, Q, D / heads)``, a view."""
        return vectors.view(*vectors.shape[:2], self.heads, -1).transpose(1, 2)


class AttentionBlock(nn.Module):
    """Attention, then a feed-forward layer: each with dropout, added to its input, followed by a layer norm.

    ``4 D (D + 1) + D (2 F + 1) + F + 4 D`` weights for F hidden units.

    Args:
        width: D, divisible by the number of heads.
        heads: attention heads.
        hidden: F, units of the feed-forward layer, with ReLU.
        dropout: in attention, in the feed-forward layer, and after each.
    """

    def __init__(self, width: int, *, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads=heads, dropout=dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """``vectors (B, Q, D)``, to which is added what their ``queries (B, Q, D)`` find; as ``Attention.forward``."""
        vectors = self.attention_norm(vectors + self.dropout(self.attention(queries, keys, values)))
        added: Tensor = self.feed_forward_norm(vectors + self.dropout(self.feed_forward(vectors)))
        return added


def _projection(width: int) -> nn.Linear:
    """Xavier-uniform weights and no bias at first, as in torch's own multi-head attention."""
    layer = nn.Linear(width, width)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
