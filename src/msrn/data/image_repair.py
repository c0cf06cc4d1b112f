"""Read the pixels of image files whose damage lies outside the pixels, and the range of values that a file declares."""

from __future__ import annotations

import io
import struct

from PIL import Image

__all__ = ["highest_value", "repaired", "whole_without_end"]

PNG = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
MAX_SAMPLE_VALUE = 281  # a tag of TIFF

TAILS = (b"\0" * 512, b"\x55" * 512, b"\xaa" * 512, b"\xfe" * 512)


def repaired(content: bytes) -> bytes | None:
    """A PNG with only the chunks that hold pixels, so that large or damaged texts, profiles and EXIF do not matter.

    None: the content is no PNG, is cut short, or has no other chunks.
    """
    if not content.startswith(PNG):
        return None
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
    """The largest value of a channel of 16 bits: of what the file declares (12-bit data in a TIFF or PNG), or 65535."""
    declared = 65535
    tags = getattr(image, "tag_v2", None)
    if tags is not None and isinstance(value := tags.get(MAX_SAMPLE_VALUE), int):
        declared = value
    if image.format == "PNG" and (bits := _significant_bits(image)):
        # Writers of sBIT scale values up to 16 bits, as PNG demands; only those that do not stay below the limit.
        low = (1 << bits) - 1
        extrema = image.getextrema()
        if isinstance(extrema[1], int | float) and extrema[1] <= low:
            declared = low
    return declared if 255 < declared <= 65535 else 65535


def _significant_bits(image: Image.Image) -> int:
    """The first value of the chunk sBIT, which Pillow keeps unread; 0 if there is none."""
    for kind, data, *_ in getattr(image, "private_chunks", []):
        if kind == b"sBIT" and data and 8 < data[0] < 16:
            return int(data[0])
    return 0
