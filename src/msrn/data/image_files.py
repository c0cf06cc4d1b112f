"""List the image files of a folder, by one table of suffixes that follows from what the decoder opens.

Hidden files and folders are skipped everywhere: names that start with a dot (``._1.jpg`` and ``.DS_Store`` of macOS,
``.ipynb_checkpoints``) and ``__MACOSX``. Links to folders are followed; within one walk each folder is visited once,
so links that form a loop end.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from msrn.errors import DataError, reason

__all__ = [
    "IMAGE_FORMATS",
    "IMAGE_SUFFIXES",
    "image_files",
    "is_hidden",
    "is_image_name",
    "passed_over",
    "visible_entries",
    "visible_files",
]

_log = logging.getLogger(__name__)

IMAGE_FORMATS: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
}
"""Formats that are decoded, by Pillow's name, with their suffixes. Pillow decodes them by itself, so that no image can
start another program. ``.pfm`` holds floating-point numbers without a known range, which ``open_image`` refuses."""

IMAGE_SUFFIXES = tuple(suffix for suffixes in IMAGE_FORMATS.values() for suffix in suffixes)


def is_hidden(path: str) -> bool:
    """Whether a file name, or a relative path with forward slashes, is hidden or in a hidden folder."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(path).parts)


def is_image_name(path: str) -> bool:
    """Whether a file name, or a relative path with forward slashes, names a visible image file."""
    return path.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(path)


def visible_entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Files and folders of a folder in the order of their names, without hidden ones.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot list the folder: {reason(error)}", str(folder), "check its permissions") from error


def visible_files(folder: str | Path) -> Iterator[Path]:
    """Files of a folder and its subfolders in the order of their names, without hidden ones.

    A link that leads nowhere counts as a file, so that reading it reports it.

    Raises:
        DataError: a folder cannot be listed.
    """
    yield from _walk(folder, {_identity(os.stat(folder))})


def image_files(folder: str | Path) -> Iterator[Path]:
    """Image files of a folder and its subfolders in the order of their names.

    Other files are counted by suffix, and logged when the last image has been given.

    Raises:
        DataError: a folder cannot be listed.
    """
    others = Counter[str]()
    for path in visible_files(folder):
        if is_image_name(path.name):
            yield path
        else:
            others[path.suffix.lower()] += 1
    passed_over(folder, others)


def passed_over(folder: str | Path, suffixes: Mapping[str, int]) -> str:
    """Log how many files of a folder were passed over, by suffix.

    Returns:
        The text that was logged, without the folder; empty if there are no such files.
    """
    if not suffixes:
        return ""
    text = _passed_over_text(suffixes)
    _log.info("%s: %s", folder, text)
    return text


def _passed_over_text(suffixes: Mapping[str, int]) -> str:
    """A text such as ``passed over (not images by suffix): 2 .heic, 1 without suffix``."""
    counts = sorted(suffixes.items(), key=lambda pair: (-pair[1], not pair[0], pair[0]))
    parts = [f"{count:,} {suffix or 'without suffix'}" for suffix, count in counts]
    return f"passed over (not images by suffix): {', '.join(parts)}"


def _walk(folder: str | Path, visited: set[tuple[int, int]]) -> Iterator[Path]:
    for entry in visible_entries(folder):
        if not entry.is_dir():
            yield Path(entry.path)
            continue
        # entry.stat() follows the link: a folder is known by its device and number, whatever leads to it.
        identity = _identity(entry.stat())
        if identity not in visited:
            visited.add(identity)
            yield from _walk(entry.path, visited)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
