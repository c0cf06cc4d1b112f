"""Atomic writes: a reader of a file sees its old content or its new content, never a part of it.

Only the standard library and ``msrn.errors`` are imported, so that every room can use this module.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msrn.errors import DataError

__all__ = ["atomic_path", "refuse_to_overwrite", "remove_partial_files", "write_atomically", "write_json"]

_PARTIAL = re.compile(r"\..{1,40}\.\d+-[0-9a-f]{8}(\.\w+)?", re.DOTALL)
"""Names of the temporary files of ``atomic_path``."""


def write_atomically(path: str | os.PathLike[str], data: str | bytes, *, parents: bool = False) -> None:
    """Write a file in one step; text is written as UTF-8, with line ends as they are.

    Args:
        path: the file to write.
        data: its whole content.
        parents: create missing folders above it.

    Raises:
        OSError: the file cannot be written; the old file stays.
        UnicodeEncodeError: the text has no UTF-8 form; nothing is written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.txt"
        >>> write_atomically(path, "boat\\nsea\\n")
        >>> path.read_text()
        'boat\\nsea\\n'
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    with atomic_path(path, parents=parents) as partial:
        partial.write_bytes(content)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file in one step.

    Raises:
        OSError: as ``write_atomically``. ValueError: a number is not finite; JSON has none such.
    """
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, parents: bool = False) -> Iterator[Path]:
    """A path to write to in place of ``path``: renamed to it when the block ends, removed when the block raises.

    The temporary file stands in the same folder and has the same suffix, because some writers choose the format by it.
    Its content reaches the disk before it is renamed. A new file gets the permissions that the umask allows, and a file
    that is replaced keeps its permissions. A symbolic link is followed. A device or a pipe (``/dev/stdout``) is written
    to directly.

    Args:
        path: the file to write.
        parents: create missing folders above it.

    Raises:
        OSError: the file cannot be written; the old file stays.

    Example:
        >>> import tempfile
        >>> with atomic_path(Path(tempfile.mkdtemp()) / "a.txt") as partial:
        ...     _ = partial.write_text("content")
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"expected the path of a file, got a folder: {os.fspath(path)}")
        yield Path(path)
        return
    target = Path(os.path.realpath(path))
    if parents:
        target.parent.mkdir(parents=True, exist_ok=True)
    # Both parts of the name are cut: with the token, a long name could exceed the limit of the file system.
    suffix = target.suffix if len(target.suffix) <= 16 else ""
    partial = target.with_name(f".{target.stem[:40]}.{os.getpid()}-{os.urandom(4).hex()}{suffix}")
    try:
        yield partial
        if mode is not None:
            os.chmod(partial, stat.S_IMODE(mode))
        _sync(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the file is there; some file systems cannot sync a folder
        _sync(target.parent)


def remove_partial_files(folder: str | os.PathLike[str]) -> None:
    """Remove what a killed process left of ``atomic_path`` in a folder that no other process writes to."""
    for entry in Path(folder).iterdir():
        if _PARTIAL.fullmatch(entry.name) and entry.is_file():
            entry.unlink()


def refuse_to_overwrite(paths: Sequence[Path], *, force: bool) -> None:
    """Raise a DataError that names the files that exist already, unless ``force``."""
    existing = [str(path) for path in paths if path.exists()]
    if existing and not force:
        raise DataError("the file already exists", ", ".join(existing), "choose another path, or pass --force")


def _sync(path: Path) -> None:
    """Wait until the content of a file, or the entries of a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
