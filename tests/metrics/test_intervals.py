"""Bootstrap intervals of mAP: against a loop over resampled rows, and whether they hold what they promise."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from msrn.errors import ConfigError, ShapeError
from msrn.metrics import intervals
from msrn.metrics.intervals import mean_ap_difference, mean_ap_interval

Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


def naive(scores: np.ndarray, target: np.ndarray) -> float:
    """mAP of rows as they stand, by scikit-learn, on the known entries of each label."""
    found = []
    for column, truth in zip(scores.T, target.T, strict=True):
        known = ~np.isnan(truth)
        if (truth[known] == 1).any():
            found.append(average_precision_score(truth[known], column[known]))
    return float(np.mean(found)) if found else float("nan")


def ends(loop: list[float], value: float, level: float = 0.95) -> tuple[float, float]:
    """Efron's bias-corrected percentiles, by SciPy."""
    below = (np.sum(np.less(loop, value)) + 0.5 * np.sum(np.equal(loop, value))) / len(loop)
    shift = norm.ppf(below)
    return tuple(np.percentile(loop, 100 * norm.cdf(2 * shift + norm.ppf([(1 - level) / 2, (1 + level) / 2]))))


def drawn_rows(images: int, resamples: int, seed: int) -> list[np.ndarray]:
    weights = np.concatenate(list(intervals._blocks(images, resamples, seed)), axis=1)
    return [np.repeat(np.arange(images), weights[:, one]) for one in range(resamples)]


@pytest.mark.parametrize(("seed", "unknown"), [(0, 0.0), (1, 0.3)])
def test_the_interval_is_that_of_a_loop_over_resampled_rows(draw: Draw, seed: int, unknown: float) -> None:
    scores, target = draw(seed, unknown=unknown)  # one decimal: most scores tie
    loop = [naive(scores[rows], target[rows]) for rows in drawn_rows(len(scores), 50, seed=7)]
    found = mean_ap_interval(scores, target, resamples=50, seed=7)
    assert found.value == pytest.approx(naive(scores, target))
    assert (found.low, found.high) == pytest.approx(ends(loop, found.value))
    assert (found.level, found.resamples, found.seed) == (0.95, 50, 7)
    narrow = mean_ap_interval(scores, target, resamples=50, seed=7, level=0.5)
    assert (narrow.low, narrow.high) == pytest.approx(ends(loop, found.value, 0.5))


def test_the_difference_is_paired_over_the_same_rows(draw: Draw) -> None:
    scores, target = draw(0, unknown=0.1)
    others = draw(5)[0]
    loop = [
        naive(scores[rows], target[rows]) - naive(others[rows], target[rows])
        for rows in drawn_rows(len(scores), 50, seed=3)
    ]
    found = mean_ap_difference(scores, others, target, resamples=50, seed=3)
    assert found.value == pytest.approx(naive(scores, target) - naive(others, target))
    assert (found.low, found.high) == pytest.approx(ends(loop, found.value))
    other_way = mean_ap_difference(others, scores, target, resamples=50, seed=3)
    assert (other_way.low, other_way.high) == pytest.approx((-found.high, -found.low), abs=1e-3)


def test_several_trainings_are_averaged_within_each_resample(draw: Draw) -> None:
    (scores, target), others = draw(0, unknown=0.1), draw(5)[0]
    more = np.stack([scores, scores[::-1], others])
    found = mean_ap_difference(more, others, target, resamples=64, seed=4)
    single = [mean_ap_difference(each, others, target, resamples=64, seed=4) for each in more]
    assert found.value == pytest.approx(np.mean([each.value for each in single]), abs=1e-12)
    same = mean_ap_difference(np.stack([scores, scores]), others, target, resamples=64, seed=4)
    assert same.to_json() == pytest.approx(single[0].to_json())
    truth = [naive(rows, target) - naive(others, target) for rows in more]
    assert found.value == pytest.approx(np.mean(truth), abs=1e-12)
    with pytest.raises(ShapeError, match="at least one set of scores"):
        mean_ap_difference(np.empty((0, *scores.shape)), others, target)


