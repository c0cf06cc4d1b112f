"""Decide which labels are predicted, by thresholds or by rank, and choose the thresholds.

Hand-written although scikit-learn exists: scikit-learn tunes the one threshold of a binary classifier object, not one
threshold per label from scores, and takes no unknown targets.

A label is predicted when its score is above the threshold. Errors are those of ``inputs.check_pair``, and ConfigError
for a setting out of bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from msrn.config import ThresholdSettings
from msrn.errors import ConfigError, ShapeError
from msrn.metrics.inputs import Array, check_pair, check_scores
from msrn.metrics.ranking import Ranking

__all__ = [
    "TunedThreshold",
    "best_global_threshold",
    "best_thresholds",
    "misses_allowed",
    "predict",
    "predict_top_k",
    "tune_thresholds",
]

DEFAULT_CONFIDENCE = 0.95
"""Of a promise of recall."""


def predict(scores: ArrayLike, threshold: ArrayLike = 0.5) -> Array:
    """Labels whose score is above the threshold (one number, or one per label): ``(n, L)`` of bool.

    Example:
        >>> predict([[0.9, 0.3], [0.4, 0.2]], [0.5, 0.25]).tolist()
        [[True, True], [False, False]]
    """
    values, thresholds = check_scores(scores), np.asarray(threshold, dtype=np.float64)
    if thresholds.shape not in ((), values.shape[1:]):
        raise ShapeError(
            f"expected one threshold or {values.shape[1]}, got shape {thresholds.shape}", where="thresholds"
        )
    # compared in float64: float32 would round the threshold, and change on which side a score lies
    return np.asarray(values > thresholds)


def predict_top_k(scores: ArrayLike, k: int = 3, *, threshold: ArrayLike | None = None) -> Array:
    """The k best labels of each image, ``(n, L)`` of bool; the earlier column wins a tie.

    With a threshold, only those of the k best that are also above it (the modern protocol); without, always k (the old
    one). Labels whose truth is unknown may take a place; the measures do not count them there.
    """
    left = check_scores(scores).copy()
    if k < 1:
        raise ConfigError(f"expected at least 1 label per image, got {k}", where="top_k")
    chosen, rows = np.zeros(left.shape, dtype=bool), np.arange(len(left))
    for _ in range(min(k, left.shape[1])):
        best = left.argmax(axis=1)
        chosen[rows, best] = True
        left[rows, best] = -np.inf
    return chosen if threshold is None else chosen & predict(scores, threshold)


def best_thresholds(scores: ArrayLike, target: ArrayLike, *, default: float = 0.5) -> Array:
    """The threshold of the highest F1 of each label on these scores, ``(L,)``. Use validation data, never the test set.

    Scores are probabilities. Each threshold lies midway between the last score above it and the next one below; among
    equal F1 the highest threshold is chosen. A label gets ``default`` if it has no known positive above 0, or no known
    negative: without negatives, a threshold below all scores would be best.
    """
    return Ranking.by_label(*check_pair(scores, target, probabilities=True)).best_threshold(default)


@dataclass(frozen=True, slots=True)
class TunedThreshold:
    """The threshold of a label, and what it rests on. The measures are of the images it was tuned on."""

    value: float
    f1: float | None
    """None where it was not tuned, as precision and recall."""
    positives: int
    """Known positives among these images."""
    tuned: bool
    """False: there was too little to tune on, and the value is the default."""
    precision: float | None = None
    recall: float | None = None
    reason: str = ""
    """Why it was not tuned."""


def tune_thresholds(
    scores: ArrayLike, target: ArrayLike, rule: ThresholdSettings | None = None, *, default: float = 0.5
) -> list[TunedThreshold]:
    """A threshold for each label by a rule, with the default where the images cannot support one of their own.

    Args:
        scores: ``(n, L)``, probabilities of validation data, never of the test set.
        target: ``(n, L)`` in {1, 0, NaN}.
        rule: how to choose; None: the best F1. Among equals the highest threshold is chosen.
        default: threshold of labels that are not tuned.

    A label is not tuned

    - with fewer known positives than ``rule.min_positives``, or without a known negative,
    - by F1 and F-beta, where none is above that of predicting the label for every image. From a handful of positives,
      the best F1 often belongs to a threshold below nearly all scores: at 2 % prevalence and 100 images, half of all
      labels whose scores say nothing would be predicted for most images,
    - by precision, where no threshold reaches the target,
    - by ``recall_bound``, with too few positives to promise anything: see ``misses_allowed``.
    """
    rule = rule or ThresholdSettings()
    ranking = Ranking.by_label(*check_pair(scores, target, probabilities=True))
    gaps, known = ranking.gaps(), ranking.seen[:, -1]
    chosen = [
        _choose(rule, hits, seen, np.flatnonzero(gap), total)
        for hits, seen, gap, total in zip(ranking.hits, ranking.seen, gaps, known.tolist(), strict=True)
    ]
    places = np.array([place if isinstance(place, int) else 0 for place in chosen])
    values, found = ranking.threshold_after(places).tolist(), []
    for label, place in enumerate(chosen):
        positives = int(ranking.positives[label])
        if isinstance(place, str):
            found.append(TunedThreshold(default, None, positives, False, reason=place))
            continue
        hits, seen = int(ranking.hits[label, place]), int(ranking.seen[label, place])
        f1 = 2 * hits / (positives + seen)
        found.append(TunedThreshold(values[label], f1, positives, True, hits / seen, hits / positives))
    return found


def _choose(rule: ThresholdSettings, hits: Array, seen: Array, places: Array, known: int) -> int | str:
    """The gap of one label's ranking below which nothing is predicted, or why there is none.

    Args:
        rule: how to choose.
        hits: ``(M,)``, positives down to each entry.
        seen: ``(M,)``, entries down to each entry.
        places: the gaps, best score first.
        known: known entries.
    """
    positives = int(hits[-1])
    if positives < rule.min_positives:
        return f"{positives} positives, fewer than {rule.min_positives}"
    if positives == known:
        return "no known negative"
    if not places.size:
        return "every score is 0"
    hits, seen = hits[places], seen[places]
    precision = hits / seen
    if rule.rule in ("f1", "f_beta"):
        square = 1.0 if rule.beta is None else rule.beta**2
        measure = (1 + square) * hits / (seen + square * positives)
        if measure.max() <= (1 + square) * positives / (known + square * positives):
            return "no threshold is better than predicting every image"
        return int(places[measure.argmax()])
    if rule.rule == "break_even":
        return int(places[np.abs(seen - positives).argmin()])
    if rule.target is None:
        raise ConfigError(f"rule {rule.rule} needs target", "thresholds.target")
    if rule.rule == "precision":
        reached = precision >= rule.target
        if not reached.any():
            return f"no threshold reaches a precision of {rule.target}; the best is {precision.max():.3f}"
        return int(places[np.where(reached, hits, -1).argmax()])
    if rule.rule == "recall":
        reached = hits >= rule.target * positives
        if not reached.any():
            return f"positives with a score of 0: recall stays below {rule.target}"
        return int(places[np.where(reached, precision, -1).argmax()])
    confidence = rule.confidence or DEFAULT_CONFIDENCE
    allowed = misses_allowed(positives, rule.target, confidence)
    if allowed is None:
        needed = math.ceil(math.log1p(-confidence) / math.log(rule.target))
        return f"{positives} positives, too few to promise a recall of {rule.target}: it takes {needed}"
    reached = hits >= positives - allowed
    return int(places[reached.argmax()]) if reached.any() else "positives with a score of 0: nothing can be promised"


def misses_allowed(positives: int, recall: float, confidence: float = DEFAULT_CONFIDENCE) -> int | None:
    """How many positives of a sample may lie at or below a threshold that promises a recall; None: not even 0.

    The threshold right below the (j + 1)-th lowest of n positives misses j of them. Its recall on all images of the
    same kind is below ``recall`` with a probability of at most P(Binomial(n, 1 - recall) <= j), whatever the
    distribution of the scores. The largest j is taken for which this is at most 1 - confidence: that is where the lower
    Clopper-Pearson limit (Biometrika 26, 1934) of (n - j) / n reaches the recall. The promise is for each label by
    itself, not for all of them at once.

    Example:
        >>> misses_allowed(28, 0.9), misses_allowed(29, 0.9), misses_allowed(200, 0.9)
        (None, 0, 12)
    """
    total, allowed = 0.0, None
    for misses in range(positives):
        ways = math.lgamma(positives + 1) - math.lgamma(misses + 1) - math.lgamma(positives - misses + 1)
        total += math.exp(ways + misses * math.log1p(-recall) + (positives - misses) * math.log(recall))
        if total > 1 - confidence:
            break
        allowed = misses
    return allowed


def best_global_threshold(scores: ArrayLike, target: ArrayLike, *, default: float = 0.5) -> float:
    """The one threshold of the highest OF1 on these probabilities; otherwise as ``best_thresholds``."""
    return float(Ranking.pooled(*check_pair(scores, target, probabilities=True)).best_threshold(default)[0])
