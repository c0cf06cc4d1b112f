"""The label graph: which labels are joined, and the normalised adjacency that the network uses.

The label graph of MSRN (arXiv 2106.11596), which follows ML-GCN (arXiv 1904.03582, section 3.3), is built in five
steps, each a pure function of arrays: counts -> conditional probabilities (``cooccurrence.py``) -> threshold ->
reweight -> normalise.

Differences: a label without images gets probability 0 instead of a division by zero; where targets are unknown, a
probability is taken over the images for which both labels are known. Two optional steps are off by default:
``shrunk`` in place of ``conditional``, for rare labels, and ``symmetric`` after it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from msrn.errors import LabelError, ShapeError
from msrn.labels.cooccurrence import Array, conditional, shrunk
from msrn.labels.space import LabelSpace, require_matrix

__all__ = [
    "LabelGraph",
    "graph_of",
    "identity_graph",
    "label_graph",
    "normalise",
    "reweight",
    "symmetric",
    "threshold",
]

log = logging.getLogger(__name__)

MAX_NAMED = 20
"""Labels that a message names at most."""

_COLUMN_SUM_FLOOR = 1e-6  # published: keeps columns without edges at 0 instead of 0/0


def symmetric(p: npt.ArrayLike) -> Array:
    """``max(P_ij, P_ji)``, ``(L, L)`` to ``(L, L)``: an edge in one direction becomes an edge in both."""
    values = np.asarray(p, dtype=np.float64)
    return np.maximum(values, values.T)


def threshold(p: npt.ArrayLike, minimum: float = 0.4) -> Array:
    """``A_ij`` = 1 where ``P_ij >= minimum``, else 0; ``(L, L)`` to ``(L, L)``.

    Raises:
        LabelError: ``minimum`` is not in (0, 1].
    """
    if not 0 < minimum <= 1:
        raise LabelError(f"the threshold of the label graph must be above 0 and at most 1, got {minimum}")
    return (np.asarray(p, dtype=np.float64) >= minimum).astype(np.float64)


def reweight(a: npt.ArrayLike, weight: float = 0.25) -> Array:
    """``A_ij * weight / (sum_i A_ij + 1e-6)``, plus identity; ``(L, L)`` to ``(L, L)``.

    All edges into a label share ``weight``, so that a label keeps its own meaning (this avoids over-smoothing).

    Raises:
        LabelError: ``weight`` is negative or not finite.
    """
    if not (np.isfinite(weight) and weight >= 0):
        raise LabelError(f"the reweighting of the label graph must be finite and at least 0, got {weight}")
    edges = np.asarray(a, dtype=np.float64)
    return edges * weight / (edges.sum(axis=0, keepdims=True) + _COLUMN_SUM_FLOOR) + np.eye(len(edges))


def normalise(a: npt.ArrayLike) -> Array:
    """``(A D)^T D`` with ``D = diag(row sum^-1/2)``: ``(L, L)`` to ``(L, L)``, entry ij is ``d_i A_ji d_j``.

    Note the transpose: row i of the result holds the labels with an edge to i. Rows that sum to 0 get ``d`` = 0.
    """
    edges = np.asarray(a, dtype=np.float64)
    sums = edges.sum(axis=1)
    scale = np.where(sums > 0, 1.0 / np.sqrt(np.where(sums > 0, sums, 1.0)), 0.0)
    return (edges * scale).T * scale


@dataclass(frozen=True, eq=False)
class LabelGraph:
    """A label graph and the numbers it was built from; arrays are read-only, rows and columns in label order.

    Fields: weights ``(L, L)`` float64, ``P(j | i)`` or the weight that a file gives to i -> j; threshold in (0, 1];
    reweight >= 0; reweighted ``(L, L)`` float32, the graph with identity before normalisation; adjacency ``(L, L)``
    float32, the same normalised, for the network; counts ``(L, L)`` and totals ``(L,)`` as given, zeros for a graph
    that was not counted; source, a description; symmetric, whether edges were made symmetric.
    """

    labels: LabelSpace
    weights: npt.NDArray[np.float64] = field(repr=False)
    threshold: float
    reweight: float
    reweighted: npt.NDArray[np.float32] = field(repr=False)
    adjacency: npt.NDArray[np.float32] = field(repr=False)
    counts: npt.NDArray[Any] = field(repr=False)
    totals: npt.NDArray[Any] = field(repr=False)
    source: str = ""
    symmetric: bool = False

    @property
    def isolated(self) -> tuple[str, ...]:
        """Names of the labels that no edge touches."""
        links = self.links
        alone = ~(links.any(axis=0) | links.any(axis=1))
        return tuple(self.labels[column] for column in np.flatnonzero(alone).tolist())

    @property
    def links(self) -> Array:
        """Edges from row to column as zeros and ones ``(L, L)``, without self-loops."""
        return _links(self.weights, self.threshold)

    @property
    def rule(self) -> str:
        """The condition for an edge A -> B, in words."""
        if not self.totals.any():
            return f"weight {self.threshold:g} or more"
        reverse = ", or the reverse" if self.symmetric else ""
        return f"at least {100 * self.threshold:.3g} % of the images with A also show B{reverse}"

    def edges(self) -> list[tuple[str, str, float]]:
        """Edges ``(i, j, P(j | i))``, strongest first."""
        pairs = np.argwhere(self.links).tolist()
        pairs.sort(key=lambda pair: (-self.weights[pair[0], pair[1]], pair))
        return [(self.labels[i], self.labels[j], float(self.weights[i, j])) for i, j in pairs]


_links_at, _share, _symmetric = threshold, reweight, symmetric  # label_graph has parameters of the same names


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
    """Build a graph from counts: ``label_graph(*cooccurrence(target))``. Labels without an edge are logged.

    Args:
        counts: ``(L, L)`` images with both labels (the diagonal is ignored).
        totals: ``(L,)`` images with the label.
        known: ``(L, L)`` images with i for which j is known; None: ``totals``.
        images: ``(L,)`` images for which the label is known; needed for smoothing.
        labels: names of the columns; None: ``"0"``, ``"1"``, ...
        threshold: minimum ``P(j | i)`` of an edge, in (0, 1].
        reweight: total weight of the edges into a label, at least 0; the label itself weighs 1.
        smoothing: strength of ``shrunk``, in images; 0: none.
        symmetric: make every edge an edge in both directions.
        source: a description.

    Raises:
        ShapeError, LabelError: as the steps do; also if the number of names is not L.

    Example:
        >>> graph = label_graph([[0, 9], [9, 0]], [10, 90], labels=LabelSpace(["boat", "sea"]))
        >>> graph.edges()
        [('boat', 'sea', 0.9)]
    """
    pairs, shown = np.array(counts), np.array(totals)
    divisor = shown if known is None else np.asarray(known)
    if smoothing:
        if images is None:
            raise LabelError("smoothing needs the number of images for which each label is known", "images")
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
    """Build a graph from the weights ``(L, L)`` of the edges i -> j. Labels without an edge are logged.

    Raises:
        ShapeError: the weights are not square, or their size is not the number of labels.
        LabelError: a weight is negative or not finite, or an argument is out of range.
    """
    strengths = np.array(weights, dtype=np.float64)
    if strengths.ndim != 2 or strengths.shape[0] != strengths.shape[1]:
        raise ShapeError(f"weights must be (L, L), got {strengths.shape}")
    if not np.isfinite(strengths).all() or (strengths < 0).any():
        raise LabelError("edge weights must be finite and at least 0")
    if symmetric:
        strengths = _symmetric(strengths)
    size = len(strengths)
    if labels is None:
        labels = LabelSpace(str(column) for column in range(size))
    elif len(labels) != size:
        raise ShapeError(f"the label set has {len(labels):,} names, the counts have {size:,} rows")
    shared = _share(_links(strengths, threshold), reweight)
    single, double = shared.astype(np.float32), normalise(shared).astype(np.float32)
    pairs = np.zeros((size, size), np.int64) if counts is None else np.array(counts)
    shown = np.zeros(size, np.int64) if totals is None else np.array(totals)
    for array in (strengths, single, double, pairs, shown):
        array.setflags(write=False)
    graph = LabelGraph(
        labels, strengths, float(threshold), float(reweight), single, double, pairs, shown, source, symmetric
    )
    if alone := graph.isolated:
        log.warning(
            "%d of %d labels have no edge in the label graph at threshold %g, so the graph adds nothing to their "
            "embeddings: %s",
            len(alone),
            len(labels),
            threshold,
            ", ".join(alone[:MAX_NAMED]) + (f" and {len(alone) - MAX_NAMED:,} more" if len(alone) > MAX_NAMED else ""),
        )
    return graph


def identity_graph(labels: LabelSpace) -> LabelGraph:
    """The graph without edges; the baseline that shows what a graph contributes."""
    size = len(labels)
    require_matrix(size)
    nothing, eye = np.zeros((size, size)), np.eye(size, dtype=np.float32)
    counts, totals = np.zeros((size, size), np.int64), np.zeros(size, np.int64)
    for array in (nothing, eye, counts, totals):
        array.setflags(write=False)
    return LabelGraph(labels, nothing, 1.0, 0.0, eye, eye, counts, totals, "identity: no edges")


def _links(weights: npt.ArrayLike, minimum: float) -> Array:
    links = _links_at(weights, minimum)
    np.fill_diagonal(links, 0.0)
    return links
