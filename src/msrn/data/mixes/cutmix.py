"""CutMix (Yun et al., ICCV 2019, arXiv 1905.04899, section 3.1): a box of one image is put into another.

Where we differ: targets are mixed label by label, by area, and are unknown where they are unknown for either image. As
in the authors' program, the boxes of a micro-batch are the same, and images meet within it.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from msrn import registry
from msrn.data.mixes.base import Images, Mix, blend, partners

__all__ = ["CutMix", "Options"]


class Options(registry.Options):
    """Options of CutMix; alpha is the paper's."""

    name: str = "cutmix"
    alpha: Annotated[float, Field(gt=0)] = Field(
        1.0, description="shares of the area that stays are drawn from Beta(alpha, alpha)"
    )
    probability: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="that a micro-batch is mixed")


class CutMix(Mix):
    """A box of the partner replaces that of the image; the target has the shares of the two areas.

    The box has the image's proportions, a share ``1 - s`` of its area and any centre; what lies outside is cut off.
    """

    soft_targets: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def __call__(self, image: Images, target: Tensor, draws: np.random.Generator) -> tuple[Images, Tensor]:
        """Images ``(B, 3, H, W)`` and target ``(B, L)`` to the same shapes."""
        assert isinstance(image, Tensor)
        if draws.random() >= self.options.probability:
            return image, target
        height, width = image.shape[2:]
        side = math.sqrt(1 - draws.beta(self.options.alpha, self.options.alpha))
        top, bottom = _span(height, side, draws)
        left, right = _span(width, side, draws)
        other = partners(len(target), draws, target.device)
        mixed = image.clone()
        mixed[:, :, top:bottom, left:right] = image[other, :, top:bottom, left:right]
        stays = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, blend(target, target[other], stays)


def _span(length: int, share: float, draws: np.random.Generator) -> tuple[int, int]:
    """First and last pixel (exclusive) of a box along one side."""
    centre, half = int(draws.integers(length)), int(length * share) // 2
    return max(0, centre - half), min(length, centre + half)
