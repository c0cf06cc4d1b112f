"""Plots of a comparison: difference by label, and accuracy against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msrn.compare.table import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_cost", "draw_differences", "draw_intervals"]

MAX_LABELS = 60
"""Labels drawn: those on which the variants differ most."""
COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#666666")


def draw_intervals(comparison: Comparison) -> Figure:
    """Difference of each variant's mAP from the reference, in points, with its interval; the best on top."""
    from matplotlib.figure import Figure

    rows = [row for row in comparison.rows if row.difference is not None][::-1]
    figure = Figure(figsize=(7, 1.2 + 0.32 * len(rows)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="#888888", linewidth=1)
    for place, row in enumerate(rows):
        assert row.difference is not None
        low, high = 100 * row.difference.low, 100 * row.difference.high
        clear = low > 0 or high < 0
        axis.plot([low, high], [place, place], color=COLOURS[0], linewidth=2, alpha=1 if clear else 0.45)
        axis.plot(
            100 * row.difference.value, place, "o", color=COLOURS[0], markerfacecolor=COLOURS[0] if clear else "w"
        )
    axis.set_yticks(range(len(rows)), [row.variant for row in rows])
    axis.set_xlabel(f"mAP less that of {comparison.reference}, points")
    axis.grid(axis="x", alpha=0.3)
    return figure


def draw_differences(comparison: Comparison) -> Figure:
    """AP of each label less that of the reference, in points; labels sorted by the AP of the reference."""
    from matplotlib.figure import Figure

    base = next(row for row in comparison.rows if row.difference is None)
    others = [row for row in comparison.rows if row.difference is not None][: len(COLOURS)]
    labels = [
        column
        for column, value in enumerate(base.per_label_ap)
        if value == value and all(row.per_label_ap[column] == row.per_label_ap[column] for row in others)
    ]
    widest = {
        column: max((abs(row.per_label_ap[column] - base.per_label_ap[column]) for row in others), default=0.0)
        for column in labels
    }
    labels = sorted(sorted(labels, key=lambda column: -widest[column])[:MAX_LABELS], key=lambda c: base.per_label_ap[c])
    figure = Figure(figsize=(7, 1.4 + 0.19 * len(labels)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="#888888", linewidth=1)
    for row, colour in zip(others, COLOURS, strict=False):
        changes = [100 * (row.per_label_ap[column] - base.per_label_ap[column]) for column in labels]
        axis.plot(changes, range(len(labels)), "o", color=colour, markersize=4, alpha=0.85, label=row.variant)
    axis.set_yticks(range(len(labels)), [comparison.labels[column] for column in labels], fontsize=8)
    axis.set_xlabel(f"AP less that of {comparison.reference}, points")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8, loc="best")
    return figure


def draw_cost(comparison: Comparison) -> Figure:
    """mAP against minutes of training, with the spread over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for number, row in enumerate(comparison.rows):
        colour = COLOURS[number % len(COLOURS)]
        spread = 100 * row.spread if len(row.seeds) > 1 else None
        minutes = max(row.minutes, 0.01)  # what the log can tell
        axis.errorbar(minutes, 100 * row.mean_ap, yerr=spread, fmt="o", color=colour, capsize=3)
        axis.annotate(row.variant, (minutes, 100 * row.mean_ap), (6, 4), textcoords="offset points", fontsize=8)
    axis.set_xscale("log")
    axis.set_xlabel("minutes of training")
    axis.set_ylabel("mAP, %")
    axis.grid(alpha=0.3, which="both")
    return figure
