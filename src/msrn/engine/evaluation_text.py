"""Print an evaluation as text: the main figures and the table of labels, in per cent."""

from __future__ import annotations

import math

from msrn.engine.evaluation import Evaluation

__all__ = ["evaluation_text"]


def evaluation_text(evaluation: Evaluation) -> str:
    """The main figures and one row per label, for a terminal."""
    metrics, data = evaluation.metrics, evaluation.data
    lines = [f"{metrics.images:,} images, {data.source}; difficult objects: {data.difficult}"]
    if data.unknown:
        share = _percent(data.unknown / (metrics.images * metrics.labels))
        line = f"{data.unknown:,} unknown entries ({share} %), left out of every figure"
        left_out = metrics.left_out.images
        lines.append(line + (f"; images without a known label: {left_out:,}" if left_out else ""))
    lines.append(_mean_ap(evaluation))
    for title, averages in (("all", metrics.all), (f"top {metrics.protocol.k} over threshold", metrics.top_k)):
        figures = averages.to_json()
        del figures["macro_F1"]
        lines.append(f"{title + ':':22}" + "   ".join(f"{name} {_percent(value)}" for name, value in figures.items()))
    if calibration := evaluation.calibration:
        error, brier = _percent(calibration.ece_equal_mass), _percent(calibration.brier)
        lines.append(f"calibration error {error}   Brier score {brier}")
    if one_sided := [row.label for row in metrics.per_label if row.positives and not row.negatives]:
        lines.append(f"without a known negative, so AP is 100 whatever the scores: {', '.join(one_sided)}")
    return "\n".join([*lines, "", *_label_table(evaluation)])


def _mean_ap(evaluation: Evaluation) -> str:
    line, interval = f"mAP {_percent(evaluation.metrics.mean_ap)}", evaluation.mean_ap_interval
    if interval and not math.isnan(interval.low):
        ends = f"{_percent(interval.low)} to {_percent(interval.high)}"
        line += f"   ({100 * interval.level:g} % interval {ends}, by {interval.resamples:,} resamples of the images)"
    left_out = evaluation.metrics.left_out.mean_ap
    return line + (f"   ({left_out} labels without a positive left out)" if left_out else "")


def _label_table(evaluation: Evaluation) -> list[str]:
    rows = evaluation.metrics.per_label
    width = max(len(row.label) for row in rows)
    with_unknown = any(row.unknown for row in rows)
    lines = [f"{'label':{width}}     AP      P      R     F1   threshold   positives" + "   unknown" * with_unknown]
    for row in rows:
        figures = " ".join(f"{_percent(value):>6}" for value in (row.ap, row.precision, row.recall, row.f1))
        line = f"{row.label:{width}} {figures}   {row.threshold:9.2f}   {row.positives:9,}"
        lines.append(line + (f"   {row.unknown:7,}" if with_unknown else ""))
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f}"
