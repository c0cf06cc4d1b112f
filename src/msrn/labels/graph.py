"""Which labels go together, and how strongly does one call for another?

The label graph of MSRN (arXiv 2106.11596), which follows ML-GCN (arXiv 1904.03582, section 3.3), in five steps, each
a pure function of arrays: counts -> conditional probabilities -> threshold -> reweight -> normalise.
Count on the training split only; test labels in the graph leak the answers.

Where we differ: a label without a single image gets probability 0 instead of a division by zero; where labels are
unknown, a share is one of the images of which both labels are known. Two steps more are offered, and off by default:
``shrunk`` in place of ``conditional``, for rare labels, and ``symmetric`` after it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from msrn.errors import LabelError, ShapeError
from msrn.labels.space import LabelSpace

__all__ = [
    "Counts",
    "LabelGraph",
    "conditional",
    "cooccurrence",
    "graph_of",
    "identity_graph",
    "isolated",
    "label_graph",
    "normalise",
    "reweight",
    "shrunk",
    "symmetric",
    "threshold",
]

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]
_ROWS_AT_A_TIME = 65_536
_COLUMN_SUM_FLOOR = 1e-6  # published: keeps columns without edges at 0 instead of 0/0


class Counts(NamedTuple):
    """What one pass over the targets finds; all int64.

    Fields: counts ``(L, L)``, ``counts[i, j]`` images that show both i and j, diagonal 0; totals ``(L,)``, images that
    show i; known ``(L, L)``, images that show i and of which j is known (``totals[i]`` where nothing is unknown);
    images ``(L,)``, images of which i is known.
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
        ShapeError: not two-dimensional.
        LabelError: another value than 1, 0 or NaN; the first is shown, with the number of all.

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
        strange = ~(present | (block == 0) | unknown)
        if strange.any():
            row, column = np.argwhere(strange)[0]
            raise LabelError(
                f"targets must be 1 (present), 0 (absent) or NaN (unknown), got {block[row, column]}",
                where=f"row {start + row:,}, column {column:,}; {int(strange.sum()):,} such values",
                hint="translate other codes (-1, 2, 99, ...) first",
            )
        ones = present.astype(np.float64)  # exact up to 2^53 images, and BLAS does floats
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
        totals: ``(L,)`` images with i, or ``(L, L)`` images with i of which j is known; at least 0. Published files may
            hold totals below their counts, which gives values over 1.

    Raises:
        ShapeError: sizes that do not fit.
        LabelError: negative or non-finite values, or counts for a label whose total is 0.
    """
    pairs, images = _checked(counts, totals)
    return pairs / np.where(images == 0, 1.0, images)


def shrunk(counts: npt.ArrayLike, totals: npt.ArrayLike, rates: npt.ArrayLike, strength: float) -> Array:
    """``P_ij = (C_ij + m r_j) / (n_i + m)``: as if m more images of i showed j as often as any image does.

    A label seen twice, both times with j, has P = 1 by its counts, which says little. The m-estimate (Cestnik,
    "Estimating probabilities: a crucial task in machine learning", ECAI 1990; the mean of a posterior whose Dirichlet
    prior weighs m images) draws such shares towards the base rate ``r_j``, and leaves those of frequent labels alone.
    Additive smoothing (Laplace, Lidstone) is the case of equal rates. A label without a single image stays at 0.

    Args:
        counts, totals: as ``conditional`` takes them.
        rates: ``(L,)`` shares of all images that show j, in [0, 1].
        strength: m, in images; 0 gives ``conditional``.

    Raises:
        ShapeError, LabelError: as ``conditional``, and for rates or a strength out of range.
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


def symmetric(p: npt.ArrayLike) -> Array:
    """``max(P_ij, P_ji)``: labels are joined both ways when one of the two calls for the other; ``(L, L)`` both."""
    values = np.asarray(p, dtype=np.float64)
    return np.maximum(values, values.T)


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
        raise LabelError("counts and totals contradict each other: pairs of a label with total 0", f"rows {rows}")
    return pairs, images


def threshold(p: npt.ArrayLike, least: float = 0.4) -> Array:
    """``A_ij`` = 1 where ``P_ij >= least``, else 0; ``(L, L)`` to ``(L, L)``. ``least`` in (0, 1]: see LabelError."""
    if not 0 < least <= 1:
        raise LabelError(f"the threshold of the label graph must be above 0 and at most 1, got {least}")
    return (np.asarray(p, dtype=np.float64) >= least).astype(np.float64)


