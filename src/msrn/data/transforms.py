"""Turn a decoded image into a tensor: the evaluation transform, and the random ones for training.

Evaluation, prediction and serving use the same evaluation transform.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from msrn.errors import DataError

__all__ = [
    "VIEWS",
    "MultiScaleCrop",
    "Preprocessing",
    "Transform",
    "View",
    "Views",
    "eval_transform",
    "train_transform",
]

Transform = Callable[[Image.Image], Tensor]
Views = Literal["one", "flip", "crops"]

CROP_SIDE = 0.8
"""Side of a crop among the views, of the whole."""


@dataclass(frozen=True, slots=True)
class View:
    """A part of what evaluation shows of an image, in fractions of its width and height, and whether it is mirrored."""

    left: float = 0
    top: float = 0
    side: float = 1
    mirrored: bool = False


def _views() -> dict[Views, tuple[View, ...]]:
    free = 1 - CROP_SIDE
    corners = [(0, 0), (free, 0), (0, free), (free, free)]
    parts = [View(), *(View(left, top, CROP_SIDE) for left, top in [*corners, (free / 2, free / 2)])]
    pairs = [(part, View(part.left, part.top, part.side, mirrored=True)) for part in parts]
    return {"one": (View(),), "flip": pairs[0], "crops": tuple(itertools.chain.from_iterable(pairs))}


VIEWS: Mapping[Views, tuple[View, ...]] = _views()
"""``one``: the whole; ``flip``: also mirrored; ``crops``: four corners and the centre too, all also mirrored."""


Spread = Annotated[float, Field(gt=0)]


class Preprocessing(BaseModel):
    """Everything that turns an image into the input of a network; part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(448, ge=1, le=2048, description="side in pixels")
    resize: Literal["squash", "crop"] = Field("squash", description="squash the whole image, or take its centre square")
    crop_fraction: float = Field(0.875, gt=0, le=1, description="crop: side of the centre square over the short side")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    decode_margin: float = Field(
        0, ge=0, le=16, description="JPEG is decoded smaller, both sides at least this many times size; 0: in full"
    )
    views: Views = Field("one", description="views of an image whose logits are averaged")
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Spread, Spread, Spread] = (0.229, 0.224, 0.225)

    @property
    def min_side(self) -> int:
        """Shortest side, in pixels, of an image that is decoded smaller (``open_image``); 0: it is decoded in full."""
        return math.ceil(self.decode_margin * self.size)


def eval_transform(preprocessing: Preprocessing, view: View | None = None) -> Transform:
    """The transform of evaluation, prediction and serving: image to ``(3, size, size)`` float32, normalised.

    Args:
        preprocessing: size, resizing and statistics.
        view: the part that is shown, as large as the whole would be; None: the whole.
    """
    return v2.Compose([EvaluationResize(preprocessing, view or View()), *_to_tensor(preprocessing)])


def train_transform(preprocessing: Preprocessing, augment: str) -> Transform:
    """A random transform for training, drawing from torch's global generator.

    Args:
        preprocessing: gives size and statistics.
        augment: ``published``, multi-scale crop and flip (method, section 6); ``modern``, random resized crop, flip,
            RandAugment (Cubuk et al. 2020) and cutout (DeVries and Taylor 2017); ``light``, random resized crop of at
            least 40 % of the image and flip; ``flip``, the whole image, mirrored half of the time, for labels that
            a crop would lose; ``crops``, one of the twelve ``VIEWS``; ``none``, the evaluation transform.
    """
    size = preprocessing.size
    bilinear = F.InterpolationMode.BILINEAR
    flip = v2.RandomHorizontalFlip()
    if augment == "none":
        return eval_transform(preprocessing)
    if augment == "flip":
        return v2.Compose([flip, eval_transform(preprocessing)])
    if augment == "crops":
        views = [EvaluationResize(preprocessing, view) for view in VIEWS["crops"]]
        return v2.Compose([v2.RandomChoice(views), *_to_tensor(preprocessing)])
    if augment == "published":
        return v2.Compose([MultiScaleCrop(size), flip, *_to_tensor(preprocessing)])
    if augment == "light":
        crop = v2.RandomResizedCrop(size, scale=(0.4, 1.0), interpolation=bilinear)
        return v2.Compose([crop, flip, *_to_tensor(preprocessing)])
    if augment == "modern":
        crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=bilinear)
        cutout = v2.RandomErasing(p=0.5, scale=(0.02, 0.2), ratio=(0.5, 2.0), value=0)
        return v2.Compose([crop, flip, v2.RandAugment(), *_to_tensor(preprocessing), cutout])
    raise DataError(f"expected published, modern, light, flip, crops or none, got {augment!r}", "data.augment")


class EvaluationResize(torch.nn.Module):
    """The whole image squashed to a square, or its centre square, ``crop_fraction`` of the short side, resized.

    Crop and resize are one step: a narrow image that is resized first would grow huge. A view is a part of that.
    """

    def __init__(self, preprocessing: Preprocessing, view: View) -> None:
        super().__init__()
        self.preprocessing, self.view = preprocessing, view

    def forward(self, image: Image.Image) -> Image.Image:
        """A ``size`` x ``size`` image."""
        settings, view = self.preprocessing, self.view
        left, top, width, height = 0.0, 0.0, float(image.width), float(image.height)
        if settings.resize == "crop":
            width = height = settings.crop_fraction * min(image.size)
            left, top = (image.width - width) / 2, (image.height - height) / 2
        left, top = left + view.left * width, top + view.top * height
        box = (left, top, min(left + view.side * width, image.width), min(top + view.side * height, image.height))
        resample = Image.Resampling[settings.interpolation.upper()]
        shown = image.resize((settings.size, settings.size), resample, box=box)
        return ImageOps.mirror(shown) if view.mirrored else shown


class MultiScaleCrop(torch.nn.Module):
    """The published training crop: sides are fractions of the short side, at one of 13 places, resized to a square.

    Width and height take fractions of 1, .9, .8, .7, .6 that lie at most two steps apart; places are the corners,
    centre, edge middles and quarter points of the free room.
    """

    fractions = (1.0, 0.9, 0.8, 0.7, 0.6)
    places = (
        *((x, y) for y in (0, 2, 4) for x in (0, 2, 4)),
        *((x, y) for y in (1, 3) for x in (1, 3)),
    )
    """Quarters of the free room, horizontally and vertically: 9 of a three by three grid, 4 between them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        steps = range(len(self.fractions))
        self.pairs = [(w, h) for w in steps for h in steps if abs(w - h) <= 2]

    def forward(self, image: Image.Image) -> Image.Image:
        """A ``size`` x ``size`` image."""
        short = min(image.size)
        wide, high = self.pairs[_draw(len(self.pairs))]
        width, height = (max(1, int(short * self.fractions[side])) for side in (wide, high))
        across, down = self.places[_draw(len(self.places))]
        left, top = (image.width - width) * across // 4, (image.height - height) * down // 4
        box = (left, top, left + width, top + height)
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)


def _draw(count: int) -> int:
    return int(torch.randint(count, ()))


def _to_tensor(preprocessing: Preprocessing) -> list[torch.nn.Module]:
    return [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(preprocessing.mean), list(preprocessing.std)),
        v2.ToPureTensor(),
    ]
