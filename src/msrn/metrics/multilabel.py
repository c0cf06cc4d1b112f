"""Measure multi-label scores: every measure by itself, and ``multilabel_metrics`` for all of them at once.

Hand-written although scikit-learn exists: scikit-learn takes no unknown targets, sets the AP of a label without a
positive to 0, and has no CF1. The tests compare with it wherever both are defined.

Everywhere ``scores`` and ``target`` are ``(n, L)``, n images by L labels; a target is 1, 0 or NaN (unknown).

- **Unknown entries** are left out of every sum, row and column. A label is measured on the images where it is known, an
  image on its known labels; images without a known label are left out and counted. The k best labels are chosen out of
  all labels, because a prediction is made without the truth. If entries are unknown at random, precision and recall are
  then on average those of the complete target; choosing out of the known labels would raise recall and lower precision.
- **Ties.** Equal scores are one threshold, as in scikit-learn: all entries of a tied group have the counts at the end
  of the group, so no result depends on the order of images or labels.
- **Labels without a positive** have no AP, AUROC, recall or F1 (NaN). They are left out of every class average (mAP,
  macro AUROC, CP, CR, CF1, macro F1) and counted; false positives on them still lower OP and OF1. Labels without a
  negative have no AUROC; their AP and precision are 1 whatever the scores, as in scikit-learn, and their row shows 0
  negatives.
- **Predicted** means score > threshold. A label that is never predicted has precision 0. CF1 is the harmonic mean of
  mean precision and mean recall, as papers print it; the mean of per-class F1 is ``macro_F1``.
- **Images.** As in scikit-learn, an image without a positive counts as label ranking AP 1, coverage 0, ranking loss 0,
  and a tie between a positive and a negative is a ranking error.

Every function raises ShapeError or DataError, with row and column, when sizes differ, a score is not finite (or not a
probability where one is needed) or a target is not 1, 0 or NaN; ConfigError for a setting out of bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from msrn.errors import ConfigError, ShapeError
from msrn.metrics.inputs import Array, check_decisions, check_pair
from msrn.metrics.ranking import UNINTERPOLATED, ApKind, Ranking, ratio
from msrn.metrics.results import LabelMetrics, LeftOut, MetricsProtocol, MultilabelMetrics, PrecisionRecallAverages
from msrn.metrics.thresholds import predict, predict_top_k

__all__ = [
    "PrecisionRecall",
    "auroc",
    "average_precision",
    "coverage_error",
    "hamming_loss",
    "label_ranking_average_precision",
    "mean_average_precision",
    "micro_average_precision",
    "multilabel_metrics",
    "precision_recall",
    "ranking_loss",
    "subset_accuracy",
]


def average_precision(scores: ArrayLike, target: ArrayLike, *, kind: ApKind = UNINTERPOLATED) -> Array:
    """AP of each label, ``(L,)``, NaN where the label has no positive; ``AP_KINDS`` defines the kinds.

    Example:
        >>> average_precision([[0.9], [0.8], [0.3]], [[1], [0], [1]]).round(3).tolist()
        [0.833]
    """
    return Ranking.by_label(*check_pair(scores, target)).average_precision(kind)


def mean_average_precision(scores: ArrayLike, target: ArrayLike, *, kind: ApKind = UNINTERPOLATED) -> tuple[float, int]:
    """mAP over the labels that have a positive, and how many labels were left out."""
    return _mean(average_precision(scores, target, kind=kind))


def micro_average_precision(scores: ArrayLike, target: ArrayLike, *, kind: ApKind = UNINTERPOLATED) -> float:
    """AP of all (image, label) entries ranked together."""
    return float(Ranking.pooled(*check_pair(scores, target)).average_precision(kind)[0])


def auroc(scores: ArrayLike, target: ArrayLike) -> Array:
    """Area under the ROC curve of each label, ``(L,)``; NaN without a positive or without a negative."""
    return Ranking.by_label(*check_pair(scores, target)).auroc()


def label_ranking_average_precision(scores: ArrayLike, target: ArrayLike) -> float:
    """Mean over images of the AP of the image's labels; 1 for an image without a positive."""
    return _ImageRanking(*check_pair(scores, target)).average_precision()


