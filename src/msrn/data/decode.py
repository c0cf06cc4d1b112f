"""Decode an image file, in whatever format and orientation, to 8-bit RGB."""

from __future__ import annotations

import ctypes
import functools
import io
import logging
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, _imaging

from msrn.data.archives.members import open_file
from msrn.data.image_files import IMAGE_FORMATS
from msrn.data.image_repair import highest_value, repaired, whole_without_end
from msrn.data.looks import look_of
from msrn.errors import DataError, reason

__all__ = ["MAX_PIXELS", "image_header", "one_line", "open_image", "supported_formats"]

# What is wrong with an image is said once, by open_image. Pillow would warn of it and log it too, and libtiff print it.
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)
for category in (UserWarning, RuntimeWarning):
    warnings.filterwarnings("ignore", category=category, module=r"PIL\.")
with suppress(OSError, AttributeError):  # AttributeError: a Pillow without libtiff
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)

MAX_PIXELS = 89_478_485
"""Largest image that is decoded, width times height: Pillow's own bound, 256 MiB as RGB."""

REPLACE = "replace this file or leave it out; msrn data check finds all such files"
SMALLER = "make the image smaller"
EMPTY = "check how the image was cut out"
CHECK = "check the path"


def open_image(
    source: str | Path | bytes | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS, min_side: int = 0
) -> Image.Image:
    """Decode an image to RGB, upright.

    The EXIF orientation is applied, transparency is laid over white, and 16-bit greys are scaled to 8 bits (from the
    largest value that the file declares, as for 12-bit data). Of an animation, the first frame is taken. Damage outside
    the pixels (EXIF, texts, colour profile, the end mark of a JPEG) does not matter.

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
        with _file(source) as file:
            try:
                with Image.open(file, formats=supported_formats()) as image:
                    return _decode(image, where, max_pixels, min_side)
            except (DataError, MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
                raise  # nothing to repair
            except Exception:
                file.seek(0)
                content = file.read()
                if (image_of_pixels := _repaired(content, where, max_pixels, min_side)) is not None:
                    return image_of_pixels
                raise
    except DataError:
        raise
    except MemoryError as error:
        raise DataError("the image needs more memory than there is", where, SMALLER) from error
    except FileNotFoundError:
        raise DataError("expected an image, found no file", where, CHECK) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"expected at most {max_pixels:,} pixels: {error}", where, SMALLER) from error
    except UnidentifiedImageError as error:
        look = look_of(_start(source), Path(where))
        got = f"what looks like {look.what}" if look else "something else"
        message = f"expected an image ({', '.join(supported_formats())}), got {got}"
        raise DataError(message, where, look.hint if look else REPLACE) from error
    except OSError as error:
        raise DataError(f"the image cannot be read: {reason(error)}", where, REPLACE) from error
    except Exception as error:  # Pillow's decoders raise nearly every kind of exception on damaged input
        raise DataError(f"the image cannot be read: {error}", where, REPLACE) from error


def one_line(error: DataError) -> str:
    """The message of an error of ``open_image``, with what to do where that depends on the file: convert, unpack."""
    problem = error.problems[0]
    plain = problem.hint in {"", REPLACE, SMALLER, EMPTY, CHECK}
    return problem.message if plain else f"{problem.message}: {problem.hint}"


def _repaired(content: bytes, where: str, max_pixels: int, min_side: int) -> Image.Image | None:
    """The image of a file that failed, if only parts beside its pixels are damaged or missing; else None."""
    if (pixels := repaired(content)) is not None:
        with suppress(Exception), Image.open(io.BytesIO(pixels), formats=supported_formats()) as image:
            return _decode(image, where, max_pixels, min_side)
    entire = whole_without_end(content, max_pixels)
    return None if entire is None else _decode(entire, where, max_pixels, min_side)


def image_header(path: str | Path) -> tuple[str, tuple[int, int], int]:
    """Format by Pillow's name, size upright, and number of frames or pages, without decoding pixels.

    Raises:
        DataError: the header cannot be read.
    """
    try:
        with open_file(path) as file:
            try:
                return _header(file)
            except Exception:
                file.seek(0)
                whole = repaired(file.read())
                if whole is None:
                    raise
                return _header(io.BytesIO(whole))
    except DataError:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged files
        raise DataError(f"the image cannot be read: {error}", str(path)) from error


ORIENTATION = 0x0112


def _header(file: BinaryIO) -> tuple[str, tuple[int, int], int]:
    with Image.open(file, formats=supported_formats()) as image:
        try:
            turned = image.getexif().get(ORIENTATION) in {5, 6, 7, 8}
        except Exception:  # as in open_image: EXIF that cannot be parsed turns nothing
            turned = False
        size = image.size[::-1] if turned else image.size
        if image.format == "MPO":  # the further images of a camera's file are previews
            return "JPEG", size, 1
        try:
            frames = int(getattr(image, "n_frames", 1))
        except Exception:  # a damaged later frame
            frames = 1
        return str(image.format), size, frames


def _start(source: str | Path | bytes | BinaryIO | Image.Image) -> bytes:
    """The first bytes of a source that could not be identified."""
    try:
        if isinstance(source, str | Path):
            with open_file(source) as file:
                return file.read(4000)
        if isinstance(source, bytes):
            return source[:4000]
        if not isinstance(source, Image.Image):
            source.seek(0)
            return source.read(4000)
    except (OSError, ValueError, DataError):
        pass
    return b""


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
    if not image.width * image.height:
        raise DataError(f"expected an image, got one without pixels: {image.width} x {image.height}", where, EMPTY)
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise DataError(f"expected at most {max_pixels:,} pixels, got {size}", where, SMALLER)
    if min_side:
        image.draft(None, (min_side, min_side))  # does nothing but for JPEG; a square, as it may be turned below
    highest = highest_value(image)
    image.load()
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:
        upright = image  # damaged EXIF says nothing about the pixels, and its parser raises nearly anything
    sixteen_bit = image.mode == "I" and image.format in {"PNG", "PPM"}
    return _rgb(upright, where, sixteen_bit=sixteen_bit, highest=highest)


def _rgb(image: Image.Image, where: str, *, sixteen_bit: bool, highest: int) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or sixteen_bit:  # Pillow's own conversion would clip them
        values = np.asarray(image).astype(np.uint32).clip(0, highest)
        grey = ((values * 255 + highest // 2) // highest).astype(np.uint8)
        if isinstance(clear := image.info.get("transparency"), int):
            grey[values == clear] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in {"I", "F"}:
        message = f"expected 8 or 16 bits a channel, got Pillow mode {image.mode!r}, whose range of values is unknown"
        raise DataError(message, where, "save it as an 8-bit PNG or JPEG")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
