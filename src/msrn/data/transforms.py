"""How does a picture become a tensor? One evaluation path for every door; the training transforms start from it."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from msrn.data.archives.containers import open_file
from msrn.errors import DataError, reason

__all__ = ["MAX_PIXELS", "MultiScaleCrop", "Preprocessing", "eval_transform", "open_image", "train_transform"]

MAX_PIXELS = 89_478_485
"""Largest picture that is decoded, width times height: Pillow's own bound, 256 MiB as RGB."""

KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Kinds of file that are tried: those that Pillow decodes by itself, so no picture can start another program."""

Transform = Callable[[Image.Image], Tensor]


class Preprocessing(BaseModel):
    """Everything that turns a picture into a network's input; part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(448, ge=1, description="side in pixels")
    resize: Literal["squash", "crop"] = Field("squash", description="whole picture squashed, or its centre square")
    crop_fraction: float = Field(0.875, gt=0, le=1, description="crop: side of the centre square over the short side")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    decode_margin: float = Field(
        0, ge=0, description="JPEG is decoded smaller, both sides at least this many times size; 0: in full"
    )
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def least_side(self) -> int:
        """Pixels that both sides of a picture keep when it is decoded smaller; 0: it is decoded in full."""
        return math.ceil(self.decode_margin * self.size)


def open_image(
    source: str | Path | bytes | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS, least_side: int = 0
) -> Image.Image:
    """Decode a picture to RGB, upright.

    With ``least_side``, a JPEG is decoded at a half, a quarter or an eighth of its size as long as neither side gets
    shorter than that: several times faster for photographs of many megapixels.

    The EXIF orientation is applied, transparency laid over white, and 16-bit greys brought to 8 bits. Of an animation
    the first frame is taken. A Pillow picture that is passed stays as it is. A path may lead into a tar shard or a
    parquet file, as ``data.archives.containers`` says.

    Raises:
        DataError: not found, no picture, damaged or cut short, more than ``max_pixels``, or with numbers of no known
            range (32-bit integers, floats). It names the file.
    """
    where = str(source) if isinstance(source, str | Path) else "a picture in memory"
    try:
        if isinstance(source, Image.Image):
            return _decode(source, where, max_pixels, 0)
        # Opened here rather than by Pillow, which leaves its file open when decoding fails.
        with _file(source) as file, Image.open(file, formats=_kinds()) as image:
            return _decode(image, where, max_pixels, least_side)
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError("expected a picture, found no file", where, "check the path") from None
    except UnidentifiedImageError as error:
        told = f"expected a picture ({', '.join(_kinds())}), got something else"
        raise DataError(told, where, REPLACE) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"expected at most {max_pixels:,} pixels: {error}", where, SMALLER) from error
    except OSError as error:
        raise DataError(f"the picture cannot be read: {reason(error)}", where, REPLACE) from error
    except Exception as error:  # Pillow's decoders raise nearly every kind of exception on damaged input
        raise DataError(f"the picture cannot be read: {error}", where, REPLACE) from error


REPLACE = "replace or leave out this file; msrn data check finds all such"
SMALLER = "make the picture smaller"


def _file(source: str | Path | bytes | BinaryIO) -> BinaryIO:
    if isinstance(source, str | Path):
        return open_file(source)
    return io.BytesIO(source if isinstance(source, bytes) else source.read())


@functools.cache
def _kinds() -> tuple[str, ...]:
    Image.init()
    return tuple(kind for kind in KINDS if kind in Image.OPEN)


def _decode(image: Image.Image, where: str, max_pixels: int, least_side: int) -> Image.Image:
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise DataError(f"expected at most {max_pixels:,} pixels, got {size}", where, SMALLER)
    if least_side:
        image.draft(None, (least_side, least_side))  # does nothing but for JPEG; a square, as it may be turned below
    image.load()
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:
        upright = image  # damaged EXIF says nothing about the pixels, and its parser raises nearly anything
    return _rgb(upright, where, sixteen_bit=image.mode == "I" and image.format in {"PNG", "PPM"})


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """The transform of evaluation, prediction and serving: picture to ``(3, size, size)`` float32, normalised."""
    return v2.Compose([EvaluationResize(preprocessing), *_to_tensor(preprocessing)])


def train_transform(preprocessing: Preprocessing, augment: str) -> Transform:
    """A random transform for training, drawing from torch's global generator.

    Args:
        preprocessing: gives size and statistics.
        augment: ``published``, multi-scale crop and flip (method, section 6); ``modern``, random resized crop, flip,
            RandAugment (Cubuk et al. 2020) and cutout (DeVries and Taylor 2017); ``light``, random resized crop of at
            least 40 % of the picture and flip; ``flip``, the whole picture, mirrored every other time, for labels
            that a crop would lose; ``none``, the evaluation transform.
    """
    size = preprocessing.size
    bilinear = F.InterpolationMode.BILINEAR
    flip = v2.RandomHorizontalFlip()
    if augment == "none":
        return eval_transform(preprocessing)
    if augment == "flip":
        return v2.Compose([flip, eval_transform(preprocessing)])
    if augment == "published":
        return v2.Compose([MultiScaleCrop(size), flip, *_to_tensor(preprocessing)])
    if augment == "light":
        crop = v2.RandomResizedCrop(size, scale=(0.4, 1.0), interpolation=bilinear)
        return v2.Compose([crop, flip, *_to_tensor(preprocessing)])
    if augment == "modern":
        crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=bilinear)
        cutout = v2.RandomErasing(p=0.5, scale=(0.02, 0.2), ratio=(0.5, 2.0), value=0)
        return v2.Compose([crop, flip, v2.RandAugment(), *_to_tensor(preprocessing), cutout])
    raise DataError(f"expected published, modern, light, flip or none, got {augment!r}", "data.augment")


class EvaluationResize(torch.nn.Module):
    """The whole picture squashed to a square, or its centre square, ``crop_fraction`` of the short side, resized.

    The crop is cut while resizing: resized first, a sliver of a picture would grow huge.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, image: Image.Image) -> Image.Image:
        """A ``size`` x ``size`` picture."""
        settings, (width, height) = self.preprocessing, image.size
        box = (0.0, 0.0, float(width), float(height))
        if settings.resize == "crop":
            side = settings.crop_fraction * min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
        resample = Image.Resampling[settings.interpolation.upper()]
        return image.resize((settings.size, settings.size), resample, box=box)


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


def _rgb(image: Image.Image, where: str, *, sixteen_bit: bool) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or sixteen_bit:  # Pillow's own conversion would clip them
        values = np.asarray(image).astype(np.uint32).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        message = f"expected 8 or 16 bits a channel, got Pillow mode {image.mode!r}, whose range of values is unknown"
        raise DataError(message, where, "save it as an 8-bit PNG or JPEG")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
