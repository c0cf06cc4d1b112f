"""Decisions by threshold and by rank, and the choice of thresholds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from msrn import metrics
from msrn.config import ThresholdSettings
from msrn.metrics import TunedThreshold, best_thresholds, tune_thresholds

Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_top_k_modern_needs_the_threshold_and_always_does_not() -> None:
    scores = np.array([[0.9, 0.6, 0.8, 0.7], [0.1, 0.6, 0.2, 0.1], [0.7, 0.7, 0.7, 0.7]])
    modern = metrics.predict_top_k(scores, 3, threshold=0.5).astype(int).tolist()
    always = metrics.predict_top_k(scores, 3).astype(int).tolist()
    assert modern == [[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 1, 0]]
    assert always == [[1, 0, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]]  # the earlier column wins a tie
    assert metrics.predict_top_k(scores, 9).all()


def test_predicted_means_above_the_threshold_and_thresholds_may_differ_by_label() -> None:
    scores = np.array([[0.5, 0.3], [0.51, 0.2]], dtype=np.float32)
    assert metrics.predict(scores, 0.5).tolist() == [[False, False], [True, False]]
    assert metrics.predict(scores, [0.4, 0.25]).tolist() == [[True, True], [True, False]]
    assert metrics.predict(scores, float(scores[0, 1])).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_best_thresholds_reach_the_best_f1_of_any_threshold(draw: Draw, seed: int, dtype: type) -> None:
    scores, target = draw(seed, n=30, decimals=1 + seed % 3, unknown=0.2)
    scores = scores.astype(dtype)
    thresholds = metrics.best_thresholds(scores, target)
    found = metrics.precision_recall(metrics.predict(scores, thresholds), target).f1
    overall = metrics.best_global_threshold(scores, target)
    found_overall = metrics.precision_recall(metrics.predict(scores, overall), target).averages.overall_f1
    tried = [
        metrics.precision_recall(metrics.predict(scores, threshold), target)
        for threshold in np.unique([0, *scores.ravel()])
    ]
    assert found == pytest.approx(np.max([each.f1 for each in tried], axis=0))
    assert found_overall == pytest.approx(max(each.averages.overall_f1 for each in tried))
    assert ((thresholds >= 0) & (thresholds <= 1)).all()


def test_best_threshold_lies_midway_and_falls_back_without_positives() -> None:
    scores = np.array([[0.9, 0.9], [0.7, 0.2], [0.3, 0.1]])
    thresholds = metrics.best_thresholds(scores, np.array([[1, 0], [1, 0], [0, 0]]))
    assert thresholds == pytest.approx([0.5, 0.5])
    assert metrics.best_thresholds(scores, np.array([[1, 0], [1, 0], [0, 1]]), default=0.3)[1] == pytest.approx(0.05)
    assert metrics.best_thresholds(np.zeros((2, 1)), np.ones((2, 1)), default=0.3)[0] == 0.3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [1, 2])
def test_best_threshold_parts_neighbouring_floats(dtype: type, steps: int) -> None:
    low = np.array([0.5], dtype=dtype)
    for _ in range(steps - 1):
        low = np.nextafter(low, dtype(1))
    scores = np.stack([np.nextafter(low, dtype(1)), low])
    threshold = metrics.best_thresholds(scores, np.array([[1], [0]]))
    assert metrics.predict(scores, threshold).tolist() == [[True], [False]]


def test_a_threshold_needs_positives_to_rest_on() -> None:
    scores = np.linspace(0.01, 0.99, 100)[:, None]
    target = np.zeros((100, 1))
    target[[3, 5]] = 1
    assert best_thresholds(scores, target)[0] < 0.05  # best F1, by predicting nearly everything
    (tuned,) = tune_thresholds(scores, target)
    assert tuned == TunedThreshold(0.5, None, 2, False, reason="2 positives, fewer than 5")
    assert tune_thresholds(scores, target, ThresholdSettings(min_positives=2))[0].tuned == (
        f1_score(target[:, 0], scores[:, 0] > best_thresholds(scores, target)[0]) > 2 * 2 / 102
    )


def test_scores_that_say_nothing_get_no_threshold_of_their_own() -> None:
    """2 % prevalence, 100 images, scores drawn at random: few labels may be predicted for most images."""
    generator = np.random.default_rng(0)
    scores, target = generator.random((100, 300)), np.zeros((100, 300))
    for column in range(300):
        target[generator.choice(100, 2, replace=False), column] = 1
    before = (scores > best_thresholds(scores, target)).mean(axis=0)
    after = (scores > np.array([each.value for each in tune_thresholds(scores, target)])).mean(axis=0)
    assert (before > 0.5).mean() > 0.3
    assert (after > 0.65).mean() == 0


@given(seed=st.integers(0, 200))
@settings(deadline=None, max_examples=40)
def test_a_tuned_threshold_is_the_best_one_with_its_f1(seed: int) -> None:
    generator = np.random.default_rng(seed)
    target = (generator.random((60, 4)) < 0.4).astype(float)
    scores = (0.6 * generator.random((60, 4)) + 0.4 * target).round(3)
    target[generator.random((60, 4)) < 0.2] = np.nan
    for column, (best, tuned) in enumerate(
        zip(best_thresholds(scores, target), tune_thresholds(scores, target), strict=True)
    ):
        known = ~np.isnan(target[:, column])
        truth, values = target[known, column], scores[known, column]
        assert tuned.positives == truth.sum()
        if tuned.tuned:
            assert tuned.value == best
            assert tuned.f1 == pytest.approx(f1_score(truth, values > best))
            assert tuned.f1 > f1_score(truth, np.ones_like(truth))
        else:
            assert (tuned.value, tuned.f1) == (0.5, None)
