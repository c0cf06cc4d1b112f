"""Data sets for the tests of the checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from checked_data import LABELS, drawing, split
from PIL import Image

from msrn.data.manifest import Manifest, Record


@pytest.fixture
def good(tmp_path: Path) -> tuple[Manifest, Manifest]:
    """12 images to train on and 6 to test on, without an issue at ``min_train=4, min_test=2``."""
    for number in range(18):
        drawing(number).save(tmp_path / f"{number}.jpg")
    rows = [Record(f"{number}.jpg", (LABELS[number % 3],)) for number in range(18)]
    return split(tmp_path, "train", *rows[:12]), split(tmp_path, "test", *rows[12:])


@pytest.fixture
def spoilt(good: tuple[Manifest, Manifest]) -> tuple[Manifest, Manifest]:
    """The good data set with one leak, a duplicate, a conflict, a missing and a broken image."""
    train, test = good
    root = train.root
    for name, number in (("twin.bmp", 0), ("rival.bmp", 1)):
        Image.open(root / f"{number}.jpg").save(root / name)
    (root / "broken.jpg").write_bytes(b"no image")
    more = [
        Record("twin.bmp", ("boat",)),
        Record("rival.bmp", ("sea",), unknown=("boat",)),
        Record("gone.jpg", ("sea",)),
        Record("broken.jpg", ("sea",)),
        Record("./14.jpg", ("sea",)),
    ]
    return split(root, "train", *train.records, *more), test
