"""Measures of multi-label classification, in numpy: functions of scores and target, and the results as values."""

from msrn.metrics.intervals import Interval, mean_ap_difference, mean_ap_interval
from msrn.metrics.multilabel import (
    PrecisionRecall,
    auroc,
    average_precision,
    coverage_error,
    hamming_loss,
    label_ranking_average_precision,
    mean_average_precision,
    micro_average_precision,
    multilabel_metrics,
    precision_recall,
    ranking_loss,
    subset_accuracy,
)
from msrn.metrics.ranking import AP_KINDS, ApKind
from msrn.metrics.results import (
    LabelMetrics,
    LeftOut,
    MetricsProtocol,
    MultilabelMetrics,
    PrecisionRecallAverages,
)
from msrn.metrics.thresholds import (
    TunedThreshold,
    best_global_threshold,
    best_thresholds,
    misses_allowed,
    predict,
    predict_top_k,
    tune_thresholds,
)

__all__ = [
    "AP_KINDS",
    "ApKind",
    "Interval",
    "LabelMetrics",
    "LeftOut",
    "MetricsProtocol",
    "MultilabelMetrics",
    "PrecisionRecall",
    "PrecisionRecallAverages",
    "TunedThreshold",
    "auroc",
    "average_precision",
    "best_global_threshold",
    "best_thresholds",
    "coverage_error",
    "hamming_loss",
    "label_ranking_average_precision",
    "mean_ap_difference",
    "mean_ap_interval",
    "mean_average_precision",
    "micro_average_precision",
    "misses_allowed",
    "multilabel_metrics",
    "precision_recall",
    "predict",
    "predict_top_k",
    "ranking_loss",
    "subset_accuracy",
    "tune_thresholds",
]