def reweight(a: npt.ArrayLike, weight: float = 0.25) -> Array:
    """``A_ij * weight / (sum_i A_ij + 1e-6)``, plus identity; ``(L, L)`` to ``(L, L)``.

    All edges into a label share ``weight``, so that a label keeps its own meaning (over-smoothing otherwise).
    ``weight`` must be finite and at least 0, or a LabelError is raised.
    """
    if not (np.isfinite(weight) and weight >= 0):
        raise LabelError(f"the reweighting of the label graph must be finite and at least 0, got {weight}")
    edges = np.asarray(a, dtype=np.float64)
    return edges * weight / (edges.sum(axis=0, keepdims=True) + _COLUMN_SUM_FLOOR) + np.eye(len(edges))


def normalise(a: npt.ArrayLike) -> Array:
    """``(A D)^T D`` with ``D = diag(row sum^-1/2)``: ``(L, L)`` to ``(L, L)``, entry ij is ``d_i A_ji d_j``.

    Note the transpose: row i of the result holds the labels that call for i. Rows that sum to 0 get ``d`` = 0.
    """
    edges = np.asarray(a, dtype=np.float64)
    sums = edges.sum(axis=1)
    scale = np.where(sums > 0, 1.0 / np.sqrt(np.where(sums > 0, sums, 1.0)), 0.0)
    return (edges * scale).T * scale


@dataclass(frozen=True, eq=False)
class LabelGraph:
    """A label graph with all it was made from; arrays are read-only, rows and columns in the order of ``labels``.

    Fields: weights ``(L, L)`` float64, ``P(j | i)`` or what a file gave for i -> j; threshold in (0, 1]; reweight >= 0;
    before ``(L, L)`` float32, the reweighted graph with identity; adjacency ``(L, L)`` float32, the same normalised,
    for the network; counts ``(L, L)`` and totals ``(L,)`` as given, zeros for a graph that was not counted; source, in
    words; symmetric, whether labels were joined both ways when one of the two calls for the other.
    """

    labels: LabelSpace
    weights: npt.NDArray[np.float64] = field(repr=False)
    threshold: float
    reweight: float
    before: npt.NDArray[np.float32] = field(repr=False)
    adjacency: npt.NDArray[np.float32] = field(repr=False)
    counts: npt.NDArray[Any] = field(repr=False)
    totals: npt.NDArray[Any] = field(repr=False)
    source: str = ""
    symmetric: bool = False

    @property
    def isolated(self) -> tuple[str, ...]:
        """Names of the labels that no edge touches."""
        return tuple(self.labels[column] for column in isolated(self))

    @property
    def links(self) -> Array:
        """Zeros and ones ``(L, L)``: edges from row to column, none from a label to itself."""
        return _links(self.weights, self.threshold)

    @property
    def rule(self) -> str:
        """What joins A to B, in words."""
        if not self.totals.any():
            return f"weight {self.threshold:g} or more"
        reverse = ", or the reverse" if self.symmetric else ""
        return f"at least {100 * self.threshold:.3g} % of the pictures with A also show B{reverse}"

    def edges(self) -> list[tuple[str, str, float]]:
        """Kept edges ``(i, j, P(j | i))``, strongest first; "most images with i also show j"."""
        pairs = np.argwhere(self.links).tolist()
        pairs.sort(key=lambda pair: (-self.weights[pair[0], pair[1]], pair))
        return [(self.labels[i], self.labels[j], float(self.weights[i, j])) for i, j in pairs]


_links_at, _share, _symmetric = threshold, reweight, symmetric  # label_graph has settings of the same names


