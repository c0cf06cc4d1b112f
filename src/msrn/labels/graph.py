"""Which labels go together, and how strongly does one call for another?

The label graph of MSRN (arXiv 2106.11596), which follows ML-GCN (arXiv 1904.03582, section 3.3), in five steps, each
a pure function of arrays: counts -> conditional probabilities -> threshold -> reweight -> normalise.
Count on the training split only; test labels in the graph leak the answers.

Where we differ: a label without a single image gets probability 0 instead of a division by zero.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from msrn.errors import LabelError, ShapeError
from msrn.labels.space import LabelSpace

__all__ = [
    "Counts",
    "LabelGraph",
    "conditional",
    "cooccurrence",
    "identity_graph",
    "isolated",
    "label_graph",
    "normalise",
    "reweight",
    "threshold",
]

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]
_ROWS_AT_A_TIME = 65_536
_COLUMN_SUM_FLOOR = 1e-6  # published: keeps columns without edges at 0 instead of 0/0


class Counts(NamedTuple):
    """What one pass over the targets finds.

    Fields: counts ``(L, L)`` int64, ``counts[i, j]`` images that show both i and j, diagonal 0; totals ``(L,)`` int64,
    images that show i.
    """

    counts: npt.NDArray[np.int64]
    totals: npt.NDArray[np.int64]


def cooccurrence(target: npt.ArrayLike) -> Counts:
    """Count pairs of labels: ``C_ij`` = images with both i and j (``C_ii`` = 0), ``n_i`` = images with i.

    Args:
        target: ``(n, L)`` with 1 = present, 0 = absent, NaN = unknown. Unknown counts neither as present nor in
            ``n_i``.

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
    sums = np.zeros((size, size))
    for start in range(0, len(values), _ROWS_AT_A_TIME):
        block = values[start : start + _ROWS_AT_A_TIME]
        present = block == 1
        strange = ~(present | (block == 0) | np.isnan(block))
        if strange.any():
            row, column = np.argwhere(strange)[0]
            raise LabelError(
                f"targets must be 1 (present), 0 (absent) or NaN (unknown), got {block[row, column]}",
                where=f"row {start + row:,}, column {column:,}; {int(strange.sum()):,} such values",
                hint="translate other codes (-1, 2, 99, ...) first",
            )
        ones = present.astype(np.float64)  # exact up to 2^53 images, and BLAS does floats
        sums += ones.T @ ones
    totals = np.diag(sums).astype(np.int64)
    np.fill_diagonal(sums, 0.0)
    return Counts(sums.astype(np.int64), totals)


