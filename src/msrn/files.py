"""Atomic writes: a reader of a file sees its old content or its new content, never a part of it. And JSON, read safely.

Only the standard library and ``msrn.errors`` are imported, so that every room can use this module.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msrn.errors import DataError, MsrnError

__all__ = [
    "append_whole",
    "atomic_path",
    "atomic_paths",
    "expand_home",
    "is_partial_file",
    "parse_json",
    "refuse_to_overwrite",
    "remove_partial_files",
    "scratch_beside",
    "write_atomically",
    "write_json",
    "writing",
]

_PARTIAL = re.compile(r"\..{1,40}\.\d+-[0-9a-f]{8}(\.\w+)?", re.DOTALL)
"""Names of the temporary files of ``atomic_path``."""


def expand_home(text: str) -> str:
    """``~/`` at the start as the home folder; a shell leaves it as it is after ``=`` and in files."""
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


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


def parse_json(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The plain values of a JSON document that anyone may have written.

    Args:
        text: the document; bytes are UTF-8, with or without a byte order mark.
        pairs: what makes an object of its pairs of key and value; None: a dict.

    Raises:
        ValueError: it is no JSON, is not UTF-8, is nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, parents: bool = False, new: bool = False) -> Iterator[Path]:
    """A path to write to in place of ``path``: renamed to it when the block ends, removed when the block raises.

    The temporary file stands in the same folder and has the same suffix, because some writers choose the format by it.
    Its content reaches the disk before it is renamed. A new file gets the permissions that the umask allows, and a file
    that is replaced keeps its permissions. A symbolic link is followed. A device or a pipe (``/dev/stdout``) is written
    to directly.

    Args:
        path: the file to write.
        parents: create missing folders above it; they are removed again when the block raises.
        new: fail if the file exists when the block ends. Of several processes that write it, one succeeds.

    Raises:
        OSError: the file cannot be written; the old file stays. It names ``path``, whatever library was writing.

    Example:
        >>> import tempfile
        >>> with atomic_path(Path(tempfile.mkdtemp()) / "a.txt") as partial:
        ...     _ = partial.write_text("content")
    """
    with atomic_paths([path], parents=parents, new=new) as (partial,):
        yield partial


@contextmanager
def atomic_paths(
    paths: Sequence[str | os.PathLike[str]], *, parents: bool = False, new: bool = False
) -> Iterator[tuple[Path, ...]]:
    """As ``atomic_path``, for files that belong together: none gets its name before the content of all is on disk."""
    pending = [_Pending.of(Path(path)) for path in paths]
    folders = dict.fromkeys(each.target.parent for each in pending)
    with _made(folders if parents else ()):
        try:
            with _named(pending):
                yield tuple(each.partial for each in pending)
                for each in pending:
                    each.settle()
                for each in pending:
                    each.rename(new=new)
        except BaseException:
            for each in pending:
                each.remove()
            raise
    for folder in folders:
        with contextlib.suppress(OSError):  # the file is there; some file systems cannot sync a folder
            _sync(folder)


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, from which what is complete is moved to ``path``; it is removed in the end.

    The folder of ``path`` is created if it is missing.

    Raises:
        OSError: as ``writing``.
    """
    parent, name = path.absolute().parent, ""
    try:
        with (
            writing(path),
            _made([parent]),
            tempfile.TemporaryDirectory(prefix=f".{path.name[:40]}.", suffix=".part", dir=parent) as name,
        ):
            yield Path(name)
    except OSError as error:
        if name and str(error.filename).startswith(name):
            error.filename = str(path)
        raise


def append_whole(path: str | os.PathLike[str], data: bytes) -> int:
    """Append to a file all of ``data``, or nothing; the file is created if it does not exist.

    Nobody else may be writing to it.

    Returns:
        Size of the file before, bytes.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            before = os.fstat(descriptor).st_size
            left = memoryview(data)
            try:
                while left:
                    left = left[os.write(descriptor, left) :]  # a disk that fills up takes a part
            except BaseException:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
    return before


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise whatever a library makes of a failed write as an OSError that names ``path``.

    Raises:
        OSError: of the operating system's error number. Exceptions that no such error stands behind pass as they are.
    """
    with _named([_Pending(Path(path), Path(path), None)]):
        yield


