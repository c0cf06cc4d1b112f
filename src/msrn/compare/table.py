"""The comparison of the variants of a grid: means over seeds, and paired intervals over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from msrn.compare.cell import CellResult, read_scores, read_target
from msrn.compare.run import Failure
from msrn.errors import DataError
from msrn.metrics.intervals import Interval, mean_ap_difference
from msrn.metrics.results import Measure

__all__ = ["Comparison", "Row", "compare_results", "comparison_markdown"]

FORMAT_VERSION = 1
COLUMNS = (
    *("variant", "mAP, %", "spread", "difference", "95 % interval", "CF1, %", "OF1, %"),
    *("minutes", "memory, GiB", "head, M parameters"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One variant, over its seeds. Measures are fractions in [0, 1]."""

    variant: str
    choices: dict[str, str]
    seeds: tuple[int, ...]
    mean_aps: tuple[Measure, ...]
    """Of each seed."""
    mean_ap: Measure
    spread: Measure
    """Standard deviation of the mAP over seeds; NaN for one seed."""
    difference: Interval | None
    """mAP less that of the reference, both averaged over their seeds; None for the reference itself."""
    class_f1: Measure
    overall_f1: Measure
    minutes: float
    peak_memory_bytes: int
    head_parameters: int
    per_label_ap: tuple[Measure, ...]


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A run that ended with an error."""

    variant: str
    seed: int
    message: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All variants on the same images."""

    split: str
    images: int
    split_digest: str
    labels: tuple[str, ...]
    reference: str
    rows: tuple[Row, ...]
    failed: tuple[FailedRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; an undefined measure is ``None``."""
        return {"format_version": FORMAT_VERSION, **_COMPARISON.dump_python(self, mode="json")}


_COMPARISON = TypeAdapter(Comparison)


def compare_results(
    results: Sequence[tuple[CellResult, Path]],
    failures: Sequence[Failure],
    *,
    reference: str,
    resamples: int | None = None,
) -> Comparison:
    """Join the seeds of each variant and compare it with the reference, image by image.

    Args:
        results: of finished cells, with the folders that hold their scores.
        failures: of the others.
        reference: the variant that the others are compared with.
        resamples: of the bootstrap; None: as ``mean_ap_difference`` chooses.

    Raises:
        DataError: there is no result, or the cells were not evaluated on the same images and labels.
    """
    if not results:
        first_failure = f": {failures[0].message}" if failures else ""
        raise DataError(f"no run of the comparison was finished{first_failure}", hint="see the log.txt of its cells")
    first = results[0][0]
    for result, folder in results:
        if (result.split_digest, result.labels) != (first.split_digest, first.labels):
            raise DataError(
                f"expected all runs to be evaluated on the same images and labels, {result.variant} was on others",
                str(folder),
                "remove the folder of the run, so that it is done again",
            )
    variants: dict[str, list[tuple[CellResult, Path]]] = {}
    for result, folder in results:
        variants.setdefault(result.variant, []).append((result, folder))
    target = read_target(results[0][1])
    scores = {name: np.stack([read_scores(folder) for _, folder in runs]) for name, runs in variants.items()}
    base = scores.get(reference)
    rows = [
        _row(
            [result for result, _ in runs],
            None
            if base is None or name == reference
            else mean_ap_difference(scores[name], base, target, resamples=resamples),
        )
        for name, runs in variants.items()
    ]
    rows.sort(key=lambda row: -row.mean_ap)
    failed = tuple(FailedRow(each.variant, each.seed, each.message) for each in failures)
    return Comparison(first.split, first.images, first.split_digest, first.labels, reference, tuple(rows), failed)


def _row(runs: Sequence[CellResult], difference: Interval | None) -> Row:
    maps = tuple(run.mean_ap for run in runs)
    return Row(
        variant=runs[0].variant,
        choices=dict(runs[0].choices),
        seeds=tuple(run.seed for run in runs),
        mean_aps=maps,
        mean_ap=fmean(maps),
        spread=stdev(maps) if len(maps) > 1 else float("nan"),
        difference=difference,
        class_f1=fmean(run.class_f1 for run in runs),
        overall_f1=fmean(run.overall_f1 for run in runs),
        minutes=fmean(run.minutes for run in runs),
        peak_memory_bytes=max(run.peak_memory_bytes for run in runs),
        head_parameters=runs[0].head_parameters,
        per_label_ap=tuple(np.mean([run.per_label_ap for run in runs], axis=0).tolist()),
    )


def comparison_markdown(comparison: Comparison) -> str:
    """The table as Markdown, best first."""
    lines = [
        f"{comparison.images:,} images of {comparison.split} (digest `{comparison.split_digest[:12]}`), "
        f"{len(comparison.labels)} labels. Differences are against *{comparison.reference}*: mAP averaged over seeds, "
        "95 % interval of the paired bootstrap over images.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for row in comparison.rows:
        spread = f"± {100 * row.spread:.2f}" if len(row.seeds) > 1 else "one seed"
        change, interval = (
            ("reference", "")
            if row.difference is None
            else (
                f"{100 * row.difference.value:+.2f}",
                f"{100 * row.difference.low:+.2f} to {100 * row.difference.high:+.2f}",
            )
        )
        lines.append(
            f"| {_cell(row.variant)} | {100 * row.mean_ap:.2f} | {spread} | {change} | {interval} "
            f"| {100 * row.class_f1:.2f} | {100 * row.overall_f1:.2f} | {row.minutes:.1f} "
            f"| {row.peak_memory_bytes / 2**30:.2f} | {row.head_parameters / 1e6:.2f} |"
        )
    if comparison.failed:
        lines += ["", "Failed runs:", ""]
        lines += [f"- {_cell(each.variant)}, seed {each.seed}: {each.message}" for each in comparison.failed]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
