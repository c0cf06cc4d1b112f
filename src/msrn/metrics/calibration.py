"""Probability calibration: a scale and an offset for the logits of each label, and how far probabilities are off.

- **Temperature** (Guo et al., ICML 2017, arXiv 1706.04599, section 4.2): one scale, ``1 / T``, for all labels.
- **Platt** (Platt 1999): a scale and an offset for each label, fitted to smoothed targets, by the Newton method of Lin,
  Lin and Weng (Machine Learning 68, 2007). Scales are positive, so that no ranking of images changes.

Both minimise the negative log-likelihood of known entries, which is convex. Hand-written, a few lines of Newton's
method, because scikit-learn is no dependency; the tests compare with it and with SciPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from msrn.errors import ConfigError
from msrn.metrics.inputs import Array, check_pair
from msrn.metrics.results import Measure

__all__ = [
    "BINS",
    "Bin",
    "CalibrationMeasures",
    "LabelCalibration",
    "brier_score",
    "calibrate",
    "calibration_error",
    "calibration_measures",
    "cross_fitted",
    "fit",
    "fit_platt",
    "fit_temperature",
    "reliability_curve",
    "sigmoid",
]

BINS = 15
STEEPEST, FLATTEST = 20.0, 0.05
"""Bounds of a scale: where labels are told apart perfectly, or not at all, the likelihood has no maximum of use."""
FOLDS = 5

BinKind = Literal["width", "mass"]


@dataclass(frozen=True, slots=True)
class LabelCalibration:
    """What becomes of a label's logit: ``scale * logit + offset``."""

    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    offset: Annotated[float, Field(allow_inf_nan=False)]
    method: Literal["temperature", "platt"]
    reason: str = ""
    """Why it is the temperature, where Platt was asked for."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Entries of about the same probability."""

    entries: int
    probability: float
    """Mean of the predicted ones, 0 to 1."""
    positives: float
    """Share of positives, 0 to 1."""


@dataclass(frozen=True, slots=True)
class CalibrationMeasures:
    """How far probabilities are off; ``docs/concepts/metrics.md`` has the formulae."""

    ece: Measure
    """Expected calibration error over all known entries, in 15 bins of equal width."""
    ece_equal_mass: Measure
    """The same in 15 bins of as many entries."""
    label_ece: Measure
    """Mean over labels of the expected calibration error, bins of equal mass."""
    brier: Measure
    """Mean squared difference of probability and truth over all known entries."""
    curve: tuple[Bin, ...]
    """The reliability curve over all known entries, bins of equal mass."""
    per_label: tuple[Measure, ...]
    """Expected calibration error of each label, bins of equal mass; NaN for a label without a known entry."""


def fit_temperature(logits: ArrayLike, target: ArrayLike) -> float:
    """The one scale (1 / T) of all logits ``(n, L)`` with the highest likelihood of the known entries.

    It is from 0.05 to 20, and 1 where nothing is known. Errors as in ``check_pair``.
    """
    values, truth = check_pair(logits, target)
    known = ~np.isnan(truth)
    x, t = values[known].astype(np.float64), truth[known]
    if not x.size:
        return 1.0
    low, high, scale = FLATTEST, STEEPEST, 1.0
    for _ in range(100):  # Newton on the slope, which rises; halving where a step would leave what is left
        p = sigmoid(scale * x)
        slope, bend = float((x * (p - t)).mean()), float((x * x * p * (1 - p)).mean())
        low, high = (low, scale) if slope > 0 else (scale, high)
        wanted = scale - slope / bend if bend > 0 else np.inf
        wanted = wanted if low < wanted < high else (low + high) / 2
        if abs(wanted - scale) <= 1e-12 * scale:
            break
        scale = wanted
    return scale


def fit_platt(logits: ArrayLike, target: ArrayLike, *, min_support: int = 25) -> list[LabelCalibration]:
    """A scale and an offset for each label of ``logits (n, L)``; the temperature of all where a label cannot have both.

    Args:
        logits: ``(n, L)``, finite, of images that the model was not trained on.
        target: ``(n, L)`` in {1, 0, NaN}.
        min_support: known positives, and known negatives, that a label needs for a fit of its own.

    Errors as in ``check_pair``.
    """
    values, truth = check_pair(logits, target)
    temperature = fit_temperature(values, truth)
    found = []
    for column, wanted in zip(values.T.astype(np.float64), truth.T, strict=True):
        known = ~np.isnan(wanted)
        x, t = column[known], wanted[known] == 1
        positives, negatives = int(t.sum()), int((~t).sum())
        fit, reason = None, f"{positives} positives and {negatives} negatives, fewer than {min_support} of one"
        if min(positives, negatives) >= min_support:
            fit, reason = _platt(x, t), "higher logits do not go with more positives"
        if fit and FLATTEST <= fit[0] <= STEEPEST:
            found.append(LabelCalibration(*fit, "platt"))
        else:
            found.append(LabelCalibration(temperature, 0.0, "temperature", reason))
    return found


def cross_fitted(logits: Array, target: Array, method: Literal["temperature", "platt"], *, min_support: int) -> Array:
    """Calibrated probabilities ``(n, L)``, each by a fit to the other four fifths of the images (seeded)."""
    fold = np.random.default_rng(0).permutation(len(logits)) % FOLDS
    found = np.empty(logits.shape)
    for number in range(FOLDS):
        rest, part = fold != number, fold == number
        if part.any() and rest.any():
            found[part] = sigmoid(calibrate(logits[part], fit(logits[rest], target[rest], method, min_support)))
        else:
            found[part] = sigmoid(logits[part].astype(np.float64))
    return found


