"""What does a picture's file hold? It is opened and decoded once, in any of several processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

from PIL import Image

from msrn.audit.hashes import Fingerprint, fingerprint, pixel_digest
from msrn.data.archives.containers import open_file
from msrn.data.transforms import KINDS, open_image
from msrn.errors import DataError

__all__ = ["Probe", "picture_size", "probe", "probe_all"]

PER_PROCESS = 256
"""Pictures that are worth the start of one more process."""

CHUNK = 16
"""Pictures a process is handed at once."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A decoded picture in short. ``problem`` says why it could not be read; all else is empty then."""

    problem: str = ""
    missing: bool = False
    width: int = 0
    height: int = 0
    kind: str = ""
    """Pillow's name of the format, such as ``JPEG``."""
    blank: bool = False
    digest: bytes | None = None
    """Of the pixels."""
    fingerprint: Fingerprint | None = None


def probe(path: str, *, near: bool = True) -> Probe:
    """Read one picture, also inside a tar shard or a parquet file; with ``near`` take its fingerprint."""
    try:
        image = open_image(path)
        kind = _header(path)[0]
    except DataError as error:
        problem = error.problems[0].message
        return Probe(problem=problem, missing="found no file" in problem)
    ranges: Any = image.getextrema()
    blank = all(high - low <= BLANK for low, high in ranges)
    mark = fingerprint(image) if near else None
    return Probe("", False, *image.size, kind, blank, pixel_digest(image), mark)


BLANK = 8
"""Widest range of a channel, in grey levels of 255, in a picture that shows nothing."""


def picture_size(path: str) -> tuple[int, int] | None:
    """Width and height in pixels, upright, from the header alone; None if it cannot be read."""
    try:
        return _header(path)[1]
    except DataError:
        return None


def _header(path: str) -> tuple[str, tuple[int, int]]:
    """Format and size, upright. Raises DataError."""
    Image.init()
    try:
        with open_file(path) as file, Image.open(file, formats=[kind for kind in KINDS if kind in Image.OPEN]) as image:
            turned = image.getexif().get(ORIENTATION) in {5, 6, 7, 8}
            size = image.size[::-1] if turned else image.size
            return ("JPEG" if image.format == "MPO" else str(image.format)), size
    except DataError:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged files
        raise DataError(f"the picture cannot be read: {error}", path) from error


ORIENTATION = 0x0112


def probe_all(
    paths: Sequence[str], *, near: bool = True, workers: int = 1, advance: Callable[[int], None] = lambda _: None
) -> list[Probe]:
    """Probe many pictures, in as many processes as pay.

    Args:
        paths: as ``probe`` takes them.
        near: take fingerprints.
        workers: processes at most; below 2, or for few pictures, there are none beside this one.
        advance: called with 1 as each is done.
    """
    found = []
    with _mapping(min(workers, len(paths) // PER_PROCESS)) as map_:
        for each in map_(partial(probe, near=near), paths):
            found.append(each)
            advance(1)
    return found


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterator[Probe]]]:
    if workers < 2:
        yield map
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_interrupts)
    try:
        yield partial(pool.map, chunksize=CHUNK)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C is for the process that started us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
