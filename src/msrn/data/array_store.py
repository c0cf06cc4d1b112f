"""Keep arrays on disk: appended to one file, found by key, read without copying.

A folder holds ``data.bin``, the arrays one after another, and ``index.bin``, one fixed-size row for each: key, offset,
shape. The row of an array is written after its bytes, and an incomplete row is ignored: a process may stop at any byte
without harm to the arrays before. Many processes may read at a time, one may write.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from msrn.errors import DataError
from msrn.files import append_whole, parse_json, remove_partial_files, write_atomically

__all__ = ["ArrayStore", "key_of"]

FORMAT = "msrn-arrays-1"
ROW = np.dtype([("key", "V16"), ("offset", "<u8"), ("shape", "<u4", (3,))])


def key_of(*parts: bytes | str) -> bytes:
    """A key of 16 bytes for these parts in this order (BLAKE2b)."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        hasher.update(len(encoded).to_bytes(8, "little") + encoded)
    return hasher.digest()


class ArrayStore:
    """Arrays of one dtype and up to three dimensions, by key.

    Args:
        folder: created if it does not exist. A folder with other files is refused.
        dtype: of all its arrays.

    Used as a context manager, a store holds the lock of its folder and can be written to; otherwise it only reads. It
    can be pickled, and used after a fork.

    Raises:
        DataError: the folder holds other files or arrays of another dtype, or another process writes to it.
    """

    def __init__(self, folder: str | Path, dtype: np.dtype[Any] | type) -> None:
        self.folder, self.dtype = Path(folder), np.dtype(dtype)
        header = self.folder / "store.json"
        if not header.exists() and self.folder.is_dir():
            remove_partial_files(self.folder)  # of a process that was killed as it began the store
        expected = {"format": FORMAT, "dtype": self.dtype.name}
        if header.exists():
            try:
                found = parse_json(header.read_bytes())
            except ValueError as error:
                found = f"no JSON ({error})"
            if found != expected:
                raise DataError(f"expected a cache of {expected}, found {found}", str(header), "choose another folder")
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise DataError(
                "expected a cache or an empty folder, found other files", str(folder), "choose another folder"
            )
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(header, json.dumps(expected))
        self._rows: dict[bytes, tuple[int, tuple[int, ...]]] = {}
        self._lock: int | None = None
        self._load()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __getitem__(self, key: bytes) -> np.ndarray:
        """The array, mapped from the file: read it, do not write to it."""
        offset, shape = self._rows[key]
        return np.memmap(self._data, self.dtype, "r", offset, shape)

    def __enter__(self) -> ArrayStore:
        """Take the lock, and cut off what an interrupted writer left incomplete."""
        self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DataError(
                "another process is filling this cache", str(self.folder), "wait for it, or choose another folder"
            ) from None
        self._load()
        for path in (self._data, self._index):
            path.touch()
        os.truncate(self._index, len(self._rows) * ROW.itemsize)
        os.truncate(self._data, max((offset + self._bytes(shape) for offset, shape in self._rows.values()), default=0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lock is not None
        os.close(self._lock)  # which releases the lock
        self._lock = None

    def add(self, key: bytes, array: np.ndarray) -> None:
        """Append an array; an existing one is left unchanged.

        Raises:
            OSError: the disk is full; arrays that were added before stay usable.
        """
        assert self._lock is not None, "use the store as a context manager to write"
        if key in self._rows:
            return
        shape = (*array.shape, *[1] * (3 - array.ndim))
        offset = append_whole(self._data, np.ascontiguousarray(array, self.dtype).tobytes())
        append_whole(self._index, np.array([(key, offset, shape)], ROW).tobytes())
        self._rows[key] = (offset, shape)

    @property
    def _data(self) -> Path:
        return self.folder / "data.bin"

    @property
    def _index(self) -> Path:
        return self.folder / "index.bin"

    def _bytes(self, shape: Sequence[int]) -> int:
        return math.prod(shape) * self.dtype.itemsize

    def _load(self) -> None:
        raw = self._index.read_bytes() if self._index.exists() else b""
        rows = np.frombuffer(raw[: len(raw) // ROW.itemsize * ROW.itemsize], ROW)
        size = self._data.stat().st_size if self._data.exists() else 0
        self._rows = {}
        for row in rows:
            offset, shape = int(row["offset"]), tuple(int(side) for side in row["shape"])
            if offset + self._bytes(shape) > size:
                break  # the writer was interrupted here
            self._rows[row["key"].tobytes()] = (offset, shape)