def coverage_error(scores: ArrayLike, target: ArrayLike) -> float:
    """Mean over images of how many labels, best first, include all positives of the image."""
    return _ImageRanking(*check_pair(scores, target)).coverage_error()


def ranking_loss(scores: ArrayLike, target: ArrayLike) -> float:
    """Mean over images of the share of (positive, negative) pairs in the wrong order; ties are wrong."""
    return _ImageRanking(*check_pair(scores, target)).ranking_loss()


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision, recall and F1 of each label ``(L,)``, and their averages; all in [0, 1]."""

    precision: Array
    recall: Array
    f1: Array
    averages: PrecisionRecallAverages
    left_out: int  # labels without a positive, absent from the averages over classes


def precision_recall(predicted: ArrayLike, target: ArrayLike) -> PrecisionRecall:
    """Precision, recall and F1 of decisions: ``(n, L)`` of bool, from ``predict`` or ``predict_top_k``."""
    chosen, known, positive = check_decisions(predicted, target)
    right, claimed, actual = (each.sum(axis=0) for each in (chosen & positive, chosen & known, positive))  # (L,)
    precision = np.nan_to_num(ratio(right, claimed))  # never predicted: 0
    recall = ratio(right, actual)
    f1 = np.where(actual > 0, ratio(2 * right, claimed + actual), np.nan)
    (cr, left_out), (macro_f1, _) = _mean(recall), _mean(f1)
    cp, _ = _mean(np.where(actual > 0, precision, np.nan))
    op, overall = float(np.nan_to_num(ratio(right.sum(), claimed.sum()))), float(ratio(right.sum(), actual.sum()))
    averages = PrecisionRecallAverages(
        class_precision=cp,
        class_recall=cr,
        class_f1=_harmonic(cp, cr),
        overall_precision=op,
        overall_recall=overall,
        overall_f1=_harmonic(op, overall),
        macro_f1=macro_f1,
    )
    return PrecisionRecall(precision, recall, f1, averages, left_out)


def subset_accuracy(predicted: ArrayLike, target: ArrayLike) -> float:
    """Share of images on which the decision is right for every known label."""
    chosen, known, positive = check_decisions(predicted, target)
    right = ((chosen == positive) | ~known).all(axis=1)
    return _mean(np.where(known.any(axis=1), right, np.nan))[0]


def hamming_loss(predicted: ArrayLike, target: ArrayLike) -> float:
    """Share of known (image, label) entries on which the decision is wrong."""
    chosen, known, positive = check_decisions(predicted, target)
    return float(ratio(((chosen != positive) & known).sum(), known.sum()))


def multilabel_metrics(
    scores: ArrayLike,
    target: ArrayLike,
    *,
    labels: Sequence[str],
    target_counts: ArrayLike | None = None,
    thresholds: ArrayLike = 0.5,
    top_k: int = 3,
    ap_kind: ApKind = UNINTERPOLATED,
) -> MultilabelMetrics:
    """All measures at once, with the protocol they follow.

    Args:
        scores: ``(n, L)`` probabilities.
        target: ``(n, L)`` in {1, 0, NaN}, for the measures that rank.
        labels: L names, in the order of the columns.
        target_counts: another target for the measures of decisions (precision, recall, F1, subset accuracy, Hamming
            loss). MSRN on VOC: difficult objects are NaN in ``target`` and 0 here.
        thresholds: one, or one per label, in [0, 1].
        top_k: how many labels of an image ``top_k`` and ``top_k_always`` keep.
        ap_kind: a key of ``AP_KINDS``.

    Example:
        >>> found = multilabel_metrics([[0.9, 0.2], [0.4, 0.8]], [[1, 0], [0, 1]], labels=["sea", "boat"])
        >>> found.mean_ap, found.all.class_f1, found.per_label[1].label
        (1.0, 1.0, 'boat')
    """
    values, ranked = check_pair(scores, target, probabilities=True)
    counted = ranked if target_counts is None else check_pair(values, target_counts)[1]
    limits = np.asarray(thresholds, dtype=np.float64)
    if len(labels) != values.shape[1]:
        raise ShapeError(f"expected {values.shape[1]} label names, one per column, got {len(labels)}", where="labels")
    if not ((limits >= 0) & (limits <= 1)).all():
        raise ConfigError(f"expected thresholds from 0 to 1, got {limits.tolist()}", where="thresholds")
    chosen, best = predict(values, limits), predict_top_k(values, top_k)
    columns, images, unknown = Ranking.by_label(values, ranked), _ImageRanking(values, ranked), np.isnan(ranked)
    ap, area = columns.average_precision(ap_kind), columns.auroc()
    (mean_ap, no_ap), (mean_area, no_area) = _mean(ap), _mean(area)
    decided, in_top_k, always_top_k = (precision_recall(each, counted) for each in (chosen, best & chosen, best))
    rows = (  # one array (L,) per field of LabelMetrics
        np.array(labels, dtype=object),
        ap,
        area,
        decided.precision,
        decided.recall,
        decided.f1,
        np.broadcast_to(limits, ap.shape),
        (ranked == 1).sum(axis=0),
        (ranked == 0).sum(axis=0),
        unknown.sum(axis=0),
    )
    return MultilabelMetrics(
        protocol=MetricsProtocol(
            ap=ap_kind,
            entries="unknown ones left out of every label and image; equal scores are one threshold",
            thresholds="one per label" if limits.ndim else float(limits),
            predicted="score > threshold; a label never predicted has precision 0",
            class_averages="over labels with a positive; CF1 is the harmonic mean of CP and CR",
            counts_target="the target of AP" if target_counts is None else "separate from the target of AP",
            k=top_k,
            top_k="the k best of all labels that also pass the threshold",
            top_k_always="always the k best of all labels",
        ),
        images=len(values),
        labels=len(labels),
        left_out=LeftOut(
            mean_ap=no_ap,
            auroc=no_area,
            class_averages=decided.left_out,
            images=int(unknown.all(axis=1).sum()),
            entries=int(unknown.sum()),
        ),
        mean_ap=mean_ap,
        micro_ap=float(Ranking.pooled(values, ranked).average_precision(ap_kind)[0]),
        auroc=mean_area,
        label_ranking_ap=images.average_precision(),
        coverage_error=images.coverage_error(),
        ranking_loss=images.ranking_loss(),
        subset_accuracy=subset_accuracy(chosen, counted),
        hamming_loss=hamming_loss(chosen, counted),
        all=decided.averages,
        top_k=in_top_k.averages,
        top_k_always=always_top_k.averages,
        per_label=tuple(LabelMetrics(*row) for row in zip(*(column.tolist() for column in rows), strict=True)),
    )


class _ImageRanking:
    """The labels of each image, ranked; the measures are means over the images with a known label."""

    def __init__(self, scores: Array, target: Array) -> None:
        self.ranking = Ranking.of(scores, target)
        self.known = self.ranking.seen[:, -1] > 0

    def average_precision(self) -> float:
        return self._mean(np.where(self.ranking.positives > 0, self.ranking.average_precision(UNINTERPOLATED), 1.0))

    def coverage_error(self) -> float:
        return self._mean(self.ranking.coverage())

    def ranking_loss(self) -> float:
        return self._mean(np.nan_to_num(self.ranking.disorder()))

    def _mean(self, values: Array) -> float:
        return _mean(np.where(self.known, values, np.nan))[0]


def _mean(values: Array) -> tuple[float, int]:
    """Mean over the defined values (NaN if there is none), and how many are undefined."""
    defined = values[~np.isnan(values)]
    return (float(defined.mean()) if defined.size else float("nan")), values.size - defined.size


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b != 0 else 0.0
