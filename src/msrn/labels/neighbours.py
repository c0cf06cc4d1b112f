"""Nearest labels and nearest words of label embeddings, for checking that the embeddings make sense."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from msrn.labels.embedding_tables import EmbeddingTable, Floats
from msrn.labels.space import LabelSpace

__all__ = ["Neighbours", "nearest_labels", "nearest_words"]

Neighbours = list[tuple[str, float]]
"""Names with their cosine similarity, nearest first."""

_WORDS_AT_A_TIME = 10_000


def nearest_labels(labels: LabelSpace, values: npt.ArrayLike, *, count: int = 3) -> list[Neighbours]:
    """For each label the nearest other labels.

    Args:
        labels: L names.
        values: ``(L, E)`` embeddings, in the order of the labels.
        count: maximum number of neighbours.

    Example:
        >>> nearest_labels(LabelSpace(["cat", "dog", "sofa"]), [[1, 0], [3, 0], [0, 1]], count=1)
        [[('dog', 1.0)], [('cat', 1.0)], [('cat', 0.0)]]
    """
    unit = _unit(values)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, : min(count, len(labels) - 1)]
    return [
        [(labels[column], float(cosines[row, column])) for column in nearest.tolist()]
        for row, nearest in enumerate(order)
    ]


def nearest_words(
    table: EmbeddingTable,
    values: npt.ArrayLike,
    *,
    exclude: Sequence[Collection[str]],
    count: int = 4,
    most_frequent: int = 50_000,
) -> list[Neighbours]:
    """For each embedding the nearest words of a table, among its frequent words; rare ones are mostly noise.

    Args:
        table: words with vectors.
        values: ``(n, E)`` embeddings of the table's width.
        exclude: for each embedding, the words to leave out (those it was made of).
        count: maximum number of neighbours.
        most_frequent: number of words considered, from the start of the table.
    """
    words = [word for word, place in table.rank.items() if place < most_frequent]
    unit = _unit(values)
    found: list[Neighbours] = [[] for _ in exclude]
    for start in range(0, len(words), _WORDS_AT_A_TIME):
        block = words[start : start + _WORDS_AT_A_TIME]
        cosines = unit @ _unit(table.take(block)).T  # (n, words)
        keep = min(count + max(map(len, exclude), default=0), len(block))
        best = np.argpartition(-cosines, keep - 1, axis=1)[:, :keep]
        for row, columns in enumerate(best.tolist()):
            new = [
                (block[column], float(cosines[row, column])) for column in columns if block[column] not in exclude[row]
            ]
            found[row] = sorted(found[row] + new, key=lambda pair: -pair[1])[:count]
    return found


def _unit(values: npt.ArrayLike) -> Floats:
    vectors = np.asarray(values, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
