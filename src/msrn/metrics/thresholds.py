"""Decide which labels are predicted, by thresholds or by rank, and choose the thresholds.

Hand-written although scikit-learn exists: scikit-learn tunes the one threshold of a binary classifier object, not one
threshold per label from scores, and takes no unknown targets.

A label is predicted when its score is above the threshold. Errors are those of ``inputs.check_pair``, and ConfigError
for a setting out of bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from msrn.errors import ConfigError, ShapeError
from msrn.metrics.inputs import Array, check_pair, check_scores
from msrn.metrics.ranking import Ranking

__all__ = [
    "TunedThreshold",
    "best_global_threshold",
    "best_thresholds",
    "predict",
    "predict_top_k",
    "tune_thresholds",
]


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
    """The threshold of a label, and what it rests on."""

    value: float
    f1: float | None
    """Best F1 on the images it was tuned on; None where it was not tuned."""
    positives: int
    """Known positives among these images."""
    tuned: bool
    """False: there was too little to tune on, and the value is the default."""


def tune_thresholds(
    scores: ArrayLike, target: ArrayLike, *, default: float = 0.5, min_positives: int = 5
) -> list[TunedThreshold]:
    """``best_thresholds``, but with the default where the images cannot support a threshold of their own.

    From a handful of positives the best F1 often belongs to a threshold below nearly all scores: at 2 % prevalence and
    100 images, half of all labels whose scores say nothing would be predicted for most images. A label gets
    ``default`` with fewer known positives than ``min_positives``, or where no F1 is above that of predicting the label
    for every image.
    """
    values, truth = check_pair(scores, target, probabilities=True)
    best = Ranking.by_label(values, truth).best_threshold(default)
    chosen = predict(values, best)
    found = []
    for column, threshold in enumerate(best.tolist()):
        known = ~np.isnan(truth[:, column])
        positive, predicted = truth[known, column] == 1, chosen[known, column]
        positives = int(positive.sum())
        f1 = 2 * int((positive & predicted).sum()) / max(1, positives + int(predicted.sum()))
        f1_of_all = 2 * positives / max(1, positives + len(positive))
        enough = positives >= min_positives and positives < len(positive) and f1 > f1_of_all
        found.append(TunedThreshold(threshold if enough else default, f1 if enough else None, positives, enough))
    return found


def best_global_threshold(scores: ArrayLike, target: ArrayLike, *, default: float = 0.5) -> float:
    """The one threshold of the highest OF1 on these probabilities; otherwise as ``best_thresholds``."""
    return float(Ranking.pooled(*check_pair(scores, target, probabilities=True)).best_threshold(default)[0])
