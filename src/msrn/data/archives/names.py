"""Names of images inside archives, and the archives that belong to a split."""

from __future__ import annotations

import glob
import os
import re
from itertools import islice
from pathlib import Path

from braceexpand import braceexpand

from msrn.errors import DataError, Problem

__all__ = ["archive_and_member", "find_archives", "is_archive"]

_NAME = re.compile(r"(.*?\.(?:tar|parquet|arrow))::(.+)", re.DOTALL | re.IGNORECASE)

MAX_FILES = 10**6
"""Largest number of files that the braces of one pattern may stand for."""


def is_archive(path: str | Path) -> bool:
    """Whether a file's suffix is that of an archive: ``.tar``, ``.parquet`` or ``.arrow``."""
    return Path(path).suffix.lower() in {".tar", ".parquet", ".arrow"}


def archive_and_member(path: str | Path) -> tuple[str, str] | None:
    """Both parts of a name such as ``000.tar::dog/1.jpg``; None for the path of a plain file."""
    found = _NAME.fullmatch(str(path))
    return (found[1], found[2]) if found else None


def find_archives(root: str | Path, split: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The archives of a split, in the order of their names.

    Args:
        root: the folder to search; empty: the current folder.
        split: a file, a folder, a pattern (``train-{000..009}.tar``, ``train-*.tar``), or the name of a split: the
            file ``train.tar``, else files ``train-*.tar``, ``train_*.tar`` or ``data/train-*.tar``, else all files of
            the folder ``train``.
        suffixes: of the files, such as ``.tar``.

    Raises:
        DataError: no file was found, or some of the files that braces name are missing.
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
        names = _expanded(name)
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


def _expanded(pattern: str) -> list[str]:
    """``a-{0..2}`` and ``{a,b}`` written out, as a shell does."""
    try:
        # braceexpand keeps a whole range in memory, so its size is checked first.
        ranges = re.findall(r"\{(-?\d+)\.\.(-?\d+)", pattern)
        if all(abs(int(last) - int(first)) < MAX_FILES for first, last in ranges):
            names = list(islice(braceexpand(pattern, escape=False), MAX_FILES + 1))
        else:
            raise DataError(f"expected at most {MAX_FILES:,} files", pattern)
    except ValueError as error:
        raise DataError(f"expected a pattern with balanced braces: {error}", pattern) from error
    if len(names) > MAX_FILES:
        raise DataError(f"expected at most {MAX_FILES:,} files", pattern)
    return names
