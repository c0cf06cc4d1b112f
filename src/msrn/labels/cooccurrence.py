"""Label co-occurrence: counts over the targets, and conditional probabilities from them.

The first two steps of the label graph (see ``graph.py``), as pure functions of arrays. Count on the training split
only: test labels in the counts leak the answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from msrn.errors import LabelError, ShapeError

__all__ = ["Array", "Counts", "conditional", "cooccurrence", "shrunk"]

Array = npt.NDArray[np.float64]

_ROWS_AT_A_TIME = 65_536


class Counts(NamedTuple):
    """Co-occurrence counts of a set of targets; all int64.

    Fields: counts ``(L, L)``, images with both i and j, diagonal 0; totals ``(L,)``, images with i; known ``(L, L)``,
    images with i for which j is known (``totals[i]`` if no target is unknown); images ``(L,)``, images for which i is
    known.
    """

    counts: npt.NDArray[np.int64]
    totals: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]


def cooccurrence(target: npt.ArrayLike) -> Counts:
    """Count pairs of labels: ``C_ij`` = images with both i and j (``C_ii`` = 0), ``n_i`` = images with i.

    Args:
        target: ``(n, L)`` with 1 = present, 0 = absent, NaN = unknown. Unknown counts neither as present nor as absent.

    Raises:
        ShapeError: the target is not two-dimensional.
        LabelError: a value is not 1, 0 or NaN; the first is shown, with the number of such values.

    Example:
        >>> cooccurrence([[1, 1, 0], [1, 0, 0]]).counts.tolist()
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    """
    values = np.asarray(target)
    if values.ndim != 2:
        raise ShapeError(f"targets must be (images, labels), got {values.shape}")
    if values.dtype.kind not in "biuf":
        raise LabelError(f"targets must be numbers, got an array of {values.dtype}")
    size = values.shape[1]
    sums, unknown_sums = np.zeros((size, size)), np.zeros((size, size))
    images = np.full(size, len(values), dtype=np.int64)
    for start in range(0, len(values), _ROWS_AT_A_TIME):
        block = values[start : start + _ROWS_AT_A_TIME]
        present, unknown = block == 1, np.isnan(block)
        invalid = ~(present | (block == 0) | unknown)
        if invalid.any():
            row, column = np.argwhere(invalid)[0]
            raise LabelError(
                f"targets must be 1 (present), 0 (absent) or NaN (unknown), got {block[row, column]}",
                where=f"row {start + row:,}, column {column:,}; {int(invalid.sum()):,} such values",
                hint="convert other codes (-1, 2, 99, ...) first",
            )
        ones = present.astype(np.float64)  # exact up to 2^53 images, and BLAS needs floats
        sums += ones.T @ ones
        if unknown.any():
            unknown_sums += ones.T @ unknown.astype(np.float64)
            images -= unknown.sum(axis=0)
    totals = np.diag(sums).astype(np.int64)
    np.fill_diagonal(sums, 0.0)
    return Counts(sums.astype(np.int64), totals, totals[:, None] - unknown_sums.astype(np.int64), images)


def conditional(counts: npt.ArrayLike, totals: npt.ArrayLike) -> Array:
    """``P_ij = P(j | i) = C_ij / n_i``, an ``(L, L)`` array; 0 where the divisor is 0.

    Args:
        counts: ``(L, L)``, at least 0; need not be symmetric (a graph may be one-directional).
        totals: ``(L,)`` images with i, or ``(L, L)`` images with i for which j is known; at least 0. Published files
            may contain totals below their counts, which gives values over 1.

    Raises:
        ShapeError: the sizes do not match.
        LabelError: a value is negative or not finite, or a label whose total is 0 has counts.
    """
    pairs, images = _checked(counts, totals)
    return pairs / np.where(images == 0, 1.0, images)


def shrunk(counts: npt.ArrayLike, totals: npt.ArrayLike, rates: npt.ArrayLike, strength: float) -> Array:
    """``P_ij = (C_ij + m r_j) / (n_i + m)``: as if m more images of i showed j as often as any image does.

    A label seen twice, both times with j, has P = 1, which is weak evidence. The m-estimate (Cestnik, "Estimating
    probabilities: a crucial task in machine learning", ECAI 1990; the posterior mean under a Dirichlet prior that
    weighs m images) moves such values towards the base rate ``r_j`` and barely changes those of frequent labels.
    Additive smoothing (Laplace, Lidstone) is the special case of equal rates. A label without images stays at 0.

    Args:
        counts, totals: as for ``conditional``.
        rates: ``(L,)`` share of all images that show j, in [0, 1].
        strength: m, in images; 0 gives ``conditional``.

    Raises:
        ShapeError, LabelError: as ``conditional`` does, and if rates or strength are out of range.
    """
    pairs, images = _checked(counts, totals)
    base = np.asarray(rates, dtype=np.float64)
    if base.shape != (len(pairs),):
        raise ShapeError(f"rates must be (L,) = ({len(pairs)},), got {base.shape}")
    if not (np.isfinite(strength) and strength >= 0) or not ((base >= 0) & (base <= 1)).all():
        raise LabelError(f"smoothing needs a strength of at least 0 and rates in [0, 1], got {strength} and {base}")
    if strength == 0:
        return conditional(counts, totals)
    seen = images.max(axis=1, keepdims=True, initial=0) > 0
    return np.where(seen, (pairs + strength * base) / (images + strength), 0.0)


def _checked(counts: npt.ArrayLike, totals: npt.ArrayLike) -> tuple[Array, Array]:
    """Counts ``(L, L)``, and divisors that broadcast to it."""
    pairs, images = np.asarray(counts, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if pairs.ndim != 2 or pairs.shape[0] != pairs.shape[1] or images.shape not in (pairs.shape[:1], pairs.shape):
        raise ShapeError(f"counts must be (L, L) and totals (L,) or (L, L), got {pairs.shape} and {images.shape}")
    for name, array in (("counts", pairs), ("totals", images)):
        if not np.isfinite(array).all() or (array < 0).any():
            raise LabelError(f"{name} must be finite and at least 0, got values from {array.min()} to {array.max()}")
    images = images if images.ndim == 2 else images[:, None]
    contradicting = (pairs > 0) & (images == 0)
    if contradicting.any():
        rows = np.flatnonzero(contradicting.any(axis=1))[:8].tolist()
        raise LabelError("counts and totals contradict each other: a label with total 0 has pairs", f"rows {rows}")
    return pairs, images
