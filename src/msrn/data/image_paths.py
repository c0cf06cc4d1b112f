"""Check the image paths that a data set names: missing, outside the folder of images, or repeated."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from msrn.data.archives.names import archive_and_member
from msrn.errors import Problem

__all__ = [
    "absent_images",
    "folder_of_images",
    "folders_near",
    "missing_image",
    "missing_images",
    "outside_images",
    "repeated_images",
]


def folder_of_images(places: Sequence[Path], images: Sequence[str]) -> Path | None:
    """The first of several folders that holds any of the first hundred images, or None. (The first may be missing.)"""
    some = [(image, "") for image in images[:100]]
    return next((place for place in places if len(missing_images(place, some)) < len(some)), None)


def folders_near(folder: Path, *, most: int = 200) -> list[Path]:
    """Folders in a folder and beside it, without hidden ones; none if they cannot be listed."""
    place = folder.absolute()
    try:
        entries = [*sorted(place.iterdir()), *sorted(place.parent.iterdir())]
    except OSError:
        return []
    return [entry for entry in entries if entry.is_dir() and entry != place and not entry.name.startswith(".")][:most]


def missing_images(root: Path, images: Sequence[tuple[str, str]]) -> list[Problem]:
    """Problems for images that do not exist. ``images`` holds pairs: path below the root, and where it is named.

    Each folder is listed once, which is much faster than a query per file. Of an image in an archive, only the archive
    is looked for.
    """
    return [missing_image(root, image, where) for image, where in absent_images(root, images)]


def absent_images(root: Path, images: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the images that do not exist, as ``missing_images`` looks for them."""
    listed: dict[str, set[str]] = {}
    absent = []
    for image, where in images:  # as texts: a million paths are slow to build
        parts = archive_and_member(image)
        folder, name = os.path.split(str(parts[0]) if parts else image)
        if folder not in listed:
            listed[folder] = _file_names(root / folder)
        if name not in listed[folder]:
            absent.append((image, where))
    return absent


def missing_image(root: Path, image: str, where: str) -> Problem:
    """The problem of an image that does not exist."""
    parts = archive_and_member(image)
    path = root / (parts[0] if parts else image)
    hint = "write folders with forward slashes" if "\\" in image else "check data.root and the name"
    return Problem(f"expected an image at {path}, found none", where, hint)


def outside_images(root: Path, images: Sequence[tuple[str, str]]) -> list[Problem]:
    """Problems for images that lie outside the root, by their name or through a link.

    For readers of annotations that come from others. ``images`` as in ``missing_images``; the root may be a link.
    """
    top = os.path.join(os.path.realpath(root), "")
    folders: dict[str, tuple[bool, set[str]]] = {}
    problems = []
    for image, where in images:
        folder, name = os.path.split(os.path.join(root, image))
        if folder not in folders:
            folders[folder] = _lies_in(top, folder), _link_names(folder)
        in_root, links = folders[folder]
        if not in_root:
            hint = "image names are relative to the folder of images, and links in it may not leave it"
            problems.append(Problem(f"image {image!r} lies outside {root}", where, hint))
        elif name in links and not _lies_in(top, os.path.join(folder, name)):
            hint = "replace the link by the file"
            problems.append(Problem(f"image {image!r} is a link that leaves {root}", where, hint))
    return problems


def repeated_images(images: Sequence[str], places: Sequence[str], *, hint: str = "") -> list[Problem]:
    """Problems for images that are named more than once (``a.jpg`` and ``./a.jpg`` are the same)."""
    first: dict[str, str] = {}
    problems = []
    for image, where in zip(images, places, strict=True):
        key = posixpath.normpath(image) if image else ""
        if key and key in first:
            advice = f"first at {first[key]}" + (f"; {hint}" if hint else "")
            problems.append(Problem(f"image {image!r} is named twice", where, advice))
        first.setdefault(key, where)
    return problems


def _file_names(folder: Path) -> set[str]:
    """Names of the files of a folder; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return set()


def _link_names(folder: str) -> set[str]:
    """Names of the links of a folder; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except (OSError, ValueError):
        return set()


def _lies_in(top: str, path: str) -> bool:
    """Whether a path, with all links followed, is the folder ``top`` (which ends in a slash) or lies below it."""
    try:
        return os.path.join(os.path.realpath(path), "").startswith(top)
    except (OSError, ValueError):  # ValueError: a NUL in the name; such an image is reported as missing
        return True