def label_graph(
    counts: npt.ArrayLike,
    totals: npt.ArrayLike,
    known: npt.ArrayLike | None = None,
    images: npt.ArrayLike | None = None,
    *,
    labels: LabelSpace | None = None,
    threshold: float = 0.4,
    reweight: float = 0.25,
    smoothing: float = 0.0,
    symmetric: bool = False,
    source: str = "",
) -> LabelGraph:
    """The whole chain from counts to adjacency; logs a warning that names the labels without any edge.

    Takes what ``cooccurrence`` gives: ``label_graph(*cooccurrence(target))``.

    Args:
        counts: ``(L, L)`` images with both labels (the diagonal is ignored).
        totals: ``(L,)`` images with the label.
        known: ``(L, L)`` images with i of which j is known; None: ``totals``.
        images: ``(L,)`` images of which the label is known; needed for smoothing.
        labels: names of the columns; without them they are called ``"0"``, ``"1"``, ...
        threshold: least ``P(j | i)`` that makes an edge, in (0, 1].
        reweight: what the edges into a label weigh together, at least 0; the label itself weighs 1.
        smoothing: strength of ``shrunk``, in images; 0: none.
        symmetric: join both ways what is joined one way.
        source: in words.

    Raises:
        ShapeError, LabelError: as the steps do; also when the number of names is not L.

    Example:
        >>> graph = label_graph([[0, 9], [9, 0]], [10, 90], labels=LabelSpace(["boat", "sea"]))
        >>> graph.edges()
        [('boat', 'sea', 0.9)]
    """
    pairs, shown = np.array(counts), np.array(totals)
    divisor = shown if known is None else np.asarray(known)
    if smoothing:
        if images is None:
            raise LabelError("smoothing needs the number of images of which each label is known", "images")
        rates = shown / np.maximum(np.asarray(images), 1)
        weights = shrunk(pairs, divisor, rates, smoothing)
    else:
        weights = conditional(pairs, divisor)
    return graph_of(
        weights,
        labels=labels,
        threshold=threshold,
        reweight=reweight,
        symmetric=symmetric,
        counts=pairs,
        totals=shown,
        source=source,
    )


def graph_of(
    weights: npt.ArrayLike,
    *,
    labels: LabelSpace | None = None,
    threshold: float = 0.4,
    reweight: float = 0.25,
    symmetric: bool = False,
    counts: npt.ArrayLike | None = None,
    totals: npt.ArrayLike | None = None,
    source: str = "",
) -> LabelGraph:
    """The end of the chain, from weights ``(L, L)`` of the edges i -> j; for graphs that were not counted.

    Logs a warning that names the labels without any edge.

    Raises:
        ShapeError: not square, or not of as many rows as there are labels.
        LabelError: a weight that is negative or not finite, or settings out of range.
    """
    strengths = np.array(weights, dtype=np.float64)
    if strengths.ndim != 2 or strengths.shape[0] != strengths.shape[1]:
        raise ShapeError(f"weights must be (L, L), got {strengths.shape}")
    if not np.isfinite(strengths).all() or (strengths < 0).any():
        raise LabelError("weights of edges must be finite and at least 0")
    if symmetric:
        strengths = _symmetric(strengths)
    size = len(strengths)
    if labels is None:
        labels = LabelSpace(str(column) for column in range(size))
    elif len(labels) != size:
        raise ShapeError(f"the label set has {len(labels):,} names, the counts have {size:,} rows")
    before = _share(_links(strengths, threshold), reweight)
    single, double = before.astype(np.float32), normalise(before).astype(np.float32)
    pairs = np.zeros((size, size), np.int64) if counts is None else np.array(counts)
    shown = np.zeros(size, np.int64) if totals is None else np.array(totals)
    for array in (strengths, single, double, pairs, shown):
        array.setflags(write=False)
    graph = LabelGraph(
        labels, strengths, float(threshold), float(reweight), single, double, pairs, shown, source, symmetric
    )
    if alone := graph.isolated:
        log.warning(
            "%d of %d labels have no edge in the label graph at threshold %g, so only their word vectors speak for "
            "them: %s",
            len(alone),
            len(labels),
            threshold,
            ", ".join(alone),
        )
    return graph


def identity_graph(labels: LabelSpace) -> LabelGraph:
    """The graph without edges: each label speaks only for itself. What MSRN gains from a graph is seen against it."""
    size = len(labels)
    nothing, eye = np.zeros((size, size)), np.eye(size, dtype=np.float32)
    counts, totals = np.zeros((size, size), np.int64), np.zeros(size, np.int64)
    for array in (nothing, eye, counts, totals):
        array.setflags(write=False)
    return LabelGraph(labels, nothing, 1.0, 0.0, eye, eye, counts, totals, "identity: no edges")


def isolated(graph: LabelGraph) -> npt.NDArray[np.intp]:
    """Columns of the labels that no edge touches, in either direction; each only speaks to itself."""
    links = graph.links
    return np.flatnonzero(~(links.any(axis=0) | links.any(axis=1)))


def _links(weights: npt.ArrayLike, least: float) -> Array:
    links = _links_at(weights, least)
    np.fill_diagonal(links, 0.0)
    return links
