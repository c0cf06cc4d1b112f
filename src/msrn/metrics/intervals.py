"""Intervals of mAP by the bootstrap over images: of one set of scores, and of the difference of two (paired).

The images are drawn with replacement, as many as there are, many times; the interval holds a share of the mAPs that
follow. It says how far the figure depends on which images happen to be in the split, and nothing about other seeds of
training.

The ends are percentiles, corrected for bias (Efron, Canadian Journal of Statistics 9, 1981): average precision is too
high on few images, and higher still on a resample, where copies of a positive support each other. On generated scores
of 300 to 2,500 images, plain percentiles at 95 % held the figure of the population 76 to 95 times of 100, the corrected
ones 89 to 96 times: on few images, the interval is still a little short.

A resample is never written out. An image drawn k times has weight k, and the ranking of a label does not change: per
label and resample, one pass over its sorted scores adds the weights up. 64 resamples share a pass.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, TypeAdapter

from msrn.errors import ConfigError, ShapeError
from msrn.metrics.inputs import Array, check_pair
from msrn.metrics.multilabel import mean_average_precision
from msrn.metrics.results import Measure

__all__ = ["Interval", "mean_ap_difference", "mean_ap_interval"]

RESAMPLES = 10_000
MIN_RESAMPLES = 1_000
WORK = 10**10
"""Entries (resamples x images x labels) at most, a few seconds: fewer resamples are drawn for large splits."""
BLOCK = 64
"""Resamples that share a pass; their weights of one image fill a cache line."""

Fraction = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap interval. NaN where the figure is undefined."""

    value: Measure
    """Of the images themselves."""
    low: Measure
    high: Measure
    level: Fraction
    """Share of the resamples within the interval."""
    resamples: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; an undefined figure is ``None``."""
        return dict(_INTERVAL.dump_python(self, mode="json"))


_INTERVAL = TypeAdapter(Interval)


def mean_ap_interval(
    scores: ArrayLike, target: ArrayLike, *, level: float = 0.95, resamples: int | None = None, seed: int = 0
) -> Interval:
    """mAP (un-interpolated AP) with its interval over images.

    Args:
        scores: ``(n, L)``, finite.
        target: ``(n, L)`` in {1, 0, NaN}; a label without a positive in a resample has no part in that resample's mAP.
        level: share of the resamples within the interval.
        resamples: None: 10,000, and fewer on more than a million entries, but at least 1,000.
        seed: of the draws; the same seed draws the same images for any scores.

    Raises:
        ShapeError, DataError: as every measure. ConfigError: ``level`` or ``resamples`` is out of bounds.

    Example:
        >>> scores, target = np.linspace(0, 1, 40).reshape(20, 2), np.tile([[0, 1], [1, 0]], (10, 1))
        >>> found = mean_ap_interval(scores, target, resamples=200)
        >>> found.low < found.value < found.high
        True
    """
    values, truth = check_pair(scores, target)
    number = _checked(values, level, resamples)
    rankings = _rankings(values, truth)
    found = np.concatenate([_mean_aps(rankings, block) for block in _blocks(len(values), number, seed)])
    return _interval(mean_average_precision(values, truth)[0], found[:number], level, seed)


def mean_ap_difference(
    scores: ArrayLike,
    others: ArrayLike,
    target: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Interval:
    """mAP of ``scores`` less that of ``others`` on the same images, with its interval: paired, so that what makes both
    higher or lower cancels. An interval without 0 is a difference that the choice of images does not explain.

    Args:
        scores: ``(n, L)``, or ``(S, n, L)`` of S trainings, whose mAPs are averaged in every resample.
        others: the same of the other model; it may have another number of trainings.
        target, level, resamples, seed: as ``mean_ap_interval``.

    Raises:
        ShapeError, DataError, ConfigError: as ``mean_ap_interval``.
    """
    one, other = _stack(scores, target), _stack(others, target)
    values, truth = one[0]
    if values.shape != other[0][0].shape:
        raise ShapeError(f"expected two sets of scores of one size, got {values.shape} and {other[0][0].shape}")
    number = _checked(values, level, resamples, sets=len(one) + len(other))
    first, second = ([_rankings(each, truth) for each, _ in side] for side in (one, other))
    found = np.concatenate(
        [_average(first, block) - _average(second, block) for block in _blocks(len(values), number, seed)]
    )
    value = _mean_map(one) - _mean_map(other)
    return _interval(value, found[:number], level, seed)


def _stack(scores: ArrayLike, target: ArrayLike) -> list[tuple[Array, Array]]:
    """Each of the sets of scores, checked with the target."""
    stack = np.asarray(scores)
    if stack.ndim == 3 and not len(stack):
        raise ShapeError("expected at least one set of scores, got none")
    return [check_pair(each, target) for each in (stack if stack.ndim == 3 else [stack])]


def _mean_map(stack: list[tuple[Array, Array]]) -> float:
    return float(np.mean([mean_average_precision(values, truth)[0] for values, truth in stack]))


def _average(rankings: list[list[tuple[Array, Array, Array]]], weights: Array) -> Array:
    """mAP of each resample, averaged over the sets of scores: ``(BLOCK,)``."""
    return np.asarray(np.mean([_mean_aps(each, weights) for each in rankings], axis=0))


def _checked(values: Array, level: float, resamples: int | None, *, sets: int = 1) -> int:
    """The number of resamples."""
    if not 0 < level < 1:
        raise ConfigError(f"expected a level between 0 and 1, got {level}", where="level")
    if resamples is not None and resamples < 1:
        raise ConfigError(f"expected at least 1 resample, got {resamples}", where="resamples")
    return resamples or min(RESAMPLES, max(MIN_RESAMPLES, WORK // (sets * values.size)))


def _interval(value: float, found: Array, level: float, seed: int) -> Interval:
    some, normal = found[~np.isnan(found)], NormalDist()
    if not some.size:
        return Interval(value, math.nan, math.nan, level, len(found), seed)
    below = ((some < value).mean() + (some <= value).mean()) / 2
    shift = normal.inv_cdf(float(np.clip(below, 0.5 / some.size, 1 - 0.5 / some.size)))  # 0: no bias
    half = normal.inv_cdf((1 + level) / 2)
    low, high = np.quantile(some, [normal.cdf(2 * shift - half), normal.cdf(2 * shift + half)]).tolist()
    return Interval(value, low, high, level, len(found), seed)


def _blocks(images: int, resamples: int, seed: int) -> Any:
    """How often each image is drawn: ``(n, BLOCK)`` of uint8 (255 times never happens) for each block of resamples."""
    generator = np.random.default_rng(seed)
    for _ in range(0, resamples, BLOCK):
        drawn = generator.integers(0, images, (BLOCK, images), dtype=np.int32)
        counts = [np.bincount(row, minlength=images).astype(np.uint8) for row in drawn]
        yield np.ascontiguousarray(np.stack(counts, axis=1))


def _rankings(scores: Array, target: Array) -> list[tuple[Array, Array, Array]]:
    """For each label its known images, best first ``(M,)``, whether each is a positive, and the last of its tie."""
    rankings = []
    for column, truth in zip(scores.T, target.T, strict=True):
        known = np.flatnonzero(~np.isnan(truth))
        order = known[np.argsort(-column[known], kind="stable")].astype(np.int32)
        last = np.ones(len(order), dtype=np.bool_)
        last[:-1] = column[order[:-1]] > column[order[1:]]
        rankings.append((order, truth[order] == 1, last))
    return rankings


def _mean_aps(rankings: list[tuple[Array, Array, Array]], weights: Array) -> Array:
    """mAP of each resample, ``(BLOCK,)``; NaN where no label has a positive."""
    add_up, total, labels = _compiled(), np.zeros(BLOCK), np.zeros(BLOCK, dtype=np.int64)
    for order, positive, last in rankings:
        if positive.any():
            precision, hits = np.zeros(BLOCK), np.zeros(BLOCK, dtype=np.int32)
            add_up(order, positive, last, weights, precision, hits)
            total += precision / np.maximum(hits, 1)
            labels += hits > 0
    return np.where(labels > 0, total / np.maximum(labels, 1), np.nan)


def _add_up(order: Array, positive: Array, last: Array, weights: Array, precision: Array, hits: Array) -> None:
    """Add to ``precision`` the weighted sum of the precisions at positives, and to ``hits`` their weights."""
    # 32 bits hold any number of images, and are added twice as fast as 64
    seen, tied = np.zeros(BLOCK, np.int32), np.zeros(BLOCK, np.int32)  # ``tied``: positives of this group of equals
    waiting = False
    for place in range(len(order)):
        row = weights[order[place]]
        for one in range(BLOCK):
            seen[one] += row[one]
        if positive[place]:
            waiting = True
            for one in range(BLOCK):
                tied[one] += row[one]
        if last[place] and waiting:
            waiting = False
            for one in range(BLOCK):
                hits[one] += tied[one]
                precision[one] += tied[one] * (hits[one] / max(seen[one], 1))
                tied[one] = 0


@functools.cache
def _compiled() -> Callable[..., None]:
    """``_add_up`` as machine code, compiled now or loaded as another process compiled it."""
    import numba

    kinds = "void(int32[::1], boolean[::1], boolean[::1], uint8[:,::1], float64[::1], int32[::1])"
    try:
        compiled: Callable[..., None] = numba.njit(kinds, cache=True, error_model="numpy")(_add_up)
    except (RuntimeError, OSError):  # no folder to write to; a full disk
        compiled = numba.njit(kinds, error_model="numpy")(_add_up)
    return compiled