def fit(
    logits: ArrayLike, target: ArrayLike, method: Literal["temperature", "platt"], min_support: int
) -> list[LabelCalibration]:
    """By method, one per label."""
    if method == "platt":
        return fit_platt(logits, target, min_support=min_support)
    scale = fit_temperature(logits, target)
    return [LabelCalibration(scale, 0.0, "temperature")] * np.asarray(logits).shape[1]


def calibrate(logits: Array, labels: list[LabelCalibration]) -> Array:
    """``scale * logit + offset``, ``(n, L)`` in float64."""
    scale, offset = (np.array([getattr(each, name) for each in labels]) for name in ("scale", "offset"))
    return np.asarray(logits.astype(np.float64) * scale + offset)


def calibration_error(
    probabilities: ArrayLike, target: ArrayLike, *, bins: int = BINS, kind: BinKind = "mass"
) -> tuple[Array, float]:
    """Expected calibration error of each label ``(L,)``, NaN without a known entry, and of all entries together.

    Args:
        probabilities: ``(n, L)``.
        target: ``(n, L)`` in {1, 0, NaN}.
        bins: how many.
        kind: ``width``, parts of the range 0 to 1 as wide; ``mass``, parts of the sorted entries as large, where equal
            probabilities stay together.

    Raises:
        ShapeError, DataError: as every measure. ConfigError: ``bins`` is below 1.

    Example:
        >>> per_label, overall = calibration_error([[0.8], [0.8], [0.8], [0.8]], [[1], [1], [1], [0]])
        >>> round(overall, 3)
        0.05
    """
    values, truth = check_pair(probabilities, target, probabilities=True)
    known = ~np.isnan(truth)
    per_label = [_error(values[rows, at], truth[rows, at], bins, kind) for at, rows in enumerate(known.T)]
    return np.array(per_label), _error(values[known], truth[known], bins, kind)


def brier_score(probabilities: ArrayLike, target: ArrayLike) -> float:
    """Mean over known entries of ``(p - t)^2``; NaN without any."""
    values, truth = check_pair(probabilities, target, probabilities=True)
    known = ~np.isnan(truth)
    return float(np.square(values[known].astype(np.float64) - truth[known]).mean()) if known.any() else float("nan")


def reliability_curve(
    probabilities: ArrayLike, target: ArrayLike, *, bins: int = BINS, kind: BinKind = "mass"
) -> tuple[Bin, ...]:
    """Mean probability and share of positives of all known entries, bin by bin; empty bins are left out."""
    values, truth = check_pair(probabilities, target, probabilities=True)
    known = ~np.isnan(truth)
    return tuple(_binned(values[known], truth[known], bins, kind))


def calibration_measures(probabilities: ArrayLike, target: ArrayLike) -> CalibrationMeasures:
    """All measures at once. Errors as in ``check_pair``."""
    values, truth = check_pair(probabilities, target, probabilities=True)
    per_label, mass = calibration_error(values, truth)
    some = per_label[~np.isnan(per_label)]
    return CalibrationMeasures(
        ece=calibration_error(values, truth, kind="width")[1],
        ece_equal_mass=mass,
        label_ece=float(some.mean()) if some.size else float("nan"),
        brier=brier_score(values, truth),
        curve=reliability_curve(values, truth),
        per_label=tuple(per_label.tolist()),
    )


def sigmoid(logits: Array) -> Array:
    """``1 / (1 + exp(-logits))`` without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def _platt(x: Array, positive: Array) -> tuple[float, float] | None:
    """Scale and offset for ``x (M,)``; None where the logits do not vary."""
    centre, spread = float(x.mean()), float(x.std())
    if spread <= 0:
        return None
    z = (x - centre) / spread  # well conditioned, whatever the logits
    above, below = int(positive.sum()), int((~positive).sum())
    t = np.where(positive, (above + 1) / (above + 2), 1 / (below + 2))  # Platt's smoothing: likelihood has a maximum
    design = np.stack((z, np.ones_like(z)), axis=1)  # (M, 2)
    weights = np.array([0.0, np.log((above + 1) / (below + 1))])
    value = _likelihood(design @ weights, t)
    for _ in range(100):
        p = sigmoid(design @ weights)
        slope = design.T @ (p - t)
        bend = (design * (p * (1 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(bend, slope)
        for _ in range(40):  # shorter steps, until one is better
            tried = _likelihood(design @ (weights - step), t)
            if tried <= value:
                break
            step = step / 2
        weights, value = weights - step, tried
        if np.abs(step).max() < 1e-10:
            break
    scale = float(weights[0] / spread)
    return scale, float(weights[1] - scale * centre)


def _likelihood(z: Array, t: Array) -> float:
    """Negative log-likelihood of targets in [0, 1], summed."""
    return float((np.logaddexp(0, z) - t * z).sum())


def _error(values: Array, truth: Array, bins: int, kind: BinKind) -> float:
    if not values.size:
        return float("nan")
    found = _binned(values, truth, bins, kind)
    return sum(each.entries * abs(each.probability - each.positives) for each in found) / values.size


def _binned(values: Array, truth: Array, bins: int, kind: BinKind) -> list[Bin]:
    if bins < 1:
        raise ConfigError(f"expected at least 1 bin, got {bins}", where="bins")
    if not values.size:
        return []
    values = values.astype(np.float64)
    if kind == "width":
        place = np.minimum((values * bins).astype(int), bins - 1)
    else:
        ordered = np.sort(values)
        edges = ordered[[len(ordered) * number // bins for number in range(1, bins)]]
        place = np.searchsorted(np.unique(edges), values, side="right")
    entries = np.bincount(place)
    sums, hits = (np.bincount(place, weights=each) for each in (values, truth))
    rows = zip(entries.tolist(), sums.tolist(), hits.tolist(), strict=True)
    return [Bin(count, total / count, right / count) for count, total, right in rows if count]
