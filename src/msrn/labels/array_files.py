"""Read the arrays of an ``.npz`` file that anyone may have written: no code, no more memory than the file warrants."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Collection
from importlib.resources.abc import Traversable
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from msrn.errors import reason

__all__ = ["MAX_ARRAY_BYTES", "MAX_RATIO", "read_arrays", "texts_of"]

MAX_ARRAY_BYTES, MAX_RATIO = 2**28, 16
"""Largest size of the arrays of one file in memory: 256 MiB, or 16 times the file where that is more."""

_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_arrays(path: Traversable, wanted: Collection[str] = ()) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an ``.npz`` file by name; what is not wanted is not read.

    Args:
        path: the file.
        wanted: names; those that the file lacks are left out. Empty: all.

    Raises:
        OSError: the file cannot be opened. ValueError: it is damaged, holds objects, or would unpack to more than
            ``MAX_ARRAY_BYTES`` or ``MAX_RATIO`` times its size.
    """
    with path.open("rb") as raw, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns while it parses a damaged header
        limit = max(MAX_ARRAY_BYTES, MAX_RATIO * raw.seek(0, os.SEEK_END))
        raw.seek(0)
        arrays: dict[str, npt.NDArray[Any]] = {}
        try:
            with zipfile.ZipFile(raw) as archive:
                for info in archive.infolist():
                    name = info.filename.removesuffix(".npy")
                    if (wanted and name not in wanted) or name == info.filename:
                        continue
                    with archive.open(info) as member:
                        limit -= _size(member, limit)
                    with archive.open(info) as member:
                        arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
        except Exception as error:  # zipfile and numpy raise nearly anything on damaged files
            raise ValueError(reason(error) or type(error).__name__) from error
        return arrays


def texts_of(array: npt.NDArray[Any]) -> tuple[str, ...]:
    """The texts of an array ``(n,)``.

    Raises:
        ValueError: it is not one-dimensional, holds no texts, or what it holds is not text.
    """
    if array.ndim != 1 or array.dtype.kind != "U":
        raise ValueError(f"expected (n,) of strings, got {array.shape} {array.dtype}")
    signs = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).view(np.uint32) if array.itemsize else array
    # NumPy makes strings of any number, which then break Python.
    if array.itemsize and (signs > 0x10FFFF).any():
        raise ValueError("expected strings, got numbers that are no characters")
    return tuple(array.tolist())


def _size(member: IO[bytes], limit: int) -> int:
    """The bytes of an array in memory, from its header."""
    version = np.lib.format.read_magic(member)
    shape, _, dtype = _HEADERS[version](member)
    # An element of no bytes still becomes an object of Python.
    size = math.prod(shape) * max(dtype.itemsize, 1)
    if dtype.hasobject or any(side < 0 for side in shape):
        raise ValueError("expected numbers or strings, got objects" if dtype.hasobject else f"its shape is {shape}")
    if size > limit:
        raise ValueError(f"an array of {size:,} bytes, more than the {limit:,} that a file of this size may unpack to")
    return size
