"""Label and group semantics from label embeddings and the label graph (MSRN, section 3.2).

None of it depends on an image: it runs once per training step, and ``precompute`` turns it into constants.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msrn.errors import ShapeError

__all__ = ["GraphAttention", "IsolatedLabels", "LabelSemantics", "PrecomputedSemantics", "Semantics"]

GAIN = 1.414
LEARNED_SPREAD = 0.25  # standard deviation at first, about that of the linear layer's output for GloVe 6B, 300 wide


class Semantics(NamedTuple):
    """The label side of the network for one step."""

    labels: Tensor
    """``(L, D)`` label semantics."""
    groups: Tensor
    """``(G, D)`` group semantics."""
    assignment: Tensor
    """``(L, G)`` share of each label in each group; rows sum to 1, where there are groups."""

    @property
    def vectors(self) -> Tensor:
        """``(K, D)``: labels, then groups, as the attention uses them."""
        return torch.cat((self.labels, self.groups))

    def group_loss(self) -> Tensor:
        """Sum over labels of the distance to the semantics of the group each belongs to most (unweighted)."""
        nearest = self.groups[self.assignment.argmax(dim=1)]  # (L, D)
        return (self.labels - nearest).norm(dim=1).sum()


class GraphAttention(nn.Module):
    """One graph attention head over labels: ``ELU(attention h + h)`` with ``h = x W`` (GAT with a residual).

    The score of a pair is ``LeakyReLU(a1 . h_i + a2 . h_j)``: two vectors of L numbers and their outer sum, so the
    ``(L, L, 2 out)`` expansion of the textbook form is never built.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(in_features, out_features), GAIN))
        self.attention = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2 * out_features, 1), GAIN))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """``nodes (L, in)`` and boolean ``edges (L, L)`` to ``(L, out)``."""
        hidden = nodes @ self.weight  # (L, out)
        source, target = torch.split(self.attention, hidden.shape[1])  # (out, 1) each
        scores = F.leaky_relu(hidden @ source + (hidden @ target).T, 0.2)  # (L, L)
        attention = scores.masked_fill(~edges, -1e12).softmax(dim=1)
        return F.elu(attention @ hidden + hidden)


class IsolatedLabels(nn.Module):
    """What ``GraphAttention`` computes where every label is joined to itself alone: ``ELU(2 x W)``."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(in_features, out_features), GAIN))

    def forward(self, nodes: Tensor, edges: Tensor | None = None) -> Tensor:
        """``nodes (L, in)`` to ``(L, out)``; edges are not used."""
        return F.elu(2 * (nodes @ self.weight))


class LabelSemantics(nn.Module):
    """Label embeddings and the label graph to label semantics, group semantics and the assignment between them.

    Args:
        embeddings: ``(L, E)`` embeddings of the label names, any width; None: learned vectors take the place of their
            first linear layer.
        adjacency: ``(L, L)`` label graph; an entry above zero is an edge (its size does not matter here). None: no
            label hears of another.
        num_labels: L.
        width: D, width of the semantics.
        num_groups: G; 0: no groups.
        hidden: widths of the linear layer and of the first graph layer; the published ones are (256, 300).

    Raises:
        ShapeError: embeddings or adjacency are for another number of labels.
    """

    embeddings: Tensor | None
    adjacency: Tensor | None

    def __init__(
        self,
        embeddings: Tensor | None,
        adjacency: Tensor | None,
        *,
        num_labels: int,
        width: int,
        num_groups: int,
        hidden: tuple[int, int] = (256, 300),
    ) -> None:
        super().__init__()
        given = {"embeddings": embeddings, "adjacency": adjacency}
        shapes = [None if tensor is None else tuple(tensor.shape) for tensor in given.values()]
        fits = embeddings is None or (embeddings.ndim == 2 and len(embeddings) == num_labels)
        if not fits or (adjacency is not None and adjacency.shape != (num_labels, num_labels)):
            raise ShapeError(
                f"expected embeddings ({num_labels}, E) and an adjacency ({num_labels}, {num_labels}), "
                f"got {shapes[0]} and {shapes[1]}",
                where="label semantics",
                hint="build both from the same LabelSpace",
            )
        for name, tensor in given.items():
            self.register_buffer(name, None if tensor is None else tensor.detach().clone().float(), persistent=False)
        layer = IsolatedLabels if adjacency is None else GraphAttention
        self.embed = None if embeddings is None else nn.Linear(embeddings.shape[1], hidden[0])
        self.learned = nn.Parameter(LEARNED_SPREAD * torch.randn(num_labels, hidden[0])) if embeddings is None else None
        self.label_layers = nn.ModuleList([layer(hidden[0], hidden[1]), layer(hidden[1], width)])
        self.group_layer = layer(width, width) if num_groups else None
        self.assignment_layer = layer(width, num_groups) if num_groups else None

    def forward(self) -> Semantics:
        """The semantics under the current weights, in float32 whatever the autocast state."""
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            edges = None if self.adjacency is None else self.adjacency > 0
            labels = self.learned if self.embed is None else self.embed(self.embeddings)  # (L, 256)
            assert labels is not None
            for layer in self.label_layers:
                labels = layer(labels, edges)  # (L, 300), (L, D)
            if self.group_layer is None or self.assignment_layer is None:
                return Semantics(labels, labels[:0], labels[:, :0])
            positive = labels.relu()
            members = self.group_layer(positive, edges)  # (L, D)
            assignment = self.assignment_layer(positive, edges).softmax(dim=1)  # (L, G)
            return Semantics(labels, assignment.T @ members, assignment)

    @torch.no_grad()
    def precompute(self) -> PrecomputedSemantics:
        """The current semantics as constants."""
        return PrecomputedSemantics(self())


class PrecomputedSemantics(nn.Module):
    """Constant semantics, which inference and export use in place of ``LabelSemantics``."""

    labels: Tensor
    groups: Tensor
    assignment: Tensor

    def __init__(self, semantics: Semantics) -> None:
        super().__init__()
        for name, value in semantics._asdict().items():
            self.register_buffer(name, value.detach().clone())

    def forward(self) -> Semantics:
        """The stored constants."""
        return Semantics(self.labels, self.groups, self.assignment)


def num_groups_for(num_labels: int, ratio: float) -> int:
    """G for L labels: ``int(ratio * L)`` as published, at least 1; none for a ratio of 0.

    Example:
        >>> num_groups_for(20, 0.2), num_groups_for(80, 0.05), num_groups_for(11, 0.2), num_groups_for(11, 0)
        (4, 4, 2, 0)
    """
    return max(1, math.floor(ratio * num_labels + 1e-9)) if ratio else 0
