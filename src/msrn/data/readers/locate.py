"""Find the folder or file of a split, from ``data.root`` and the split's name."""

from __future__ import annotations

from pathlib import Path

from msrn.errors import DataError

__all__ = ["required_root", "split_file", "split_folder"]


def required_root(root: str, reader: str) -> Path:
    """The folder of the data set.

    Raises:
        DataError: none is set.
    """
    if not root:
        raise DataError(f"the reader {reader} needs the folder of the data set", "data.root", "pass --data.root FOLDER")
    return Path(root)


def split_file(root: str, split: str, *, suffixes: tuple[str, ...] = ()) -> Path:
    """The file of a split: as it is named, or else below the root, or else there with one of the suffixes.

    Returns:
        The first of these that exists; if none does, the path as it is named.
    """
    path = Path(split)
    below = [path, Path(root) / path]
    candidates = below + [Path(f"{base}{suffix}") for base in reversed(below) for suffix in suffixes]
    return next((candidate for candidate in candidates if candidate.is_file()), path)


def split_folder(root: str, split: str) -> Path:
    """The folder of a split: below the root, or else as it is named.

    Raises:
        DataError: there is no such folder.
    """
    below = Path(root) / split
    folder = below if below.is_dir() else Path(split)
    if not folder.is_dir():
        hint = "name a folder, or set data.root to the folder that holds it"
        raise DataError("expected a folder of images, found none", str(folder), hint)
    return folder
