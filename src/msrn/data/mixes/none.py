"""No mixing: each image is trained on as it is."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from msrn import registry
from msrn.data.mixes.base import Images, Mix

__all__ = ["NoMix", "Options"]


class Options(registry.Options):
    """No mixing has no options."""

    name: str = "none"


class NoMix(Mix):
    """The micro-batch as it is."""

    takes_features: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        pass

    def __call__(self, image: Images, target: Tensor, draws: np.random.Generator) -> tuple[Images, Tensor]:
        """Images and target, unchanged."""
        return image, target
