"""Which images an epoch draws, and in which order: each once, or those of rare labels more often.

Repeat-factor sampling (Mahajan et al., ECCV 2018, arXiv 1805.00932; for images of several labels, Gupta et al., CVPR
2019, LVIS, arXiv 1908.03195): a label on a share ``f`` of the images has the factor
``max(1, sqrt(t / f))``, and an image the largest factor of its labels.

Where we differ: the parts of factors beyond whole numbers are rounded together, so that every epoch draws the same
number of images, to one; each image still has its factor on average.
"""

from __future__ import annotations

import numpy as np

__all__ = ["epoch_order", "images_per_epoch", "repeat_factors"]

FINEST = 2.0**-20
"""Factors are multiples of this: their sums are exact in any order."""


def repeat_factors(target: np.ndarray, threshold: float) -> np.ndarray:
    """How often an epoch draws each image on average, ``(n,)`` in float64, at least 1.

    Args:
        target: ``(n, L)`` in {1, 0, nan}. An unknown entry counts as 0, here and in the share of a label.
        threshold: t, the share of images below which a label is rare.
    """
    present = target == 1
    share = present.mean(axis=0)  # (L,)
    factors = np.sqrt(threshold / np.maximum(share, 1 / max(1, len(target)))).clip(min=1)
    found: np.ndarray = np.where(present, factors, 1.0).max(axis=1, initial=1.0)
    return np.round(found / FINEST) * FINEST


def images_per_epoch(count: int, factors: np.ndarray | None) -> int:
    """The number of images that every epoch draws; without factors, all ``count``."""
    return count if factors is None else int(np.floor(factors.sum()))


def epoch_order(count: int, factors: np.ndarray | None, *, seed: int, epoch: int) -> list[tuple[int, int]]:
    """The images of an epoch in order, each with the seed of its augmentation; of repeated ones, all seeds differ.

    Args:
        count: of the images.
        factors: from ``repeat_factors``, ``(n,)``; None draws each image once.
        seed: of the run.
        epoch: counted from 0.
    """
    rng = np.random.default_rng([seed, 10, epoch])
    seeds = np.random.default_rng([seed, 11, epoch]).integers(2**62, size=count)
    order = rng.permutation(count)
    if factors is None:
        return list(zip(order.tolist(), seeds[order].tolist(), strict=True))
    # Systematic sampling: as many numbers of the grid u, u + 1, ... as fall into an image's stretch of the sum.
    ends = np.floor(np.cumsum(factors[order]) + rng.random())
    times = np.diff(ends, prepend=0).astype(int)  # (n,) floor or ceiling of the factor
    copy = np.concatenate([np.arange(each) for each in times])
    drawn = np.repeat(order, times)
    shuffled = rng.permutation(len(drawn))[: images_per_epoch(count, factors)]
    drawn, copy = drawn[shuffled], copy[shuffled]
    return list(zip(drawn.tolist(), (seeds[drawn] + copy).tolist(), strict=True))
