"""Memory of a process that predicts and optimizes on and on: ``many_predictions.py BUNDLE IMAGE PREDICTIONS CHOICES``.

After a tenth of each kind, as warm-up, prints by how many MB the resident size grows over the rest.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import small_network  # noqa: F401 - the network of the bundle
import torch

from msrn.bundle.read import read_bundle
from msrn.inference import autotune
from msrn.inference.predictor import Predictor


def resident() -> float:
    """MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def growth(work: Callable[[int], None], count: int) -> float:
    """By how much ``count`` units of work grow the process, after a tenth of them; the largest of ten looks."""
    part = max(1, count // 10)
    work(part)
    before = resident()
    largest = before
    for _ in range(9):
        work(part)
        largest = max(largest, resident())
    return largest - before


def main() -> None:
    folder, image, predictions, choices = (
        sys.argv[1],
        Path(sys.argv[2]).read_bytes(),
        int(sys.argv[3]),
        int(sys.argv[4]),
    )
    torch.set_num_threads(1)
    bundle = read_bundle(folder)
    predictor = Predictor(bundle, device="cpu")

    def predict(count: int) -> None:
        for _ in predictor.predict(itertools.repeat(image, count - count // 20)):
            pass
        for _ in range(count // 20):  # and one by one
            predictor(image)

    autotune.ROUNDS = (1, 1)  # the memory of a choice does not depend on how often it is timed

    def choose(count: int) -> None:
        for _ in range(count):
            Predictor(bundle, device="cpu", optimize=True)(image)

    print(f"{growth(predict, predictions):.1f} MB over {predictions:,} predictions")
    print(f"{growth(choose, choices):.1f} MB over {choices:,} choices of the fastest variant")


if __name__ == "__main__":
    main()
