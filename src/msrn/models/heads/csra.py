"""Class-specific residual attention, CSRA (Zhu and Wu, ICCV 2021, arXiv 2108.02456, sections 3.1 and 3.2).

Where we differ: the authors' program divides each class's scores by the norm of its weights; the paper does not, nor do
we. The paper's program takes a temperature of 99 for the maximum; here it is called ``max``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from msrn import registry
from msrn.models.heads.base import Head, HeadOutput, LabelInputs, at_least_float32

__all__ = ["CSRA", "Options"]

Temperature = Annotated[float, Field(gt=0)] | Literal["max"]


class Options(registry.Options):
    """Options of class-specific residual attention."""

    name: str = "csra"
    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = Field(
        (1.0,), description="temperature T of each attention head, or max; the paper uses [1], [1, max] up to eight"
    )
    residual: Annotated[float, Field(ge=0)] = Field(
        0.1, description="lambda, weight of the attention score beside the mean score"
    )


class CSRA(Head):
    """Per label the mean score over positions plus lambda times the softmax-pooled score, summed over the heads.

    For scores ``s (B, L, N)`` of one attention head at the N positions of the deepest map:
    ``logit = mean_n s + lambda sum_n softmax_n(T s) s``. As T grows, the second term becomes the maximum.
    There are ``len(temperatures) * C * L`` weights and no biases.
    """

    def __init__(self, options: Options, *, channels: Sequence[int], labels: LabelInputs) -> None:
        super().__init__()
        self.temperatures = options.temperatures
        self.residual = options.residual
        self.scores = nn.ModuleList(nn.Conv2d(channels[-1], len(labels), 1, bias=False) for _ in self.temperatures)

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """``(B, C, H, W)``, the last of the maps, to logits ``(B, L)``."""
        deepest, without_autocast = at_least_float32(feature_maps[-1])
        with without_autocast:
            logits = [
                self._pooled(score(deepest).flatten(2), temperature)
                for score, temperature in zip(self.scores, self.temperatures, strict=True)
            ]
            return HeadOutput(torch.stack(logits).sum(dim=0), {})

    def attention(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The softmax of the residual attention, mean over the attention heads, for the last of the maps.

        The mean score, which every position enters alike, has no part in it.
        """
        deepest, without_autocast = at_least_float32(feature_maps[-1])
        with without_autocast:
            maps = [
                _shares(score(deepest).flatten(2), temperature)
                for score, temperature in zip(self.scores, self.temperatures, strict=True)
            ]
            return (torch.stack(maps).mean(dim=0).view(*maps[0].shape[:2], *deepest.shape[2:]),)

    def _pooled(self, scores: Tensor, temperature: float | Literal["max"]) -> Tensor:
        """``(B, L, N)`` to ``(B, L)``."""
        if temperature == "max":
            attended = scores.amax(dim=2)
        else:
            attended = ((temperature * scores).softmax(dim=2) * scores).sum(dim=2)
        return scores.mean(dim=2) + self.residual * attended


def _shares(scores: Tensor, temperature: float | Literal["max"]) -> Tensor:
    """Weights of the positions ``(B, L, N)``; as a maximum, all of the weight is on one."""
    if temperature == "max":
        return F.one_hot(scores.argmax(dim=2), scores.shape[2]).to(scores.dtype)
    return (temperature * scores).softmax(dim=2)
