"""Read the pixels of image files whose damage lies outside the pixels, and the range of values that a file declares."""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import Image

__all__ = ["highest_value", "repaired", "whole_without_end"]

PNG = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
MAX_SAMPLE_VALUE = 281  # a tag of TIFF

TAILS = (b"\0" * 512, b"\x55" * 512, b"\xaa" * 512, b"\xfe" * 512)


def repaired(content: bytes) -> bytes | None:
    """A PNG or JPEG with only the parts that hold pixels, so that damaged or large texts, profiles and EXIF do no harm.

    None: the content is neither, is cut short before the pixels, or has no other parts.
    """
    if content.startswith(PNG):
        return _png_of_pixels(content)
    return _jpeg_of_pixels(content) if content.startswith(b"\xff\xd8\xff") else None


def _png_of_pixels(content: bytes) -> bytes | None:
    kept, place, dropped = [PNG], len(PNG), False
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, end = content[place + 4 : place + 8], place + 12 + length
        if end > len(content):
            return None
        if kind in PIXEL_CHUNKS:
            kept.append(content[place:end])
        else:
            dropped = True
        place = end
        if kind == b"IEND":
            return b"".join(kept) if dropped else None
    return None


def _jpeg_of_pixels(content: bytes) -> bytes | None:
    kept, place, dropped = [content[:2]], 2, False
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        (length,) = struct.unpack(">H", content[place + 2 : place + 4])
        if marker == 0xDA:  # the pixels follow
            return b"".join([*kept, content[place:]]) if dropped else None
        if marker in range(0xE1, 0xEE) or marker == 0xFE:  # EXIF, profiles, comments; not JFIF and Adobe
            dropped = True
        else:
            kept.append(content[place : place + 2 + length])
        place += 2 + length
    return None


def whole_without_end(content: bytes, max_pixels: int) -> Image.Image | None:
    """The image of a JPEG that lacks only its end mark; None if pixels are missing, or for a progressive JPEG.

    The entropy-coded data are followed by bytes that mean nothing. Where all pixels are there, a decoder skips such
    bytes, and the image is the same whatever they are.
    """
    if not content.startswith(b"\xff\xd8\xff") or content.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None
    found: Image.Image | None = None
    for tail in TAILS:
        try:
            with Image.open(io.BytesIO(content + tail + b"\xff\xd9"), formats=["JPEG"]) as image:
                if image.info.get("progressive") or image.width * image.height > max_pixels:
                    return None
                image.load()
                copy = image.copy()
                copy.format = image.format
        except Exception:  # not decodable in this way either
            return None
        if found is not None and found.tobytes() != copy.tobytes():
            return None
        found = copy
    return found


def highest_value(image: Image.Image) -> int:
    """The largest value of a channel of 16 bits, as an open file declares it (12-bit data), or 65535."""
    declared = 65535
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        value = tags.get(MAX_SAMPLE_VALUE)
        value = value[0] if isinstance(value, tuple) and value else value
        declared = value if isinstance(value, int) else declared
    if image.format == "PNG" and image.mode.startswith("I") and (bits := _significant_bits(image)):
        # PNG demands values that are scaled up to 16 bits; only those that are not stay below this limit.
        low = (1 << bits) - 1
        highest: Any = image.getextrema()[1]
        declared = low if highest <= low else declared
    return declared if 255 < declared <= 65535 else 65535


def _significant_bits(image: Image.Image) -> int:
    """The first value of the chunk sBIT, which stands before the pixels; 0 if there is none."""
    file = getattr(image, "fp", None)
    if file is None:
        return 0
    place = file.tell()
    file.seek(0)
    head = file.read(4096)
    file.seek(place)
    at = head.find(b"sBIT")
    bits = head[at + 4] if 0 < at < len(head) - 4 and at < (head.find(b"IDAT") % 4096) else 0
    return bits if 8 < bits < 16 else 0
