"""mixup (Zhang et al., ICLR 2018, arXiv 1710.09412, section 2): sums of two images, with the sums of their targets.

Where we differ: in nothing but what several labels ask for. A target is mixed label by label, and is unknown where it
is unknown for either image. As in the authors' program, a micro-batch has one share, and images meet within it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from msrn import registry
from msrn.data.mixes.base import Images, Mix, blend, partners

__all__ = ["Mixup", "Options"]


class Options(registry.Options):
    """Options of mixup; alpha is the paper's for ImageNet."""

    name: str = "mixup"
    alpha: Annotated[float, Field(gt=0)] = Field(
        0.2, description="shares are drawn from Beta(alpha, alpha): small, mostly one image; 1, any share"
    )
    probability: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="that a micro-batch is mixed")


class Mixup(Mix):
    """``s x_i + (1 - s) x_j`` for images and targets; ``s`` is from ``Beta(alpha, alpha)``, ``j`` a permutation."""

    soft_targets: ClassVar[bool] = True
    takes_features: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def __call__(self, image: Images, target: Tensor, draws: np.random.Generator) -> tuple[Images, Tensor]:
        """Images or feature maps, and target ``(B, L)``, to the same shapes."""
        if draws.random() >= self.options.probability:
            return image, target
        share = float(draws.beta(self.options.alpha, self.options.alpha))
        other = partners(len(target), draws, target.device)
        if isinstance(image, list):
            return [blend(each, each[other], share) for each in image], blend(target, target[other], share)
        return blend(image, image[other], share), blend(target, target[other], share)
