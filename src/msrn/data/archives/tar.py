"""Index the members of an uncompressed tar file, so that each can be read in place by its offset."""

from __future__ import annotations

import functools
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from msrn.errors import DataError, Problem, reason

__all__ = ["MAX_MEMBER_BYTES", "read_member", "tar_members"]

MAX_MEMBER_BYTES = 2**28
"""Largest member that is read, 256 MiB: no image that ``open_image`` decodes needs more."""


def tar_members(path: str | Path) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of every plain file of a tar file, in its order.

    The index is kept as long as the file does not change.

    Raises:
        DataError: the file is missing, damaged, compressed or not a tar file; or member names are repeated, absolute or
            contain ``..``.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"cannot read the tar file: {reason(error)}", str(path), "check the path") from error
    return _tar_members(str(path), status.st_mtime_ns, status.st_size)


def read_member(path: str | Path, member: str) -> bytes:
    """The bytes of one member.

    Raises:
        DataError: as ``tar_members``, or the member is missing or larger than ``MAX_MEMBER_BYTES``.
    """
    found = tar_members(path).get(member)
    if found is None:
        raise DataError(f"the tar file has no member {member!r}", str(path), "was the file replaced since?")
    offset, size = found
    if size > MAX_MEMBER_BYTES:
        message = f"expected an image of at most {MAX_MEMBER_BYTES:,} bytes, got {size:,}"
        raise DataError(message, f"{path}::{member}")
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


@functools.cache
def _tar_members(path: str, _changed: int, _size: int) -> dict[str, tuple[int, int]]:
    members: dict[str, tuple[int, int]] = {}
    problems = []
    try:
        with open(path, "rb") as file, _opened(file) as tar:
            last = -1
            while (entry := tar.next()) is not None:
                if entry.size < 0 or entry.offset <= last:  # it would lead back to a member for ever
                    raise tarfile.ReadError(f"a member at {entry.offset:,} has the size {entry.size:,}")
                last = entry.offset
                vars(tar)["members"].clear()  # tarfile would keep all of them in memory
                if not entry.isreg() or entry.issparse():
                    continue
                # Normalised as a path would be, because a manifest joins the name to its root.
                name = str(PurePosixPath(f"::{entry.name}"))[2:]
                if not name or name.startswith("/") or ".." in name.split("/"):
                    problems.append(Problem(f"expected a relative member name, got {entry.name!r}", path))
                elif name in members:
                    problems.append(Problem(f"member {name!r} occurs twice", path, "names must be unique"))
                members[name] = (entry.offset_data, entry.size)
            end = tar.offset
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        with open(path, "rb") as file:
            start = file.read(6)
        compressed = start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
        hint = "write the file again"
        if compressed:
            hint = "unpack it (gzip -d, zstd -d): compressed files have no random access"
        raise DataError(f"expected an uncompressed tar file: {error}", path, hint) from error
    if not _only_zeros(path, end):
        hint = "write the file again; join archives with tar --concatenate, not with cat"
        problems.append(Problem(f"expected nothing after the last member, got more bytes at {end:,}", path, hint))
    if problems:
        raise DataError.of(problems, f"the tar file {path} is damaged")
    return members


def _opened(file: BinaryIO) -> tarfile.TarFile:
    within: Any = _WithinFile(file)
    return tarfile.open(fileobj=within, mode="r:")


class _WithinFile:
    """A file that is asked for no more than it holds: a header may name any size, and tarfile would reserve it."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._file, self._size = file, file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int) -> bytes:
        """As that of a file."""
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))


def _only_zeros(path: str, start: int) -> bool:
    """Whether the rest of a file is padding: tarfile stops at a damaged header without an error."""
    with open(path, "rb") as file:
        file.seek(start)
        return all(not block.strip(b"\0") for block in iter(lambda: file.read(2**20), b""))
