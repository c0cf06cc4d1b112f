"""Check the arrays that measures take: scores, targets and decisions, each ``(n, L)``, n images by L labels."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msrn.errors import DataError, ShapeError

__all__ = ["Array", "check_decisions", "check_pair", "check_scores"]

Array: TypeAlias = NDArray[Any]


def check_pair(scores: ArrayLike, target: ArrayLike, *, probabilities: bool = False) -> tuple[Array, Array]:
    """Scores (float32 or float64) and their target (float32), of the same size ``(n, L)``.

    Raises:
        ShapeError: the sizes differ, or one of them is 0.
        DataError: a score is not finite (with ``probabilities``: not from 0 to 1), or a target is not 1, 0 or NaN.
    """
    values, truth = check_scores(scores, probabilities=probabilities), np.asarray(target, dtype=np.float32)
    if values.shape != truth.shape:
        raise ShapeError(f"expected a target of the scores' size {values.shape} (images, labels), got {truth.shape}")
    _refuse(truth, (truth != 0) & (truth != 1) & ~np.isnan(truth), "targets of 1, 0 or NaN (unknown)")
    return values, truth


def check_scores(scores: ArrayLike, *, probabilities: bool = False) -> Array:
    """Scores as ``(n, L)`` of float32 or float64; errors as in ``check_pair``."""
    values = np.asarray(scores)
    values = values if values.dtype == np.float32 else values.astype(np.float64)
    if values.ndim != 2 or not values.size:
        raise ShapeError(f"expected scores of size (images, labels), at least one of each, got {values.shape}")
    outside = (values < 0) | (values > 1) if probabilities else False
    _refuse(values, ~np.isfinite(values) | outside, "probabilities, 0 to 1" if probabilities else "finite scores")
    return values


def check_decisions(predicted: ArrayLike, target: ArrayLike) -> tuple[Array, Array, Array]:
    """Decisions, known entries and positives, all ``(n, L)`` of bool; errors as in ``check_pair``."""
    chosen = np.asarray(predicted)
    if chosen.dtype != np.bool_:  # probabilities here would all count as predicted
        raise DataError(f"expected decisions of bool, got {chosen.dtype}", hint="use predict(scores, threshold) first")
    truth = check_pair(chosen, target)[1]
    return chosen, ~np.isnan(truth), truth == 1


def _refuse(values: Array, bad: Array, expected: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        message = f"expected {expected}, got {values[row, column]} ({bad.sum():,} such entries in total)"
        raise DataError(message, where=f"row {row}, column {column}")
