"""Decode an image file, in whatever format and orientation, to 8-bit RGB."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from msrn.data.archives.members import open_file
from msrn.data.image_files import IMAGE_FORMATS
from msrn.errors import DataError, reason

__all__ = ["MAX_PIXELS", "open_image", "supported_formats"]

MAX_PIXELS = 89_478_485
"""Largest image that is decoded, width times height: Pillow's own bound, 256 MiB as RGB."""

REPLACE = "replace this file or leave it out; msrn data check finds all such files"
SMALLER = "make the image smaller"


def open_image(
    source: str | Path | bytes | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS, min_side: int = 0
) -> Image.Image:
    """Decode an image to RGB, upright.

    The EXIF orientation is applied, transparency is laid over white, and 16-bit greys are scaled to 8 bits. Of an
    animation, the first frame is taken.

    Args:
        source: a path, also of an image in an archive (``data.archives``); an encoded image; an open file; or a Pillow
            image, which is left unchanged.
        max_pixels: width times height above which an image is refused.
        min_side: a JPEG is decoded at a half, a quarter or an eighth of its size, as long as neither side falls below
            this: several times faster for photographs of many megapixels. 0: in full.

    Raises:
        DataError: the file is missing, not an image, damaged or cut short, has more than ``max_pixels``, or holds
            values without a known range (32-bit integers, floats). The error names the file.
    """
    where = str(source) if isinstance(source, str | Path) else "an image in memory"
    try:
        if isinstance(source, Image.Image):
            return _decode(source, where, max_pixels, 0)
        # Opened here rather than by Pillow, which leaves its file open when decoding fails.
        with _file(source) as file, Image.open(file, formats=supported_formats()) as image:
            return _decode(image, where, max_pixels, min_side)
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError("expected an image, found no file", where, "check the path") from None
    except UnidentifiedImageError as error:
        message = f"expected an image ({', '.join(supported_formats())}), got something else"
        raise DataError(message, where, REPLACE) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"expected at most {max_pixels:,} pixels: {error}", where, SMALLER) from error
    except OSError as error:
        raise DataError(f"the image cannot be read: {reason(error)}", where, REPLACE) from error
    except Exception as error:  # Pillow's decoders raise nearly every kind of exception on damaged input
        raise DataError(f"the image cannot be read: {error}", where, REPLACE) from error


def _file(source: str | Path | bytes | BinaryIO) -> BinaryIO:
    if isinstance(source, str | Path):
        return open_file(source)
    return io.BytesIO(source if isinstance(source, bytes) else source.read())


@functools.cache
def supported_formats() -> tuple[str, ...]:
    """Those of ``IMAGE_FORMATS`` that this build of Pillow can open."""
    Image.init()
    return tuple(name for name in IMAGE_FORMATS if name in Image.OPEN)


def _decode(image: Image.Image, where: str, max_pixels: int, min_side: int) -> Image.Image:
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise DataError(f"expected at most {max_pixels:,} pixels, got {size}", where, SMALLER)
    if min_side:
        image.draft(None, (min_side, min_side))  # does nothing but for JPEG; a square, as it may be turned below
    image.load()
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:
        upright = image  # damaged EXIF says nothing about the pixels, and its parser raises nearly anything
    return _rgb(upright, where, sixteen_bit=image.mode == "I" and image.format in {"PNG", "PPM"})


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
