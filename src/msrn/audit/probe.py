"""Read image files for the checks: each is opened and decoded once, in one of several processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

from msrn.audit.hashes import Fingerprint, fingerprint, pixel_digest
from msrn.data.archives.members import open_file
from msrn.data.decode import image_header, one_line, open_image
from msrn.errors import DataError

__all__ = ["Probe", "image_size", "probe", "probe_all"]

IMAGES_PER_PROCESS = 256
"""Images that justify the start of another process."""

CHUNK = 16
"""Images that a process receives at once."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Properties of a decoded image. If it cannot be read, only ``problem`` and ``missing`` are set."""

    problem: str = ""
    missing: bool = False
    width: int = 0
    height: int = 0
    kind: str = ""
    """Pillow's name of the format, such as ``JPEG``."""
    blank: bool = False
    frames: int = 1
    digest: bytes | None = None
    """SHA-256 of size and pixels."""
    fingerprint: Fingerprint | None = None


def probe(path: str, *, near: bool = True) -> Probe:
    """Read one image, also from a tar or parquet file; with ``near``, compute its fingerprint."""
    try:
        image = open_image(path)
        kind, _, frames = image_header(path)
    except DataError as error:
        return Probe(problem=one_line(error), missing=_is_missing(path))
    ranges: Any = image.getextrema()
    blank = all(high - low <= BLANK for low, high in ranges)
    mark = fingerprint(image) if near else None
    return Probe("", False, *image.size, kind, blank, frames, pixel_digest(image), mark)


BLANK = 8
"""Largest range of each channel, in grey levels of 255, in an image of a single colour."""


def image_size(path: str) -> tuple[int, int] | None:
    """Width and height in pixels, upright, read from the header only; None if it cannot be read."""
    try:
        return image_header(path)[1]
    except DataError:
        return None


def _is_missing(path: str) -> bool:
    try:
        open_file(path).close()
    except FileNotFoundError:
        return True
    except (OSError, DataError):
        return False
    return False


def probe_all(
    paths: Sequence[str], *, near: bool = True, workers: int = 1, advance: Callable[[int], None] = lambda _: None
) -> list[Probe]:
    """Read many images, in several processes if there are enough of them.

    Args:
        paths: as ``probe`` takes them.
        near: compute fingerprints.
        workers: largest number of processes; below 2, or for few images, this process does the work.
        advance: called with 1 after each image.
    """
    found = []
    with _mapping(min(workers, len(paths) // IMAGES_PER_PROCESS)) as map_:
        for each in map_(partial(probe, near=near), paths):
            found.append(each)
            advance(1)
    return found


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterator[Probe]]]:
    if workers < 2:
        yield map
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ignore_interrupts)
    try:
        yield partial(pool.map, chunksize=CHUNK)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent process, which stops this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
