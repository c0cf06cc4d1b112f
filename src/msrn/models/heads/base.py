"""The head contract: feature maps and label inputs in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from msrn.errors import ConfigError, ShapeError

__all__ = ["Head", "HeadOutput", "LabelInput", "LabelInputs", "at_least_float32"]

LabelInput = Literal["embeddings", "graph"]


@dataclass(frozen=True, eq=False)
class LabelInputs:
    """What is known about the labels before any image is seen; rows and columns in the order of ``names``.

    Args:
        names: L label names.
        embeddings: ``(L, E)``, one vector per label name.
        graph: ``(L, L)`` normalised adjacency; an entry above zero is an edge.

    Raises:
        ShapeError: embeddings or graph are for another number of labels.
    """

    names: tuple[str, ...]
    embeddings: Tensor | None = None
    graph: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        embeddings, graph = self.embeddings, self.graph
        if embeddings is not None and (embeddings.ndim != 2 or len(embeddings) != count or not embeddings.numel()):
            raise ShapeError(f"expected embeddings (L, E) with L = {count}, got {tuple(embeddings.shape)}")
        if graph is not None and graph.shape != (count, count):
            raise ShapeError(f"expected a graph (L, L) with L = {count}, got {tuple(graph.shape)}")

    def __len__(self) -> int:
        return len(self.names)

    def only(self, wanted: frozenset[LabelInput]) -> LabelInputs:
        """These inputs without those that are not wanted."""
        return replace(
            self,
            embeddings=self.embeddings if "embeddings" in wanted else None,
            graph=self.graph if "graph" in wanted else None,
        )


class HeadOutput(NamedTuple):
    """What every head, and so every classifier, returns."""

    logits: Tensor
    """``(B, L)``."""
    aux_losses: dict[str, Tensor]
    """Auxiliary losses by name: scalars, already weighted, added to the loss in training."""


def at_least_float32(tensor: Tensor) -> tuple[Tensor, torch.autocast]:
    """A tensor in float32 or wider, and a context without autocast: for the layer that gives the logits.

    In bfloat16, 8 significant bits would give many images the same score.
    """
    wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    return wide, torch.autocast(tensor.device.type, enabled=False)


class Head(nn.Module):
    """Base of all heads.

    A head is constructed as ``Head(options, channels=..., labels=...)``: its own frozen ``Options``, the channels of
    the feature maps it will be given (shallow to deep), and the label inputs, of which at least those that it needs are
    set. Label inputs that a head keeps are registered with ``persistent=False``: the bundle stores them once, under
    names of its own.
    """

    @classmethod
    def needs(cls, options: Any) -> frozenset[LabelInput]:
        """The label inputs beside the names that a head with these options reads. The default reads none."""
        return frozenset()

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """Feature maps ``(B, C_t, H_t, W_t)``, shallow to deep, to logits ``(B, L)``."""
        raise NotImplementedError

    def attention(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """Where the head looks for each label: ``(B, L, H_t, W_t)`` for each map it attends to, shallow to deep.

        Shares of the positions: at least 0, and their sum is 1 for every image, label and map. The maps are those of
        the forward pass in evaluation. None for a head without attention.
        """
        return None

    def precompute(self) -> None:
        """Turn whatever does not depend on images into constants, for inference. The default has nothing to do."""

    def initialize(self, backbone: nn.Module) -> None:
        """Load released weights into the head and its backbone where the options name a file. The default does not."""

    def label_groups(self) -> Tensor | None:
        """``(L, G)`` share of each label in each group that the head learned; None for a head without groups."""
        return None

    @classmethod
    def require(cls, options: Any, labels: LabelInputs) -> LabelInputs:
        """The label inputs, checked.

        Raises:
            ConfigError: one that a head with these options needs is missing.
        """
        missing = [name for name in sorted(cls.needs(options)) if getattr(labels, name) is None]
        if missing:
            raise ConfigError(
                f"the head {cls.__name__} needs label {' and '.join(missing)}, got none",
                where="label inputs",
                hint="pass LabelInputs(names, embeddings=..., graph=...)",
            )
        return labels
