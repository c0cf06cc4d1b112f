"""Train a head of your own: two pooled views of the deepest feature map, in one file and one line of the registry.

python examples/custom_head.py labels.csv runs/mine
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from msrn import Head, HeadOutput, LabelInputs, Options, load_settings, preset, registry, train
from msrn.config import merge


class BothPoolsOptions(Options):
    """Options of the head ``both_pools``."""

    name: str = "both_pools"
    dropout: float = Field(0.1, ge=0, lt=1, description="share of pooled channels that are dropped in training")


class BothPools(Head):
    """Average and maximum of each channel, side by side, then a linear layer."""

    def __init__(self, options: BothPoolsOptions, *, channels: Sequence[int], labels: LabelInputs) -> None:
        super().__init__()
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(2 * channels[-1], len(labels))

    def forward(self, feature_maps: Sequence[Tensor]) -> HeadOutput:
        """The deepest map ``(B, C, H, W)`` to logits ``(B, L)``."""
        deepest = feature_maps[-1].flatten(2)  # (B, C, N)
        pooled = torch.cat((deepest.mean(dim=2), deepest.amax(dim=2)), dim=1)  # (B, 2 C)
        return HeadOutput(self.output(self.dropout(pooled)), {})


registry.HEADS["both_pools"] = f"{__name__}:BothPools"

if __name__ == "__main__":
    table, folder = sys.argv[1:]
    mine = {"data": {"train": table}, "model": {"head": "both_pools"}, "run": {"folder": folder}}
    print(train(load_settings(merge(preset("custom"), mine))).val_map)
