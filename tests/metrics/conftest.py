"""Seeded scores and targets for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def draw() -> Callable[..., Pair]:
    """Scores, rounded so that many tie, and a target with each kind of row; every label has both kinds."""

    def make(seed: int, n: int = 60, num_labels: int = 7, *, decimals: int = 1, unknown: float = 0.0) -> Pair:
        rng = np.random.default_rng(seed)
        target = (rng.random((n, num_labels)) < 0.3).astype(np.float32)
        scores = np.round(np.clip(rng.random((n, num_labels)) * 0.8 + 0.2 * target, 0, 1), decimals)
        target[0], target[1] = 1, 0
        target[2:][rng.random((n - 2, num_labels)) < unknown] = np.nan
        return scores, target

    return make


@pytest.fixture(scope="session")
def grid() -> Callable[[int], Pair]:
    """Scores on a coarse grid, so that ties, empty rows, empty columns and unknown entries are common."""

    def make(seed: int) -> Pair:
        rng = np.random.default_rng(seed)
        shape = int(rng.integers(1, 9)), int(rng.integers(1, 6))
        return rng.integers(0, 6, shape) / 5, rng.choice([0.0, 1.0, np.nan], shape, p=[0.5, 0.35, 0.15])

    return make
