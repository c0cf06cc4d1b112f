"""The contract of a mix: a micro-batch and draws in, a micro-batch out."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["Images", "Mix", "blend", "partners"]

Images = Tensor | list[Tensor]
"""``(B, 3, H, W)``, or in their place feature maps ``[(B, C_t, H_t, W_t)]``."""


class Mix:
    """A mix, built as ``Mix(options)`` and called as ``mix(image, target, draws)``.

    All chance comes from ``draws``, which training makes of seed, step, process and micro-batch. Nothing waits for the
    device, and what was given is not changed.
    """

    soft_targets: ClassVar[bool] = False
    """Whether targets between 0 and 1 come out; if not, they are 1, 0 or nan."""

    takes_features: ClassVar[bool] = False
    """Whether feature maps in place of images are mixed too."""

    def __call__(self, image: Images, target: Tensor, draws: np.random.Generator) -> tuple[Images, Tensor]:
        """Images and target ``(B, L)`` in {1, 0, nan} to those that are trained on."""
        raise NotImplementedError


def partners(count: int, draws: np.random.Generator, device: torch.device) -> Tensor:
    """``(B,)``: for each image of a micro-batch the one that it is mixed with, by chance itself."""
    return torch.from_numpy(draws.permutation(count)).to(device, non_blocking=True)


def blend(one: Tensor, other: Tensor, share: float) -> Tensor:
    """``share`` parts of one and the rest of the other; of targets, unknown where either is."""
    return share * one + (1 - share) * other
