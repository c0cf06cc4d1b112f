"""Calibration: fits against SciPy and scikit-learn, errors against loops, and what must not change."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from msrn.errors import ConfigError, DataError
from msrn.metrics import (
    average_precision,
    brier_score,
    calibration_error,
    calibration_measures,
    fit_platt,
    fit_temperature,
    reliability_curve,
)
from msrn.metrics import calibration as module

NAN = float("nan")


def drawn(
    seed: int = 0, images: int = 400, labels: int = 4, *, scale: float = 2.5, offset: float = -0.7, unknown: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a network that is ``scale`` times too sure and off by ``offset``, and their target."""
    generator = np.random.default_rng(seed)
    true = 1.5 * generator.standard_normal((images, labels)) - 1
    target = (generator.random(true.shape) < 1 / (1 + np.exp(-true))).astype(np.float32)
    target[generator.random(true.shape) < unknown] = NAN
    return (scale * true + offset).astype(np.float32), target


@pytest.mark.parametrize(("seed", "unknown"), [(0, 0.0), (1, 0.3)])
def test_the_temperature_is_that_of_scipy_and_of_a_regression_without_intercept(seed: int, unknown: float) -> None:
    logits, target = drawn(seed, unknown=unknown)
    known = ~np.isnan(target)
    x, t = logits[known].astype(float), target[known]
    found = fit_temperature(logits, target)
    loss = minimize_scalar(
        lambda s: np.mean(np.logaddexp(0, s * x) - t * s * x), bounds=(0.05, 20), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    assert found == pytest.approx(loss.x, rel=1e-5)
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(x[:, None], t)
    assert found == pytest.approx(regression.coef_[0, 0], rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_platt_is_that_of_scipy_on_smoothed_targets(seed: int) -> None:
    logits, target = drawn(seed, unknown=0.2)
    for column, found in enumerate(fit_platt(logits, target)):
        known = ~np.isnan(target[:, column])
        x, t = logits[known, column].astype(float), target[known, column]
        above, below = t.sum(), (1 - t).sum()
        smooth = np.where(t == 1, (above + 1) / (above + 2), 1 / (below + 2))
        best = minimize(
            lambda w, x=x, t=smooth: np.sum(np.logaddexp(0, w[0] * x + w[1]) - t * (w[0] * x + w[1])),
            [1.0, 0.0], method="BFGS", options={"gtol": 1e-8},
        )  # fmt: skip
        assert (found.scale, found.offset) == pytest.approx(tuple(best.x), rel=1e-4, abs=1e-4)
        assert found.method == "platt"


def test_fits_undo_what_made_the_logits_wrong() -> None:
    logits, target = drawn(images=40_000, scale=2.5, offset=0.0)
    assert fit_temperature(logits, target) == pytest.approx(1 / 2.5, rel=0.03)
    logits, target = drawn(images=40_000)
    for found in fit_platt(logits, target):
        assert (found.scale, found.offset) == pytest.approx((1 / 2.5, 0.7 / 2.5), abs=0.05)


def test_labels_without_enough_images_or_order_get_the_temperature_and_say_why() -> None:
    logits, target = drawn(labels=4)
    target[:, 0] = 0
    target[:5, 0] = 1
    target[:, 1] = (logits[:, 1] < np.median(logits[:, 1])).astype(float)  # the wrong way round
    logits[:, 2] = 1.5  # says nothing
    found, temperature = fit_platt(logits, target), fit_temperature(logits, target)
    assert [each.method for each in found] == ["temperature"] * 3 + ["platt"]
    assert all((each.scale, each.offset) == (temperature, 0.0) for each in found[:3])
    assert found[0].reason == "5 positives and 395 negatives, fewer than 25 of one"
    assert found[1].reason == found[2].reason == "higher logits do not go with more positives"


def test_scales_stay_within_bounds_where_the_likelihood_has_no_maximum() -> None:
    logits, target = drawn()
    perfect = np.where(target == 1, 3.0, -3.0)
    assert fit_temperature(perfect, target) == pytest.approx(20)
    assert fit_temperature(-perfect, target) == pytest.approx(0.05)
    assert fit_temperature(logits, np.full_like(target, NAN)) == 1
    assert all(np.isfinite([each.scale, each.offset]).all() for each in fit_platt(1e4 * perfect, target))


def test_no_fit_changes_the_order_of_the_images_of_a_label() -> None:
    logits, target = drawn(unknown=0.1)
    for method in ("temperature", "platt"):
        calibrated = module.calibrate(logits, module.fit(logits, target, method, 25))  # type: ignore[arg-type]
        assert average_precision(calibrated, target) == pytest.approx(average_precision(logits, target), abs=1e-12)


def test_calibration_lowers_the_error_on_images_that_it_was_not_fitted_to() -> None:
    logits, target = drawn(images=3000)
    before = calibration_measures(module.sigmoid(logits.astype(float)), target)
    for method, factor in (("temperature", 0.9), ("platt", 0.2)):
        after = module.cross_fitted(logits, target, method, min_support=25)  # type: ignore[arg-type]
        measures = calibration_measures(after, target)
        assert measures.ece_equal_mass < factor * before.ece_equal_mass
        assert measures.brier < before.brier


def test_cross_fitted_probabilities_of_an_image_do_not_depend_on_its_own_truth() -> None:
    logits, target = drawn(images=100)
    changed = target.copy()
    changed[7] = 1 - changed[7]
    one, other = (module.cross_fitted(logits, each, "platt", min_support=5) for each in (target, changed))
    assert np.array_equal(one[7], other[7])
    assert not np.array_equal(one, other)


def loop_error(values: np.ndarray, truth: np.ndarray, groups: list[np.ndarray]) -> float:
    total = 0.0
    for rows in groups:
        if len(rows):
            total += len(rows) * abs(values[rows].mean() - truth[rows].mean())
    return total / len(values)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_errors_are_those_of_a_loop_over_bins(bins: int) -> None:
    logits, target = drawn(2, images=211, unknown=0.2)
    values = module.sigmoid(logits.astype(float))
    known = ~np.isnan(target)
    columns = [(values[known[:, at], at], target[known[:, at], at]) for at in range(4)]
    for kind in ("width", "mass"):
        per_label, overall = calibration_error(values, target, bins=bins, kind=kind)  # type: ignore[arg-type]
        expected = []
        for p, t in [*columns, (values[known], target[known])]:
            if kind == "width":
                edges = np.linspace(0, 1, bins + 1)
                groups = [np.flatnonzero((p >= low) & (p < high)) for low, high in pairwise(edges)]
            else:  # all probabilities differ: parts of the sorted entries
                order = np.argsort(p)
                cuts = [len(p) * number // bins for number in range(bins + 1)]
                groups = [order[low:high] for low, high in pairwise(cuts)]
            expected.append(loop_error(p, t, groups))
        assert [*per_label, overall] == pytest.approx(expected)


def test_the_curve_and_the_brier_score_are_those_of_scikit_learn() -> None:
    logits, target = drawn(3)
    values = module.sigmoid(logits.astype(float))
    truth, predicted = calibration_curve(target.ravel(), values.ravel(), n_bins=10, strategy="uniform")
    curve = reliability_curve(values, target, bins=10, kind="width")
    assert [each.positives for each in curve] == pytest.approx(truth)
    assert [each.probability for each in curve] == pytest.approx(predicted)
    assert brier_score(values, target) == pytest.approx(brier_score_loss(target.ravel(), values.ravel()))


def test_equal_probabilities_share_a_bin_and_0_and_1_have_one() -> None:
    target = np.array([[1.0], [0.0], [1.0], [1.0], [0.0], [1.0]])
    values = np.array([[0.0], [0.5], [0.5], [0.5], [0.5], [1.0]])
    for kind in ("width", "mass"):
        curve = reliability_curve(values, target, bins=4, kind=kind)  # type: ignore[arg-type]
        assert sum(each.entries for each in curve) == 6
        assert [each.entries for each in curve] == ([1, 4, 1] if kind == "width" else [1, 5])  # 0.5 and 1 share a part


def test_labels_without_a_known_entry_have_no_error_and_wrong_input_is_refused() -> None:
    values, target = np.full((3, 2), 0.4), np.array([[1.0, NAN], [0.0, NAN], [NAN, NAN]])
    per_label, overall = calibration_error(values, target)
    assert per_label[0] == overall == pytest.approx(0.1)
    assert np.isnan(per_label[1])
    assert np.isnan(brier_score(values, np.full((3, 2), NAN)))
    with pytest.raises(DataError, match="probabilities, 0 to 1"):
        calibration_error(values + 1, target)
    with pytest.raises(ConfigError, match="at least 1 bin"):
        calibration_error(values, target, bins=0)
