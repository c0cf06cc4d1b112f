"""How is a picture inside a tar shard or a parquet file named, found and read?

``shards/000.tar::dog/1.jpg`` is a member of an uncompressed tar file, ``train.parquet::image/17`` row 17 of the column
``image`` of a parquet or arrow file. Members are read in place by their offset and never written to disk. Nothing is
held open between two reads, so processes may fork and threads may read at the same time; what is kept is the index of
each file, as long as the file does not change.
"""

from __future__ import annotations

import functools
import glob
import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from msrn.data.archives import arrow
from msrn.errors import DataError, Problem, reason

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "find_containers",
    "inside",
    "is_container",
    "open_file",
    "pictures_inside",
    "read_inside",
    "tar_members",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MAX_BYTES = 2**28
"""Largest member that is read, 256 MiB: no picture that ``open_image`` decodes needs more."""

_NAME = re.compile(r"(.*?\.(?:tar|parquet|arrow))::(.+)", re.DOTALL | re.IGNORECASE)


def is_container(path: str | Path) -> bool:
    """Whether a file's name says that it holds pictures: ``.tar``, ``.parquet`` or ``.arrow``."""
    return Path(path).suffix.lower() in {".tar", ".parquet", ".arrow"}


def inside(path: str | Path) -> tuple[str, str] | None:
    """Container and member of a name such as ``000.tar::dog/1.jpg``; None for the name of a plain file."""
    found = _NAME.fullmatch(str(path))
    return (found[1], found[2]) if found else None


def open_file(path: str | Path) -> BinaryIO:
    """A picture's file, or its bytes inside a container, opened for reading.

    Raises:
        OSError: the plain file cannot be opened. DataError: as ``read_inside``.
    """
    return io.BytesIO(read_inside(path)) if inside(path) else Path(path).open("rb")


def read_inside(path: str | Path) -> bytes:
    """The bytes of one member.

    Raises:
        DataError: the container is missing or damaged, or has no such member.
    """
    place = inside(path)
    if place is None:
        raise DataError("expected a name such as shards/000.tar::dog/1.jpg", str(path))
    container, member = place
    if not container.lower().endswith(".tar"):
        return arrow.read_cell(container, member)
    found = tar_members(container).get(member)
    if found is None:
        raise DataError(f"the tar file has no member {member!r}", container, "was it written again since?")
    offset, size = found
    if size > MAX_BYTES:
        raise DataError(f"expected a picture of at most {MAX_BYTES:,} bytes, got {size:,}", str(path))
    with open(container, "rb") as file:
        file.seek(offset)
        return file.read(size)


def pictures_inside(container: str | Path) -> Iterator[str]:
    """Names of all pictures of a container, in its order, as ``read_inside`` takes them.

    Raises:
        DataError: the container is missing or damaged, or has no column of pictures.
    """
    is_tar = str(container).lower().endswith(".tar")
    for name in tar_members(container) if is_tar else arrow.picture_cells(container):
        if not is_tar or name.lower().endswith(IMAGE_SUFFIXES):
            yield f"{container}::{name}"


def find_containers(root: str | Path, split: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a split, in the order of their names.

    Args:
        root: what they are looked for in; empty: here.
        split: a file, a folder, a pattern (``train-{000..009}.tar``, ``train-*.tar``), or the name of a split: the
            file ``train.tar``, else files ``train-*.tar``, ``train_*.tar`` or ``data/train-*.tar``, else all files of
            the folder ``train``.
        suffixes: of the files, such as ``.tar``.

    Raises:
        DataError: there are none, or some of those that braces name are missing.
    """
    for base in dict.fromkeys([str(root), ""]):
        if found := _files(os.path.join(base, split), suffixes):
            return found
    hint = f"name a file, a folder or a pattern such as {split}-*{suffixes[0]}, or set data.root"
    raise DataError(f"expected {' or '.join(suffixes)} files of {split!r}, found none", str(root) or ".", hint)


def _files(name: str, suffixes: tuple[str, ...]) -> list[Path]:
    if os.path.isfile(name):
        return [Path(name)]
    if set(name) & set("*?[{"):
        names = _braces(name)
        found = {each: sorted(glob.glob(each)) for each in names}
        missing = [Problem("expected a file, found none", each) for each in names if not found[each]]
        if missing and len(missing) < len(names):
            raise DataError.of(missing, f"files of {name} are missing")
        return [Path(path) for each in names for path in found[each]]
    plain = glob.escape(name)
    folder, stem = os.path.split(plain)
    for pattern in (plain, f"{plain}-*", f"{plain}_*", os.path.join(folder, "data", f"{stem}-*"), f"{plain}/*"):
        if paths := sorted(path for suffix in suffixes for path in glob.glob(pattern + suffix)):
            return [Path(path) for path in paths]
    return []


def _braces(pattern: str) -> list[str]:
    """``a-{0..2}`` and ``{a,b}`` written out, as a shell does."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if not found:
        return [pattern]
    first, last, names = found.groups()
    if names is None and int(last) - int(first) > 10**6:
        raise DataError("expected at most a million files", pattern)
    parts = names.split(",") if names is not None else _numbers(first, last)
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [rest for part in parts for rest in _braces(before + part + after)]


def _numbers(first: str, last: str) -> list[str]:
    width = len(first) if first.startswith("0") else 0
    return [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]


def tar_members(path: str | Path) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of every plain file of a tar file, in its order.

    Raises:
        DataError: no tar file, a compressed or damaged one, or names that are repeated or climb out with ``..``.
    """
    try:
        stamp = os.stat(path)
    except OSError as error:
        raise DataError(f"cannot read the tar file: {reason(error)}", str(path), "check the path") from error
    return _tar_members(str(path), stamp.st_mtime_ns, stamp.st_size)


@functools.cache
def _tar_members(path: str, _changed: int, _size: int) -> dict[str, tuple[int, int]]:
    members: dict[str, tuple[int, int]] = {}
    problems = []
    try:
        with tarfile.open(path, "r:") as tar:
            while (entry := tar.next()) is not None:
                vars(tar)["members"].clear()  # it would keep them all
                if not entry.isreg() or entry.issparse():
                    continue
                # As a path would hold it, for a manifest joins it to its root.
                name = str(PurePosixPath(f"::{entry.name}"))[2:]
                if not name or name.startswith("/") or ".." in name.split("/"):
                    problems.append(Problem(f"expected a relative member name, got {entry.name!r}", path))
                elif name in members:
                    problems.append(Problem(f"member {name!r} is there twice", path, "names must be unique"))
                members[name] = (entry.offset_data, entry.size)
            end = tar.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        with open(path, "rb") as file:
            start = file.read(6)
        packed = start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
        hint = "unpack it (gzip -d, zstd -d): compressed ones have no random access" if packed else "write it again"
        raise DataError(f"expected an uncompressed tar file: {error}", path, hint) from error
    if not _only_zeros(path, end):
        hint = "write it again; archives that were joined with cat must be joined with tar --concatenate"
        problems.append(Problem(f"expected nothing after the last member, got more bytes at {end:,}", path, hint))
    if problems:
        raise DataError.of(problems, f"the tar file {path} is damaged")
    return members


def _only_zeros(path: str, start: int) -> bool:
    """Whether a file ends in padding: tarfile stops without a word at a damaged header."""
    with open(path, "rb") as file:
        file.seek(start)
        return all(not block.strip(b"\0") for block in iter(lambda: file.read(2**20), b""))
