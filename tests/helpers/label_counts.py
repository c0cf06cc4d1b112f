"""A hand-worked example of label counts, and the published ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

# Four labels, ten images: boat 4, sea 6, bird 5, shoe 2 (alone). boat+sea 4, boat+bird 1, sea+bird 2.
TARGET = np.array(
    [
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 1],
        [0, 0, 0, 1],
    ],
    dtype=np.float32,
)
COUNTS = [[0, 4, 1, 0], [4, 0, 2, 0], [1, 2, 0, 1], [0, 0, 1, 0]]
TOTALS = [4, 6, 5, 2]


def published(shared: Path, name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    labels = json.loads((shared / "published" / "label_orders.json").read_text())[name]
    with np.load(shared / "published" / f"{name}.npz") as file:
        return labels, file["counts"], file["totals"]
