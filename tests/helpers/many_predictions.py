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

from msrn.bundle.read import Bundle, read_bundle
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


def predicting(bundle: Bundle, image: bytes, count: int) -> float:
    """Growth in MB over so many predictions, most of them in batches."""
    predictor = Predictor(bundle, device="cpu")

    def predict(part: int) -> None:
        for _ in predictor.predict(itertools.repeat(image, part - part // 20)):
            pass
        for _ in range(part // 20):  # and one by one
            predictor(image)

    return growth(predict, count)


def choosing(bundle: Bundle, image: bytes, count: int) -> float:
    """Growth in MB over so many choices of the fastest variant."""

    def choose(part: int) -> None:
        for _ in range(part):
            Predictor(bundle, device="cpu", optimize=True)(image)

    rounds, autotune.ROUNDS = autotune.ROUNDS, (1, 1)  # memory does not depend on how often a variant is timed
    try:
        return growth(choose, count)
    finally:
        autotune.ROUNDS = rounds


def main() -> None:
    folder, image, predictions, choices = (
        sys.argv[1],
        Path(sys.argv[2]).read_bytes(),
        int(sys.argv[3]),
        int(sys.argv[4]),
    )
    torch.set_num_threads(1)
    bundle = read_bundle(folder)
    print(f"{predicting(bundle, image, predictions):.1f} MB over {predictions:,} predictions", flush=True)
    print(f"{choosing(bundle, image, choices):.1f} MB over {choices:,} choices of the fastest variant", flush=True)


if __name__ == "__main__":
    main()
