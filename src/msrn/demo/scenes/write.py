"""Write drawn scenes: images in folders, one table per split, and a file with the options of the drawing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from msrn.demo.scenes.compose import LABELS, draw_scene
from msrn.errors import DataError
from msrn.files import parse_json, scratch_beside

__all__ = ["write_scenes"]

EDITION = 1
"""Version of the drawings: increased when the same seed gives another image, so that old folders are drawn again."""

MIN_SIZE = 32
"""Pixels: objects in smaller images cannot be recognised."""

STAMP = "scenes.json"


def write_scenes(
    folder: Path,
    *,
    train: int,
    val: int,
    test: int,
    size: int = 192,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw a data set into a folder, unless the folder already holds exactly this data set.

    The folder holds ``images/<split>/000000.jpg``; the tables ``train.csv``, ``val.csv`` and ``test.csv`` with columns
    ``image`` (relative path) and ``labels`` (joined by ``|``); ``labels.txt``; and ``scenes.json``, the options. It is
    renamed to its place when it is complete, and replaces a folder that was drawn with other options. Image ``i`` of
    split ``s`` is drawn from the seed ``(seed, s, i)``, so a larger data set begins with the images of a smaller one.

    Args:
        train, val, test: images in each split.
        size: side of the images, pixels.
        seed: of the drawings.
        workers: processes that draw.
        progress: called with the number of images that are drawn, and the total.

    Raises:
        DataError: the folder holds other files, or a number is out of bounds.
    """
    folder = Path(folder)
    counts = {"train": train, "val": val, "test": test}
    if size < MIN_SIZE or min(*counts.values(), seed) < 0:
        raise DataError(
            f"expected at least {MIN_SIZE} pixels and no negative number, got size {size}, seed {seed} and {counts}",
            where=str(folder),
            hint="correct size, seed, train, val or test",
        )
    stamp = {"edition": EDITION, "size": size, "seed": seed, **counts}
    if _holds(folder, stamp):
        return
    with scratch_beside(folder) as scratch:
        fresh = scratch / "scenes"
        _draw_all(fresh, counts, size=size, seed=seed, workers=workers, progress=progress)
        (fresh / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
        (fresh / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.replace(scratch / "replaced")
        fresh.replace(folder)


def _draw_all(
    folder: Path,
    counts: Mapping[str, int],
    *,
    size: int,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    for split in counts:
        (folder / "images" / split).mkdir(parents=True)
    jobs = [(split, index) for split, count in counts.items() for index in range(count)]
    draw = partial(_draw_one, folder, size, seed, tuple(counts))
    rows: list[tuple[str, str]] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers > 1 else nullcontext() as pool:
        for row in pool.map(draw, jobs, chunksize=16) if pool else map(draw, jobs):
            rows.append(row)
            if progress is not None:
                progress(len(rows), len(jobs))
    for split in counts:
        lines = [row for row, (of, _) in zip(rows, jobs, strict=True) if of == split]
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("image", "labels"), *lines])


def _draw_one(folder: Path, size: int, seed: int, splits: tuple[str, ...], job: tuple[str, int]) -> tuple[str, str]:
    split, index = job
    image, labels = draw_scene((seed, splits.index(split), index), size)
    name = f"images/{split}/{index:06d}.jpg"
    image.save(folder / name, quality=90)
    return name, "|".join(labels)


def _holds(folder: Path, stamp: Mapping[str, int]) -> bool:
    """Whether the folder holds this data set. Raises DataError if the folder holds files of another kind."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = parse_json((folder / STAMP).read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.keys() != stamp.keys():
        raise DataError(
            "expected a new folder, an empty one, or one of drawn scenes; found other files",
            where=str(folder),
            hint="choose another folder, or move this one",
        )
    images = folder / "images"
    return found == stamp and all(
        (folder / f"{split}.csv").is_file() and sum(1 for _ in (images / split).glob("*.jpg")) == stamp[split]
        for split in ("train", "val", "test")
    )