def conditional(counts: npt.ArrayLike, totals: npt.ArrayLike) -> Array:
    """``P_ij = P(j | i) = C_ij / n_i``, an ``(L, L)`` array; 0 in the row of a label with ``n_i`` = 0.

    Args:
        counts: ``(L, L)``, at least 0; need not be symmetric (a graph may be one-directional).
        totals: ``(L,)``, at least 0; published files may hold totals below their counts, which gives values over 1.

    Raises:
        ShapeError: sizes that do not fit.
        LabelError: negative or non-finite values, or counts for a label whose total is 0.
    """
    pairs, images = np.asarray(counts, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if pairs.ndim != 2 or pairs.shape[0] != pairs.shape[1] or images.shape != pairs.shape[:1]:
        raise ShapeError(f"counts must be (L, L) and totals (L,), got {pairs.shape} and {images.shape}")
    for name, array in (("counts", pairs), ("totals", images)):
        if not np.isfinite(array).all() or (array < 0).any():
            raise LabelError(f"{name} must be finite and at least 0, got values from {array.min()} to {array.max()}")
    without = images == 0
    if pairs[without].any():
        rows = np.flatnonzero(without & pairs.any(axis=1))[:8].tolist()
        raise LabelError("counts and totals contradict each other: pairs of a label with total 0", f"rows {rows}")
    return pairs / np.where(without, 1.0, images)[:, None]


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

    Fields: counts ``(L, L)`` and totals ``(L,)`` as given; threshold in (0, 1]; reweight >= 0; before ``(L, L)``
    float32, the reweighted graph with identity; adjacency ``(L, L)`` float32, the same normalised, for the network.
    """

    labels: LabelSpace
    counts: npt.NDArray[Any] = field(repr=False)
    totals: npt.NDArray[Any] = field(repr=False)
    threshold: float
    reweight: float
    before: npt.NDArray[np.float32] = field(repr=False)
    adjacency: npt.NDArray[np.float32] = field(repr=False)

    @property
    def isolated(self) -> tuple[str, ...]:
        """Names of the labels that no edge touches."""
        return tuple(self.labels[column] for column in isolated(self))

    def edges(self) -> list[tuple[str, str, float]]:
        """Kept edges ``(i, j, P(j | i))``, strongest first; "most images with i also show j"."""
        p = conditional(self.counts, self.totals)
        pairs = np.argwhere(_links(self.counts, self.totals, self.threshold)).tolist()
        pairs.sort(key=lambda pair: (-p[pair[0], pair[1]], pair))
        return [(self.labels[i], self.labels[j], float(p[i, j])) for i, j in pairs]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Save names, counts and the two settings as ``.npz``; the file appears whole or not at all."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as out:
                np.savez_compressed(
                    out,
                    labels=np.asarray(self.labels.names),
                    counts=self.counts,
                    totals=self.totals,
                    threshold=np.float64(self.threshold),
                    reweight=np.float64(self.reweight),
                )
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> LabelGraph:
        """What ``write`` saved. Raises LabelError when the file is missing, damaged or has no names."""
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                labels = LabelSpace(file["labels"].tolist())
                counts, totals = file["counts"], file["totals"]
                settings = {name: float(file[name]) for name in ("threshold", "reweight")}
        except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, BadZipFile) as error:
            raise LabelError(
                f"cannot read the label graph: {error}",
                where=str(path),
                hint="expected an .npz with labels (names), counts (L, L), totals (L,), threshold and reweight",
            ) from error
        return label_graph(counts, totals, labels=labels, **settings)


_links_at, _share = threshold, reweight  # label_graph has settings of the same names


def label_graph(
    counts: npt.ArrayLike,
    totals: npt.ArrayLike,
    *,
    labels: LabelSpace | None = None,
    threshold: float = 0.4,
    reweight: float = 0.25,
) -> LabelGraph:
    """The whole chain from counts to adjacency; logs a warning that names the labels without any edge.

    Args:
        counts: ``(L, L)`` images with both labels (the diagonal is ignored).
        totals: ``(L,)`` images with the label.
        labels: names of the columns; without them they are called ``"0"``, ``"1"``, ...
        threshold: least ``P(j | i)`` that makes an edge, in (0, 1].
        reweight: what the edges into a label weigh together, at least 0; the label itself weighs 1.

    Raises:
        ShapeError, LabelError: as the steps do; also when the number of names is not L.

    Example:
        >>> graph = label_graph([[0, 9], [9, 0]], [10, 90], labels=LabelSpace(["boat", "sea"]))
        >>> graph.edges()
        [('boat', 'sea', 0.9)]
    """
    pairs, images = np.array(counts), np.array(totals)
    links = _links(pairs, images, threshold)
    if labels is None:
        labels = LabelSpace(str(column) for column in range(len(links)))
    elif len(labels) != len(links):
        raise ShapeError(f"the label set has {len(labels):,} names, the counts have {len(links):,} rows")
    before = _share(links, reweight)
    single, double = before.astype(np.float32), normalise(before).astype(np.float32)
    for array in (pairs, images, single, double):
        array.setflags(write=False)
    graph = LabelGraph(labels, pairs, images, float(threshold), float(reweight), single, double)
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
    zeros, eye = np.zeros((len(labels), len(labels)), np.int64), np.eye(len(labels), dtype=np.float32)
    totals = np.zeros(len(labels), np.int64)
    for array in (zeros, totals, eye):
        array.setflags(write=False)
    return LabelGraph(labels, zeros, totals, 1.0, 0.0, eye, eye)


def isolated(graph: LabelGraph) -> npt.NDArray[np.intp]:
    """Columns of the labels that no edge touches, in either direction; each only speaks to itself."""
    links = _links(graph.counts, graph.totals, graph.threshold)
    return np.flatnonzero(~(links.any(axis=0) | links.any(axis=1)))


def _links(counts: npt.ArrayLike, totals: npt.ArrayLike, least: float) -> Array:
    """Zeros and ones ``(L, L)``: edges from row to column, none from a label to itself."""
    links = _links_at(conditional(counts, totals), least)
    np.fill_diagonal(links, 0.0)
    return links
