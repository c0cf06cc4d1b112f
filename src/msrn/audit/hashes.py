"""Duplicates and near duplicates of images.

Duplicates have equal pixels, whatever their files' formats and metadata. Near duplicates have perceptual hashes (pHash,
Zauner 2010: the signs of the lowest 64 frequencies) that differ in few bits, and colour thumbnails that differ little,
because the hash ignores colour. ImageHash computes the hashes. The search for near pairs is written here: ImageHash
compares two hashes at a time, and the approximate indexes of other packages may miss pairs.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from msrn.errors import DependencyError

__all__ = [
    "MAX_BITS",
    "NEAR_BITS",
    "Fingerprint",
    "fingerprint",
    "imagehash_installed",
    "near_pairs",
    "pixel_digest",
    "require_imagehash",
]

NEAR_BITS, MAX_BITS = 8, 15
"""Bits of 64 in which the hashes of near duplicates may differ: by default, and the largest value."""

MAX_DIFFERENCE = 8.0
"""Largest mean difference of two thumbnails, in grey levels of 255. A shirt in red and in blue differs by 100."""

THUMBNAIL = 8
"""Side in pixels."""

_PAIRS_AT_A_TIME = 2**18


class Fingerprint(NamedTuple):
    """The 64-bit hash of an image, and the bytes of its thumbnail, ``(8, 8, 3)`` uint8."""

    hash: int
    thumbnail: bytes


def pixel_digest(image: Image.Image) -> bytes:
    """SHA-256 of the size and pixels of an RGB image."""
    hasher = hashlib.sha256(b"%d x %d " % image.size)
    hasher.update(image.tobytes())
    return hasher.digest()


def fingerprint(image: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB image. Raises DependencyError without the package ImageHash."""
    bits = require_imagehash().phash(image).hash
    number = int.from_bytes(np.packbits(bits.reshape(-1)).tobytes(), "big")
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return Fingerprint(number, small.tobytes())


def imagehash_installed() -> bool:
    """Whether the optional package ImageHash is installed, which finds near duplicates."""
    return importlib.util.find_spec("imagehash") is not None


def require_imagehash() -> Any:
    """The module ``imagehash``. Raises DependencyError if it is not installed."""
    try:
        import imagehash
    except ImportError as error:
        hint = "pip install 'msrn[data]', or pip install imagehash"
        raise DependencyError("finding near duplicates needs the package ImageHash", "imagehash", hint) from error
    return imagehash


def near_pairs(fingerprints: Sequence[Fingerprint], *, bits: int = NEAR_BITS) -> npt.NDArray[np.intp]:
    """All pairs of near duplicates.

    Args:
        fingerprints: one per image.
        bits: number of bits in which the hashes may differ, 0 to ``MAX_BITS``.

    Returns:
        ``(pairs, 2)`` positions, the smaller first, in order.

    The hashes are cut into ``bits + 1`` bands. Two hashes that differ in at most ``bits`` bits agree in at least one
    band, so only hashes with an equal band are compared, and no pair is missed.
    """
    hashes = np.array([each.hash for each in fingerprints], np.uint64)
    shape = (len(hashes), THUMBNAIL * THUMBNAIL * 3)
    thumbnails = np.frombuffer(b"".join(each.thumbnail for each in fingerprints), np.uint8).reshape(shape)
    found = [np.empty((0, 2), np.intp)]
    edges = np.linspace(0, 64, bits + 2).astype(int).tolist()
    masks = [np.uint64((1 << high) - (1 << low)) for low, high in pairwise(edges)]
    for number, mask in enumerate(masks):
        for left, right in _pairs_of_equals(hashes & mask):
            apart = hashes[left] ^ hashes[right]
            near = np.bitwise_count(apart) <= bits
            for earlier in masks[:number]:  # found in that band
                near &= (apart & earlier) != 0
            left, right = left[near], right[near]
            difference = np.abs(thumbnails[left].astype(np.int16) - thumbnails[right]).mean(1)
            alike = difference <= MAX_DIFFERENCE
            found.append(np.sort(np.stack([left[alike], right[alike]], 1), 1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _pairs_of_equals(keys: npt.NDArray[np.uint64]) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Positions of all pairs with equal keys, in blocks of bounded size."""
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order])) + 1
    for members in np.split(order, bounds):
        rows = max(1, _PAIRS_AT_A_TIME // max(1, len(members)))
        for start in range(0, len(members) - 1, rows):
            block = members[start : start + rows]
            row, column = np.nonzero(
                np.arange(start, len(members))[None] > np.arange(start, start + len(block))[:, None]
            )
            yield block[row], members[start:][column]
