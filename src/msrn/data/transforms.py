"""How does a picture become a tensor? One evaluation path for every door; the training transforms start from it."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from msrn.errors import DataError

__all__ = ["MAX_PIXELS", "MultiScaleCrop", "Preprocessing", "eval_transform", "open_image", "train_transform"]

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded: width times height."""

Transform = Callable[[Image.Image], Tensor]


class Preprocessing(BaseModel):
    """Everything that turns a picture into a network's input; part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(448, ge=1, description="side in pixels")
    resize: Literal["squash", "crop"] = Field("squash", description="whole picture squashed, or short side, then centre")
    crop_fraction: float = Field(0.875, gt=0, le=1, description="crop: share of the resized short side that is kept")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


def open_image(source: str | Path | bytes | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture to RGB, upright.

    The EXIF orientation is applied, transparency laid over white, and 16-bit greys brought to 8 bits.

    Raises:
        DataError: not found, no picture, cut short, or more than ``max_pixels``.
    """
    where = str(source) if isinstance(source, str | Path) else "a picture in memory"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked below
            warnings.filterwarnings("ignore", "Palette images with Transparency", UserWarning)
            if isinstance(source, Image.Image):
                image = source
            else:
                image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            if image.width * image.height > max_pixels:
                size = f"{image.width} x {image.height}"
                raise DataError(f"expected at most {max_pixels:,} pixels, got {size}", where, "make the picture smaller")
            return _rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise DataError("expected a picture, found no file", where, "check the path") from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError) as error:
        told = "no known picture format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"the picture cannot be read: {told}", where, "replace or leave out this file") from error


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """The transform of evaluation, prediction and serving: picture to ``(3, size, size)`` float32, normalised."""
    size = preprocessing.size
    interpolation = F.InterpolationMode(preprocessing.interpolation)
    if preprocessing.resize == "squash":
        steps: list[torch.nn.Module] = [v2.Resize((size, size), interpolation=interpolation)]
    else:
        short = math.floor(size / preprocessing.crop_fraction)
        steps = [v2.Resize(short, interpolation=interpolation), v2.CenterCrop(size)]
    return v2.Compose([*steps, *_to_tensor(preprocessing)])


def train_transform(preprocessing: Preprocessing, augment: str) -> Transform:
    """A random transform for training, drawing from torch's global generator.

    Args:
        preprocessing: gives size and statistics.
        augment: ``published``, multi-scale crop and flip (method, section 6); ``modern``, random resized crop, flip,
            RandAugment (Cubuk et al. 2020) and cutout (DeVries and Taylor 2017); ``light``, random resized crop of at
            least 40 % of the picture and flip; ``none``, the evaluation transform.
    """
    size = preprocessing.size
    bilinear = F.InterpolationMode.BILINEAR
    flip = v2.RandomHorizontalFlip()
    if augment == "none":
        return eval_transform(preprocessing)
    if augment == "published":
        return v2.Compose([MultiScaleCrop(size), flip, *_to_tensor(preprocessing)])
    if augment == "light":
        crop = v2.RandomResizedCrop(size, scale=(0.4, 1.0), interpolation=bilinear)
        return v2.Compose([crop, flip, *_to_tensor(preprocessing)])
    if augment == "modern":
        crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=bilinear)
        cutout = v2.RandomErasing(p=0.5, scale=(0.02, 0.2), ratio=(0.5, 2.0), value=0)
        return v2.Compose([crop, flip, v2.RandAugment(), *_to_tensor(preprocessing), cutout])
    raise DataError(f"expected published, modern, light or none, got {augment!r}", "data.augment")


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
        """A ``size`` x ``size`` picture."""
        short = min(image.size)
        wide, high = self.pairs[_draw(len(self.pairs))]
        width, height = int(short * self.fractions[wide]), int(short * self.fractions[high])
        across, down = self.places[_draw(len(self.places))]
        left, top = (image.width - width) * across // 4, (image.height - height) * down // 4
        box = (left, top, left + max(1, width), top + max(1, height))
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


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit greys: Pillow's own conversion would clip them
        low, high = image.convert("F").getextrema()
        scale = 255 / 65535 if high > 255 else 1.0
        return image.convert("F").point(lambda value: value * scale + 0.0).convert("L").convert("RGB")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
