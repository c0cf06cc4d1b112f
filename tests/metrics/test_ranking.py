"""Order-based measures against a loop over the curve, by hand, and under a change of scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msrn import metrics

Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


def loop_average_precision(scores: np.ndarray, target: np.ndarray, kind: str) -> float:
    """One label, the devkits' way: the curve point by point, one point per distinct score."""
    scores, target = scores[~np.isnan(target)], target[~np.isnan(target)]
    recalls, precisions = [0.0], [0.0]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= threshold
        hits = float((target[kept] == 1).sum())
        recalls.append(hits / float((target == 1).sum()))
        precisions.append(hits / float(kept.sum()))
    if kind == "eleven_point":
        best = [max(p for r, p in zip(recalls, precisions, strict=True) if r >= t / 10 - 1e-12) for t in range(11)]
        return sum(best) / 11
    area = 0.0
    for at in range(1, len(recalls)):
        area += (recalls[at] - recalls[at - 1]) * max(precisions[at:])
    return area


@pytest.mark.parametrize("kind", ["all_point", "eleven_point"])
@pytest.mark.parametrize("seed", range(5))
def test_interpolated_ap_equals_the_loop_over_the_curve(draw: Draw, kind: Any, seed: int) -> None:
    scores, target = draw(seed, decimals=1 + seed % 3, unknown=0.1 * (seed % 2))
    expected = [loop_average_precision(scores[:, at], target[:, at], kind) for at in range(target.shape[1])]
    assert metrics.average_precision(scores, target, kind=kind) == pytest.approx(expected)


def test_the_three_kinds_of_ap_by_hand() -> None:
    scores, target = [[0.9], [0.8], [0.7], [0.6]], [[0], [1], [1], [0]]  # precision 0, 1/2, 2/3, 2/4
    found = [metrics.average_precision(scores, target, kind=kind)[0] for kind in metrics.AP_KINDS]  # type: ignore[arg-type]
    assert found == pytest.approx([(1 / 2 + 2 / 3) / 2, 2 / 3, 2 / 3])


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(list(metrics.AP_KINDS)))
@settings(max_examples=100, deadline=None)
def test_a_rising_change_of_scores_leaves_every_ranking_measure(grid: Draw, seed: int, kind: Any) -> None:
    scores, target = grid(seed)
    bent = np.tanh(3 * scores) - 7
    same = {"nan_ok": True}
    assert metrics.average_precision(bent, target, kind=kind) == pytest.approx(
        metrics.average_precision(scores, target, kind=kind), **same
    )
    for measure in (metrics.auroc, metrics.coverage_error, metrics.ranking_loss, metrics.micro_average_precision):
        assert measure(bent, target) == pytest.approx(measure(scores, target), **same)
