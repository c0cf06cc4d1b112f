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

__all__ = ["GraphAttention", "LabelSemantics", "PrecomputedSemantics", "Semantics"]


class Semantics(NamedTuple):
    """The label side of the network for one step."""

    labels: Tensor
    """``(L, D)`` label semantics."""
    groups: Tensor
    """``(G, D)`` group semantics."""
    assignment: Tensor
    """``(L, G)`` share of each label in each group; rows sum to 1."""

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
        gain = 1.414
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(in_features, out_features), gain))
        self.attention = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2 * out_features, 1), gain))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """``nodes (L, in)`` and boolean ``edges (L, L)`` to ``(L, out)``."""
        hidden = nodes @ self.weight  # (L, out)
        source, target = torch.split(self.attention, hidden.shape[1])  # (out, 1) each
        scores = F.leaky_relu(hidden @ source + (hidden @ target).T, 0.2)  # (L, L)
        attention = scores.masked_fill(~edges, -1e12).softmax(dim=1)
        return F.elu(attention @ hidden + hidden)


class LabelSemantics(nn.Module):
    """Label embeddings and the label graph to label semantics, group semantics and the assignment between them.

    Args:
        embeddings: ``(L, E)`` embeddings of the label names, any width.
        adjacency: ``(L, L)`` label graph; an entry above zero is an edge (its size does not matter here).
        width: D, width of the semantics.
        num_groups: G.
        hidden: widths of the linear layer and of the first graph layer; the published ones are (256, 300).

    Raises:
        ShapeError: embeddings and adjacency are for different numbers of labels.
    """

    embeddings: Tensor
    adjacency: Tensor

    def __init__(
        self,
        embeddings: Tensor,
        adjacency: Tensor,
        *,
        width: int,
        num_groups: int,
        hidden: tuple[int, int] = (256, 300),
    ) -> None:
        super().__init__()
        count = len(embeddings)
        if embeddings.ndim != 2 or adjacency.shape != (count, count):
            raise ShapeError(
                f"expected embeddings (L, E) and an adjacency (L, L), got {tuple(embeddings.shape)} "
                f"and {tuple(adjacency.shape)}",
                where="label semantics",
                hint="build both from the same LabelSpace",
            )
        self.register_buffer("embeddings", embeddings.detach().clone().float(), persistent=False)
        self.register_buffer("adjacency", adjacency.detach().clone().float(), persistent=False)
        self.embed = nn.Linear(embeddings.shape[1], hidden[0])
        self.label_layers = nn.ModuleList([GraphAttention(hidden[0], hidden[1]), GraphAttention(hidden[1], width)])
        self.group_layer = GraphAttention(width, width)
        self.assignment_layer = GraphAttention(width, num_groups)

    def forward(self) -> Semantics:
        """The semantics under the current weights, in float32 whatever the autocast state."""
        with torch.autocast(self.embeddings.device.type, enabled=False):
            edges = self.adjacency > 0
            labels = self.embed(self.embeddings)  # (L, 256)
            for layer in self.label_layers:
                labels = layer(labels, edges)  # (L, 300), (L, D)
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
    """G for L labels: ``int(ratio * L)`` as published, at least 1.

    Example:
        >>> num_groups_for(20, 0.2), num_groups_for(80, 0.05), num_groups_for(11, 0.2)
        (4, 4, 2)
    """
    return max(1, math.floor(ratio * num_labels + 1e-9))
