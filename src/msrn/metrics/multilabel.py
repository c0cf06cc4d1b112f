"""How good are these scores? The field's measures of multi-label classification, in numpy.

Everywhere ``scores`` and ``target`` are ``(n, L)``, n images by L labels; targets are 1, 0 or NaN = unknown.

- **Unknown entries** are left out of every sum, row and column: they are neither right nor wrong. A label is judged on
  the images of which it is known, an image on its known labels; images without any are left out and counted. Only the
  k best labels are picked out of all, for a prediction is made without knowing the truth. Where entries are unknown at
  random, precision and recall then are on average what they would be if all were known; the k best of the known labels
  would have a higher recall and a lower precision.
- **Ties.** Equal scores are one threshold, as in scikit-learn: every entry of a tied group sees the counts at the end
  of its group, so no result depends on the order of images or labels.
- **Labels without a positive** have no AP, AUROC, recall or F1 (NaN; ``None`` in the dict of ``evaluate``). They are
  left out of every class average (mAP, macro AUROC, CP, CR, CF1, macro F1) and counted; false alarms on them still
  lower OP and OF1. Labels without a negative have no AUROC; their AP and precision are 1 whatever the scores, as in
  scikit-learn, and the row of such a label says 0 negatives.
- **Predicted** means score > threshold. A label never predicted has precision 0. CF1 is the harmonic mean of mean
  precision and mean recall, as papers print it; the mean of per-class F1 is ``macro_F1``.
- **Images.** As in scikit-learn an image without a positive counts as label ranking AP 1, coverage 0, ranking loss 0,
  and a tie between a positive and a negative is a ranking error.

Every function raises ShapeError or DataError, with row and column, when the sizes differ, a score is not finite (or no
probability where one is needed) or a target is not 1, 0 or NaN; ConfigError for a setting out of bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from msrn.errors import ConfigError, DataError, ShapeError
from msrn.metrics.ranking import AP_KINDS, STANDARD, ApKind, Array, Ranking, ratio

__all__ = [
    "AP_KINDS",
    "ApKind",
    "PrecisionRecall",
    "auroc",
    "average_precision",
    "best_global_threshold",
    "best_thresholds",
    "coverage_error",
    "evaluate",
    "hamming_loss",
    "label_ranking_average_precision",
    "mean_average_precision",
    "micro_average_precision",
    "precision_recall",
    "predict",
    "predict_top_k",
    "ranking_loss",
    "subset_accuracy",
]


def average_precision(scores: ArrayLike, target: ArrayLike, *, kind: ApKind = STANDARD) -> Array:
    """AP of each label, ``(L,)``, NaN where the label has no positive; ``AP_KINDS`` says what each kind is.

    Example:
        >>> average_precision([[0.9], [0.8], [0.3]], [[1], [0], [1]]).round(3).tolist()
        [0.833]
    """
    return _by_label(*_checked(scores, target)).average_precision(kind)


def mean_average_precision(scores: ArrayLike, target: ArrayLike, *, kind: ApKind = STANDARD) -> tuple[float, int]:
    """mAP over the labels that have a positive, and how many labels were left out."""
    return _mean(average_precision(scores, target, kind=kind))


def micro_average_precision(scores: ArrayLike, target: ArrayLike, *, kind: ApKind = STANDARD) -> float:
    """AP of all (image, label) entries ranked together."""
    return float(_pooled(*_checked(scores, target)).average_precision(kind)[0])


def auroc(scores: ArrayLike, target: ArrayLike) -> Array:
    """Area under the ROC curve of each label, ``(L,)``; NaN without a positive or without a negative."""
    return _by_label(*_checked(scores, target)).auroc()


def label_ranking_average_precision(scores: ArrayLike, target: ArrayLike) -> float:
    """Mean over images of the AP of the image's labels; 1 for an image without a positive."""
    return _by_image(*_checked(scores, target))["label_ranking_AP"]


