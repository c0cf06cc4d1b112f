"""How good are these scores? The field's measures of multi-label classification, in numpy.

Everywhere ``scores`` and ``target`` are ``(n, L)``, n images by L labels; targets are 1, 0 or NaN = unknown. An unknown
entry is left out of every sum, row and column: it is neither right nor wrong.

- **Ties.** Equal scores are one threshold, as in scikit-learn: every entry of a tied group sees the counts at the end
  of its group, so no result depends on the order of images or labels.
- **Labels without a positive** have no AP, AUROC, recall or F1 (NaN; ``None`` in the dict of ``evaluate``). They are
  left out of every class average (mAP, macro AUROC, CP, CR, CF1, macro F1) and counted; false alarms on them still
  lower OP and OF1.
- **Predicted** means score > threshold. A label never predicted has precision 0. CF1 is the harmonic mean of mean
  precision and mean recall, as papers print it; the mean of per-class F1 is ``macro_F1``.
- **Images.** As in scikit-learn an image without a positive counts as label ranking AP 1, coverage 0, ranking loss 0,
  and a tie between a positive and a negative is a ranking error. Images with no known entry are left out.

One ranking serves nearly all: over the columns it gives AP and AUROC, over the rows label ranking AP (which is the AP
of a row), coverage and ranking loss, over everything at once micro AP.

Every function raises ShapeError or DataError, with row and column, when the sizes differ, a score is not finite (or no
probability where one is needed) or a target is not 1, 0 or NaN; ConfigError for a setting out of bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msrn.errors import ConfigError, DataError, ShapeError

ApKind: TypeAlias = Literal["uninterpolated", "all_point", "eleven_point"]
Array: TypeAlias = NDArray[Any]

STANDARD: ApKind = "uninterpolated"
AP_KINDS: dict[str, str] = {
    "uninterpolated": "mean of the precision at each positive (MSRN, ML-GCN, ASL, scikit-learn)",
    "all_point": "precision made monotone, at each positive (SSGRL, Query2Label, VOC devkit from 2010)",
    "eleven_point": "best precision at recall >= 0, 0.1 ... 1, averaged (VOC 2007 devkit)",
}


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
    Unknown entries may take a place: a prediction is made without knowing the truth.
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
    precision = np.nan_to_num(_ratio(right, claimed))  # never predicted: 0
    recall = _ratio(right, actual)
    f1 = np.where(actual > 0, _ratio(2 * right, claimed + actual), np.nan)
    (cr, left_out), (macro_f1, _) = _mean(recall), _mean(f1)
    cp, _ = _mean(np.where(actual > 0, precision, np.nan))
    op, overall = float(np.nan_to_num(_ratio(right.sum(), claimed.sum()))), float(_ratio(right.sum(), actual.sum()))
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
    return float(_ratio(((chosen != positive) & known).sum(), known.sum()))


def best_thresholds(scores: ArrayLike, target: ArrayLike, *, default: float = 0.5) -> Array:
    """Per label ``(L,)`` the threshold of the highest F1 on these scores. Validation data only, never the test set.

    Scores are probabilities. Each threshold lies midway between the last score kept and the next one down; among equal
    F1 the highest. A label without a positive above 0 gets ``default``.
    """
    return _by_label(*_checked(scores, target, probabilities=True)).best_cut(default)


def best_global_threshold(scores: ArrayLike, target: ArrayLike, *, default: float = 0.5) -> float:
    """The one threshold of the highest OF1 on these probabilities. Validation data only, never the test set."""
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
        with CP CR CF1 OP OR OF1 macro_F1, ``left_out`` counts, and ``per_label`` rows. Undefined numbers are ``None``.
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
    ap, area = columns.average_precision(ap_kind), columns.auroc()
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
        "unknown": np.isnan(ranked).sum(axis=0),
    }
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    protocol = {
        "AP": ap_kind,
        "entries": "unknown ones left out; equal scores are one threshold",
        "thresholds": "one per label" if cuts.ndim else float(cuts),
        "predicted": "score > threshold; a label never predicted has precision 0",
        "class_averages": "over labels with a positive; CF1 is the harmonic mean of CP and CR",
        "counts_target": "the target of AP" if target_counts is None else "another than that of AP",
        "k": top_k,
        "top_k": "the k best that also pass the threshold",
        "top_k_always": "always the k best",
    }
    result = {
        "protocol": protocol,
        "images": len(values),
        "labels": len(labels),
        "left_out": {"mAP": no_ap, "AUROC": no_area, "class_averages": everything.left_out},
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


@dataclass(frozen=True, slots=True)
class _Ranking:
    """R rankings of M entries, ``(R, M)``, best first. Tied entries all hold the counts at the end of their group."""

    scores: Array  # -inf for unknown entries, which stand last
    positive: Array  # bool
    hits: Array  # positives with at least this score
    seen: Array  # known entries with at least this score
    positives: Array  # (R,)
    pairs: Array  # (R,) positives times negatives

    @classmethod
    def of(cls, scores: Array, target: Array) -> _Ranking:
        unknown = np.isnan(target)
        down = np.where(unknown, np.inf, -scores)  # ascending order of this is best first
        order = np.argsort(down, axis=1)
        down = np.take_along_axis(down, order, axis=1)
        positive = np.take_along_axis(target == 1, order, axis=1)
        last = np.ones(down.shape, dtype=bool)  # is this the last entry of its tied group?
        last[:, :-1] = down[:, :-1] < down[:, 1:]
        known = target.shape[1] - unknown.sum(axis=1)  # (R,)
        seen = np.minimum(np.arange(1, target.shape[1] + 1), known[:, None])
        hits, seen = (_at_group_end(counts, last) for counts in (np.cumsum(positive, axis=1), seen))
        positives = hits[:, -1]
        return cls(-down, positive, hits, seen, positives, positives * (known - positives))

    def average_precision(self, kind: str) -> Array:
        if kind not in AP_KINDS:
            raise ConfigError(f"expected a kind of AP out of {', '.join(AP_KINDS)}, got {kind!r}", where="AP kind")
        precision = self.hits / np.maximum(self.seen, 1)
        if kind != STANDARD:  # the best precision from here on
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        if kind != "eleven_point":
            return _ratio((precision * self.positive).sum(axis=1), self.positives)
        # recall >= t/10 in whole numbers, so that 3 of 10 does reach 0.3
        places = [(10 * self.hits >= t * self.positives[:, None]).argmax(axis=1) for t in range(11)]
        tops = np.take_along_axis(precision, np.stack(places, axis=1), axis=1)
        return np.where(self.positives > 0, tops.mean(axis=1), np.nan)

    def disorder(self) -> Array:
        """Share of (positive, negative) pairs with the negative as high or higher; NaN without pairs."""
        return _ratio((self.positive * (self.seen - self.hits)).sum(axis=1), self.pairs)

    def auroc(self) -> Array:
        """Share of pairs in order, ties half: the mean of "negative not as high" and "positive as high or higher"."""
        negative = ~self.positive & (self.scores > -np.inf)
        return (1 - self.disorder() + _ratio((negative * self.hits).sum(axis=1), self.pairs)) / 2

    def best_cut(self, default: float) -> Array:
        below = np.zeros_like(self.scores)  # the next score down; 0, the least probability, after the last
        below[:, :-1] = np.maximum(self.scores[:, 1:], 0)
        gap = self.scores > below  # a threshold fits here; false within a tied group, at score 0, at unknowns
        f1 = np.where(gap, 2 * self.hits / np.maximum(self.seen + self.positives[:, None], 1), 0.0)
        best = f1.argmax(axis=1)[:, None]
        high, low = (np.take_along_axis(a, best, axis=1)[:, 0].astype(np.float64) for a in (self.scores, below))
        middle = (high + low) / 2
        cut = np.where(middle < high, middle, low)  # neighbouring floats have no middle
        return np.where(f1.max(axis=1) > 0, cut, default)


def _by_label(scores: Array, target: Array) -> _Ranking:
    return _Ranking.of(np.ascontiguousarray(scores.T), np.ascontiguousarray(target.T))


def _pooled(scores: Array, target: Array) -> _Ranking:
    return _Ranking.of(scores.reshape(1, -1), target.reshape(1, -1))


def _by_image(scores: Array, target: Array) -> dict[str, float]:
    images = _Ranking.of(scores, target)
    each = {
        "label_ranking_AP": np.where(images.positives > 0, images.average_precision(STANDARD), 1.0),
        "coverage_error": (images.seen * images.positive).max(axis=1),  # place of the lowest positive
        "ranking_loss": np.nan_to_num(images.disorder()),
    }
    known = images.seen[:, -1] > 0
    return {name: _mean(np.where(known, values, np.nan))[0] for name, values in each.items()}


def _at_group_end(counts: Array, last: Array) -> Array:
    """Give every entry the count at the end of its group; counts never fall, so it is the least one to the right."""
    ends = np.where(last, counts, np.iinfo(counts.dtype).max)
    return np.asarray(np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1])


def _ratio(part: Array, whole: Array) -> Array:
    """``part / whole``, NaN where the whole is 0."""
    return np.asarray(part / np.where(whole == 0, np.nan, whole))


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