def is_partial_file(entry: Path) -> bool:
    """Whether a file is a temporary one of ``atomic_path``, by its name."""
    return bool(_PARTIAL.fullmatch(entry.name)) and entry.is_file()


def remove_partial_files(folder: str | os.PathLike[str]) -> None:
    """Remove what a killed process left of ``atomic_path`` in a folder that no other process writes to."""
    for entry in Path(folder).iterdir():
        if is_partial_file(entry):
            entry.unlink(missing_ok=True)


def refuse_to_overwrite(paths: Sequence[Path], *, force: bool) -> None:
    """Raise a DataError that names the files that exist already, unless ``force``."""
    existing = [str(path) for path in paths if path.exists()]
    if existing and not force:
        raise DataError("the file already exists", ", ".join(existing), "choose another path, or pass --force")


@dataclass(frozen=True, slots=True)
class _Pending:
    """A file that is written under another name until it is complete."""

    target: Path
    partial: Path
    """The same as ``target`` for a device or a pipe."""
    mode: int | None
    """Of the file that is there; None: there is none."""

    @classmethod
    def of(cls, path: Path) -> _Pending:
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(f"expected the path of a file, got a folder: {os.fspath(path)}")
        if mode is not None and not stat.S_ISREG(mode):
            return cls(path, path, None)
        target = Path(os.path.realpath(path))
        # Both parts of the name are cut: with the token, a long name could exceed the limit of the file system.
        suffix = target.suffix if len(target.suffix) <= 16 else ""
        partial = target.with_name(f".{target.stem[:40]}.{os.getpid()}-{os.urandom(4).hex()}{suffix}")
        return cls(target, partial, mode)

    def settle(self) -> None:
        if self.partial != self.target:
            if self.mode is not None:
                os.chmod(self.partial, stat.S_IMODE(self.mode))
            _sync(self.partial)

    def rename(self, *, new: bool) -> None:
        if self.partial == self.target:
            return
        if new:
            _link(self.partial, self.target)
        else:
            os.replace(self.partial, self.target)

    def remove(self) -> None:
        if self.partial != self.target:
            with contextlib.suppress(OSError):  # a second error would hide the first
                self.partial.unlink()


def _link(partial: Path, target: Path) -> None:
    """Give a file its name unless that exists: this is one step, and a rename would overwrite."""
    try:
        os.link(partial, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        target.touch(exist_ok=False)  # a file system without hard links
        os.replace(partial, target)
    else:
        partial.unlink()


@contextmanager
def _named(pending: Sequence[_Pending]) -> Iterator[None]:
    """As ``writing``; the file is the one that the error names or else the last that was begun."""
    try:
        yield
    except Exception as error:
        system = None if isinstance(error, MsrnError) else _system_error(error)
        if system is None or system.errno is None or not pending:
            raise
        begun = [each.target for each in pending if each.partial.exists()] or [pending[0].target]
        targets = {os.fspath(each.partial): os.fspath(each.target) for each in pending}
        name = targets.get(system.filename, system.filename) or os.fspath(begun[-1])
        raise OSError(system.errno, os.strerror(system.errno), name) from error


@contextmanager
def _made(folders: Iterable[Path]) -> Iterator[None]:
    """Create folders that are missing, with those above them; remove them again when the block raises."""
    made: list[Path] = []
    try:
        for folder in folders:
            made[:0] = [each for each in (folder, *folder.parents) if not each.exists()]  # the deepest first
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # it holds something by now
                folder.rmdir()
        raise


def _system_error(error: BaseException) -> OSError | None:
    """The operating system's error that an exception is, was raised after, or (from Rust) writes out."""
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return OSError(int(found[1]), str(error))
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, OSError):
        behind = behind.__cause__ or behind.__context__
    return behind


def _sync(path: Path) -> None:
    """Wait until the content of a file, or the entries of a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