def test_an_image_is_drawn_n_times_in_all_and_the_draws_of_a_seed_begin_alike() -> None:
    few, many = (np.concatenate(list(intervals._blocks(37, number, 1)), axis=1) for number in (64, 200))
    assert (few.sum(axis=0, dtype=int) == 37).all()
    assert np.array_equal(few, many[:, :64])
    assert many.std() == pytest.approx(np.sqrt(36 / 37), rel=0.05)  # of a multinomial count


def pair(generator: np.random.Generator, *, apart: float = 0.0, images: int = 300) -> tuple[np.ndarray, ...]:
    """Two noisy sets of scores of the same images; the first follows the truth by ``apart`` more."""
    target = (generator.random((images, 6)) < 0.2).astype(np.float32)
    shared = target + 1.2 * generator.standard_normal(target.shape)
    one, other = (shared + 0.7 * generator.standard_normal(target.shape) for _ in range(2))
    return one + apart * target, other, target


def test_of_two_sets_that_differ_by_noise_the_interval_holds_zero_at_its_level() -> None:
    generator = np.random.default_rng(0)
    found = [mean_ap_difference(*pair(generator), resamples=500, seed=each) for each in range(100)]
    held = sum(each.low <= 0 <= each.high for each in found)
    assert held >= 93
    assert held < 100 or all(each.high - each.low > 0.02 for each in found)
    assert 0.3 < np.mean([each.value > 0 for each in found]) < 0.7


def test_a_real_difference_is_found_where_unpaired_intervals_still_overlap() -> None:
    one, other, target = pair(np.random.default_rng(1), apart=0.3)
    difference = mean_ap_difference(one, other, target, resamples=500)
    alone = [mean_ap_interval(scores, target, resamples=500) for scores in (one, other)]
    assert difference.low > 0
    assert alone[0].low < alone[1].high
    assert difference.high - difference.low < alone[0].high - alone[0].low


def test_the_interval_holds_the_figure_of_the_population_more_often_than_plain_percentiles() -> None:
    """On few images AP is too high, and higher on a resample. Of the nominal 95 %, the correction leaves about 90."""
    generator = np.random.default_rng(2)
    scores, _, target = pair(generator, images=40_000)
    whole, held, held_plainly = naive(scores, target), 0, 0
    for seed in range(100):
        rows = generator.choice(len(scores), 400, replace=False)
        some, truth = scores[rows], target[rows]
        found = mean_ap_interval(some, truth, resamples=512, seed=seed)
        held += found.low <= whole <= found.high
        rankings = intervals._rankings(some, truth)
        resampled = [intervals._mean_aps(rankings, block) for block in intervals._blocks(400, 512, seed)]
        low, high = np.quantile(np.concatenate(resampled), [0.025, 0.975])
        held_plainly += low <= whole <= high
    assert held >= 85
    assert held_plainly < held


def test_large_splits_get_fewer_resamples_and_say_so() -> None:
    assert intervals._checked(np.zeros((40_137, 80)), 0.95, None) == 3_114
    assert intervals._checked(np.zeros((5_000, 20)), 0.95, None) == 10_000
    assert intervals._checked(np.zeros((40_137, 2_000)), 0.95, None) == 1_000


def test_without_a_positive_there_is_neither_figure_nor_interval() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mean_ap_interval(np.ones((3, 2)), np.zeros((3, 2)), resamples=10)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_resamples_without_a_positive_are_left_out() -> None:
    target = np.zeros((3, 1))
    target[0] = 1
    found = mean_ap_interval([[0.9], [0.5], [0.1]], target, resamples=50)
    assert (found.low, found.high) == (1, 1)


def test_settings_out_of_bounds_and_other_sizes_are_refused() -> None:
    scores, target = np.zeros((3, 2)), np.ones((3, 2))
    with pytest.raises(ConfigError, match="level between 0 and 1, got 95"):
        mean_ap_interval(scores, target, level=95)
    with pytest.raises(ConfigError, match="at least 1 resample, got 0"):
        mean_ap_interval(scores, target, resamples=0)
    with pytest.raises(ShapeError):
        mean_ap_difference(scores, scores[:2], target)
