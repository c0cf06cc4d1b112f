"""SpliceMix (Wang et al., arXiv 2311.15200): further images for the batch, each a grid of images made smaller.

A label of any of its images is a label of the grid, so targets stay 0 and 1, and objects are seen at two scales.

Where we differ: the paper also drops cells of the grid, and has a variant, SpliceMix-CL, whose loss asks that grids and
their images agree; both are left out. Images are made smaller with anti-aliasing. A label is unknown where no image of
the grid is known to have it and one is unknown.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msrn import registry
from msrn.data.mixes.base import Images, Mix

__all__ = ["Options", "SpliceMix"]

SMALL_GRID = 0.3
"""How often a grid is of two images and not of four, as in the authors' program."""


class Options(registry.Options):
    """Options of SpliceMix; the share is that of the authors' program."""

    name: str = "splicemix"
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="grids that are added to a micro-batch, over its images; at least one"
    )


class SpliceMix(Mix):
    """The micro-batch followed by grids of its images: 2 x 2, or two images side by side or one above the other."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def __call__(self, image: Images, target: Tensor, draws: np.random.Generator) -> tuple[Images, Tensor]:
        """Images ``(B, 3, H, W)`` and target ``(B, L)`` to ``(B + M, 3, H, W)`` and ``(B + M, L)``."""
        assert isinstance(image, Tensor)
        count, grids = len(image), max(1, round(self.options.share * len(image)))
        rows, columns = ((1, 2), (2, 1))[draws.integers(2)] if draws.random() < SMALL_GRID else (2, 2)
        drawn = np.stack([np.resize(draws.permutation(count), rows * columns) for _ in range(grids)])
        cells = torch.from_numpy(drawn).to(image.device, non_blocking=True)  # (M, rows * columns)
        return torch.cat((image, _grids(image, cells, rows, columns))), torch.cat((target, _union(target[cells])))


def _grids(image: Tensor, cells: Tensor, rows: int, columns: int) -> Tensor:
    """``(M, 3, H, W)``: images ``cells (M, rows * columns)`` in a grid; sizes that do not divide are shared out."""
    grid = torch.empty_like(image[: len(cells)])
    height, width = image.shape[2:]
    bands = [list(pairwise(round(end) for end in np.linspace(0, side, count + 1))) for side, count in
             ((height, rows), (width, columns))]  # fmt: skip
    places = [(down, across) for down in bands[0] for across in bands[1]]
    for place, ((top, bottom), (left, right)) in enumerate(places):
        size = (bottom - top, right - left)
        grid[:, :, top:bottom, left:right] = F.interpolate(
            image[cells[:, place]], size, mode="bilinear", antialias=True
        )
    return grid


def _union(target: Tensor) -> Tensor:
    """``(M, cells, L)`` in {1, 0, nan} to ``(M, L)``: 1 if any is 1, else unknown if any is, else 0."""
    present = (target == 1).any(dim=1)
    return target.sum(dim=1).masked_fill(present, 1.0)  # of 0 and nan, the sum is 0 or nan
