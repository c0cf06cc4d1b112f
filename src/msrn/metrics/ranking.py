"""Rank scores and measure the order: the core of every measure that depends on order alone.

One ranking serves most measures: over the columns of a score matrix it gives AP and AUROC, over its rows label ranking
AP (the AP of a row), coverage and ranking loss, over all entries micro AP. Inputs are not checked here.

Hand-written although scikit-learn exists: scikit-learn takes no unknown targets and has no interpolated AP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from msrn.errors import ConfigError
from msrn.metrics.inputs import Array

__all__ = ["AP_KINDS", "UNINTERPOLATED", "ApKind", "Ranking", "ratio"]

ApKind: TypeAlias = Literal["uninterpolated", "all_point", "eleven_point"]

UNINTERPOLATED: ApKind = "uninterpolated"
AP_KINDS: dict[str, str] = {
    "uninterpolated": "mean of the precision at each positive (MSRN, ML-GCN, ASL, scikit-learn)",
    "all_point": "precision made monotone, at each positive (SSGRL, Query2Label, VOC devkit from 2010)",
    "eleven_point": "best precision at recall >= 0, 0.1 ... 1, averaged (VOC 2007 devkit)",
}


@dataclass(frozen=True, slots=True)
class Ranking:
    """R rankings of M entries, ``(R, M)``, best first. All tied entries hold the counts at the end of their group."""

    scores: Array  # -inf for unknown entries, which stand last
    positive: Array  # bool
    hits: Array  # positives with at least this score
    seen: Array  # known entries with at least this score
    positives: Array  # (R,)
    pairs: Array  # (R,) positives times negatives

    @classmethod
    def of(cls, scores: Array, target: Array) -> Ranking:
        """Rank the entries of each row: finite scores with targets of 1, 0 or NaN (unknown), both ``(R, M)``."""
        unknown = np.isnan(target)
        down = np.where(unknown, np.inf, -scores)  # ascending order of this is best first
        order = np.argsort(down, axis=1)
        down = np.take_along_axis(down, order, axis=1)
        positive = np.take_along_axis(target == 1, order, axis=1)
        last = np.ones(down.shape, dtype=bool)  # whether the entry is the last of its tied group
        last[:, :-1] = down[:, :-1] < down[:, 1:]
        known = target.shape[1] - unknown.sum(axis=1)  # (R,)
        seen = np.minimum(np.arange(1, target.shape[1] + 1), known[:, None])
        hits, seen = (_at_group_end(counts, last) for counts in (np.cumsum(positive, axis=1), seen))
        positives = hits[:, -1]
        return cls(-down, positive, hits, seen, positives, positives * (known - positives))

    @classmethod
    def by_label(cls, scores: Array, target: Array) -> Ranking:
        """Rank the images of each label: ``(n, L)`` to L rankings of n entries."""
        return cls.of(np.ascontiguousarray(scores.T), np.ascontiguousarray(target.T))

    @classmethod
    def pooled(cls, scores: Array, target: Array) -> Ranking:
        """Rank all (image, label) entries together: ``(n, L)`` to one ranking of n * L entries."""
        return cls.of(scores.reshape(1, -1), target.reshape(1, -1))

    def average_precision(self, kind: str) -> Array:
        """AP of each ranking, ``(R,)``; NaN without a positive. Raises ConfigError if ``AP_KINDS`` lacks the kind."""
        if kind not in AP_KINDS:
            raise ConfigError(f"expected a kind of AP out of {', '.join(AP_KINDS)}, got {kind!r}", where="AP kind")
        precision = self.hits / np.maximum(self.seen, 1)
        if kind != UNINTERPOLATED:  # the best precision from here on
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        if kind != "eleven_point":
            return ratio((precision * self.positive).sum(axis=1), self.positives)
        # recall >= t/10 in whole numbers, so that 3 of 10 does reach 0.3
        places = [(10 * self.hits >= t * self.positives[:, None]).argmax(axis=1) for t in range(11)]
        tops = np.take_along_axis(precision, np.stack(places, axis=1), axis=1)
        return np.where(self.positives > 0, tops.mean(axis=1), np.nan)

    def disorder(self) -> Array:
        """Share of (positive, negative) pairs with the negative as high or higher; NaN without pairs."""
        return ratio((self.positive * (self.seen - self.hits)).sum(axis=1), self.pairs)

    def auroc(self) -> Array:
        """Share of pairs in order, ties half: the mean of "negative not as high" and "positive as high or higher"."""
        negative = ~self.positive & (self.scores > -np.inf)
        return (1 - self.disorder() + ratio((negative * self.hits).sum(axis=1), self.pairs)) / 2

    def coverage(self) -> Array:
        """How many entries, best first, hold all positives of each ranking, ``(R,)``; 0 without a positive."""
        return np.asarray((self.seen * self.positive).max(axis=1))

    def best_threshold(self, default: float) -> Array:
        """Threshold of the highest F1 of each ranking of probabilities, ``(R,)``; ``default`` if none is better."""
        f1 = np.where(self.gaps(), 2 * self.hits / np.maximum(self.seen + self.positives[:, None], 1), 0.0)
        threshold = self.threshold_after(f1.argmax(axis=1))
        return np.where((f1.max(axis=1) > 0) & (self.pairs > 0), threshold, default)

    def gaps(self) -> Array:
        """Whether a threshold fits right below an entry of a ranking of probabilities, ``(R, M)``.

        It does not within a tied group, at a score of 0, and at unknown entries.
        """
        return np.asarray(self.scores > self._below())

    def threshold_after(self, place: Array) -> Array:
        """The threshold midway between the entry at a gap, ``place (R,)``, and the next score down: ``(R,)``."""
        at = place[:, None]
        high, low = (
            np.take_along_axis(each, at, axis=1)[:, 0].astype(np.float64) for each in (self.scores, self._below())
        )
        middle = (high + low) / 2
        return np.where(middle < high, middle, low)  # neighbouring floats have no middle

    def _below(self) -> Array:
        """The next score down, ``(R, M)``; 0, the lowest probability, after the last."""
        below = np.zeros_like(self.scores)
        below[:, :-1] = np.maximum(self.scores[:, 1:], 0)
        return below


def ratio(part: Array, whole: Array) -> Array:
    """``part / whole``, NaN where the whole is 0."""
    return np.asarray(part / np.where(whole == 0, np.nan, whole))


def _at_group_end(counts: Array, last: Array) -> Array:
    """Give every entry the count at the end of its group: the minimum to its right, because counts never fall."""
    ends = np.where(last, counts, np.iinfo(counts.dtype).max)
    return np.asarray(np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1])