def coverage_error(scores: ArrayLike, target: ArrayLike) -> float:
    """How many labels, best first, an image needs on average before all its positives are among them."""
    return _by_image(*_checked(scores, target))["coverage_error"]


def ranking_loss(scores: ArrayLike, target: ArrayLike) -> float:
    """Mean over images of the share of (positive, negative) pairs in the wrong order; ties are wrong."""
    return _by_image(*_checked(scores, target))["ranking_loss"]


def predict(scores: ArrayLike, threshold: ArrayLike = 0.5) -> Array:
    """Labels whose score is above the threshold (one number, or one per label): ``(n, L)`` of bool."""
    values, cuts = _checked_scores(scores), np.asarray(threshold, dtype=np.float64)
    if cuts.shape not in ((), values.shape[1:]):
        raise ShapeError(f"expected one threshold or {values.shape[1]}, got shape {cuts.shape}", where="thresholds")
    # compared in float64: in float32 the threshold would be rounded, and change which side a score lies on
    return np.asarray(values > cuts)


def predict_top_k(scores: ArrayLike, k: int = 3, *, threshold: ArrayLike | None = None) -> Array:
    """The k best labels of each image, ``(n, L)`` of bool; the earlier column wins a tie.

    With a threshold those of the k best that also pass it (the modern protocol); without, always k (the old one).
    Labels whose truth is unknown may take a place, and are not counted there.
    """
    left = _checked_scores(scores).copy()
    if k < 1:
        raise ConfigError(f"expected at least 1 label kept per image, got {k}", where="top_k")
    chosen, rows = np.zeros(left.shape, dtype=bool), np.arange(len(left))
    for _ in range(min(k, left.shape[1])):
        best = left.argmax(axis=1)
        chosen[rows, best] = True
        left[rows, best] = -np.inf
    return chosen if threshold is None else chosen & predict(scores, threshold)


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision, recall and F1 per label ``(L,)`` and averaged over classes (C) or overall (O), in [0, 1]."""

    precision: Array
    recall: Array
    f1: Array
    averages: dict[str, float]  # CP CR CF1 OP OR OF1 macro_F1
    left_out: int  # labels without a positive, absent from CP, CR, CF1 and macro_F1


def precision_recall(predicted: ArrayLike, target: ArrayLike) -> PrecisionRecall:
    """Precision, recall, F1 of decisions: ``(n, L)`` of bool, from ``predict`` or ``predict_top_k``."""
    chosen, known, positive = _decided(predicted, target)
    right, claimed, actual = (each.sum(axis=0) for each in (chosen & positive, chosen & known, positive))  # (L,)
    precision = np.nan_to_num(ratio(right, claimed))  # never predicted: 0
    recall = ratio(right, actual)
    f1 = np.where(actual > 0, ratio(2 * right, claimed + actual), np.nan)
    (cr, left_out), (macro_f1, _) = _mean(recall), _mean(f1)
    cp, _ = _mean(np.where(actual > 0, precision, np.nan))
    op, overall = float(np.nan_to_num(ratio(right.sum(), claimed.sum()))), float(ratio(right.sum(), actual.sum()))
    averages = {"CP": cp, "CR": cr, "CF1": _harmonic(cp, cr), "OP": op, "OR": overall, "OF1": _harmonic(op, overall)}
    return PrecisionRecall(precision, recall, f1, averages | {"macro_F1": macro_f1}, left_out)


def subset_accuracy(predicted: ArrayLike, target: ArrayLike) -> float:
    """Share of images with every known label decided rightly."""
    chosen, known, positive = _decided(predicted, target)
    right = ((chosen == positive) | ~known).all(axis=1)
    return _mean(np.where(known.any(axis=1), right, np.nan))[0]


def hamming_loss(predicted: ArrayLike, target: ArrayLike) -> float:
    """Share of known (image, label) entries decided wrongly."""
    chosen, known, positive = _decided(predicted, target)
    return float(ratio(((chosen != positive) & known).sum(), known.sum()))


def best_thresholds(scores: ArrayLike, target: ArrayLike, *, default: float = 0.5) -> Array:
    """Per label ``(L,)`` the threshold of the highest F1 on these scores. Validation data only, never the test set.

    Scores are probabilities. Each threshold lies midway between the last score kept and the next one down; among equal
    F1 the highest. A label without a known positive above 0 or without a known negative gets ``default``: without
    negatives every F1 would be best for a threshold below all scores.
    """
    return _by_label(*_checked(scores, target, probabilities=True)).best_cut(default)


def best_global_threshold(scores: ArrayLike, target: ArrayLike, *, default: float = 0.5) -> float:
    """The one threshold of the highest OF1 on these probabilities; ``default`` as above. Validation data only."""
    return float(_pooled(*_checked(scores, target, probabilities=True)).best_cut(default)[0])


def evaluate(
    scores: ArrayLike,
    target: ArrayLike,
    *,
    labels: Sequence[str],
    target_counts: ArrayLike | None = None,
    thresholds: ArrayLike = 0.5,
    top_k: int = 3,
    ap_kind: ApKind = STANDARD,
) -> dict[str, Any]:
    """Every measure at once, as a plain dict for ``json.dump``, with the names of the protocol's choices.

    Args:
        scores: ``(n, L)`` probabilities.
        target: ``(n, L)`` in {1, 0, NaN}, for everything that ranks.
        target_counts: another target for everything that decides (precision, recall, F1, subset accuracy, Hamming
            loss). MSRN on VOC: difficult objects are NaN in ``target`` and 0 here.
        thresholds: one, or one per label, in [0, 1].

    Returns:
        ``protocol``, ``images``, ``mAP`` ... in [0, 1] (coverage error: labels), ``all`` / ``top_k`` / ``top_k_always``
        with CP CR CF1 OP OR OF1 macro_F1, ``left_out`` and ``per_label`` rows. Undefined numbers are ``None``.
        ``left_out`` counts labels (of mAP, AUROC, class averages), images without a known label, and NaN entries.
    """
    values, ranked = _checked(scores, target, probabilities=True)
    counted = ranked if target_counts is None else _checked(values, target_counts)[1]
    cuts = np.asarray(thresholds, dtype=np.float64)
    if len(labels) != values.shape[1]:
        raise ShapeError(f"expected {values.shape[1]} label names, one per column, got {len(labels)}", where="labels")
    if not ((cuts >= 0) & (cuts <= 1)).all():
        raise ConfigError(f"expected thresholds from 0 to 1, got {cuts.tolist()}", where="thresholds")
    chosen, best = predict(values, cuts), predict_top_k(values, top_k)
    columns = _by_label(values, ranked)
    ap, area, unknown = columns.average_precision(ap_kind), columns.auroc(), np.isnan(ranked)
    (mean_ap, no_ap), (mean_area, no_area) = _mean(ap), _mean(area)
    everything, *top = (precision_recall(each, counted) for each in (chosen, best & chosen, best))
    table = {
        "label": np.array(labels, dtype=object),
        "AP": ap,
        "AUROC": area,
        "precision": everything.precision,
        "recall": everything.recall,
        "F1": everything.f1,
        "threshold": np.broadcast_to(cuts, ap.shape),
        "positives": (ranked == 1).sum(axis=0),
        "negatives": (ranked == 0).sum(axis=0),
        "unknown": unknown.sum(axis=0),
    }
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    protocol = {
        "AP": ap_kind,
        "entries": "unknown ones left out of every label and image; equal scores are one threshold",
        "thresholds": "one per label" if cuts.ndim else float(cuts),
        "predicted": "score > threshold; a label never predicted has precision 0",
        "class_averages": "over labels with a positive; CF1 is the harmonic mean of CP and CR",
        "counts_target": "the target of AP" if target_counts is None else "another than that of AP",
        "k": top_k,
        "top_k": "the k best of all labels that also pass the threshold",
        "top_k_always": "always the k best of all labels",
    }
    result = {
        "protocol": protocol,
        "images": len(values),
        "labels": len(labels),
        "left_out": {
            "mAP": no_ap,
            "AUROC": no_area,
            "class_averages": everything.left_out,
            "images": int(unknown.all(axis=1).sum()),
            "entries": int(unknown.sum()),
        },
        "mAP": mean_ap,
        "micro_AP": float(_pooled(values, ranked).average_precision(ap_kind)[0]),
        "AUROC": mean_area,
        **_by_image(values, ranked),
        "subset_accuracy": subset_accuracy(chosen, counted),
        "hamming_loss": hamming_loss(chosen, counted),
        "all": everything.averages,
        "top_k": top[0].averages,
        "top_k_always": top[1].averages,
        "per_label": [dict(zip(table, row, strict=True)) for row in rows],
    }
    return dict(_without_nan(result))


def _by_label(scores: Array, target: Array) -> Ranking:
    return Ranking.of(np.ascontiguousarray(scores.T), np.ascontiguousarray(target.T))


def _pooled(scores: Array, target: Array) -> Ranking:
    return Ranking.of(scores.reshape(1, -1), target.reshape(1, -1))


def _by_image(scores: Array, target: Array) -> dict[str, float]:
    images = Ranking.of(scores, target)
    each = {
        "label_ranking_AP": np.where(images.positives > 0, images.average_precision(STANDARD), 1.0),
        "coverage_error": (images.seen * images.positive).max(axis=1),  # place of the lowest positive
        "ranking_loss": np.nan_to_num(images.disorder()),
    }
    known = images.seen[:, -1] > 0
    return {name: _mean(np.where(known, values, np.nan))[0] for name, values in each.items()}


def _mean(values: Array) -> tuple[float, int]:
    """Mean over the defined values (NaN when there is none), and how many were left out."""
    defined = values[~np.isnan(values)]
    return (float(defined.mean()) if defined.size else float("nan")), values.size - defined.size


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b != 0 else 0.0


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _decided(predicted: ArrayLike, target: ArrayLike) -> tuple[Array, Array, Array]:
    """Decisions, known entries and positives, all ``(n, L)`` of bool."""
    chosen = np.asarray(predicted)
    if chosen.dtype != np.bool_:  # probabilities here would all count as predicted
        raise DataError(f"expected decisions of bool, got {chosen.dtype}", hint="use predict(scores, threshold) first")
    truth = _checked(chosen, target)[1]
    return chosen, ~np.isnan(truth), truth == 1


def _checked(scores: ArrayLike, target: ArrayLike, *, probabilities: bool = False) -> tuple[Array, Array]:
    """Scores (float32 or float64) and target (float32), both ``(n, L)`` and sound."""
    values, truth = _checked_scores(scores, probabilities=probabilities), np.asarray(target, dtype=np.float32)
    if values.shape != truth.shape:
        raise ShapeError(f"expected a target of the scores' size {values.shape} (images, labels), got {truth.shape}")
    _refuse(truth, (truth != 0) & (truth != 1) & ~np.isnan(truth), "targets of 1, 0 or NaN (unknown)")
    return values, truth


def _checked_scores(scores: ArrayLike, *, probabilities: bool = False) -> Array:
    values = np.asarray(scores)
    values = values if values.dtype == np.float32 else values.astype(np.float64)
    if values.ndim != 2 or not values.size:
        raise ShapeError(f"expected scores of size (images, labels), at least one of each, got {values.shape}")
    outside = (values < 0) | (values > 1) if probabilities else False
    _refuse(values, ~np.isfinite(values) | outside, "probabilities, 0 to 1" if probabilities else "finite scores")
    return values


def _refuse(values: Array, bad: Array, expected: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        message = f"expected {expected}, got {values[row, column]} ({bad.sum():,} such in all)"
        raise DataError(message, where=f"row {row}, column {column}")
