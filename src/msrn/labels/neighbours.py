"""Do the vectors make sense? Which labels, and which words of the vocabulary, lie nearest to each label."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from msrn.labels.embedding_tables import Floats, WordTable
from msrn.labels.space import LabelSpace

__all__ = ["Near", "nearest_labels", "nearest_words"]

Near = list[tuple[str, float]]
"""Names with their cosine, nearest first."""

_WORDS_AT_A_TIME = 10_000


def nearest_labels(labels: LabelSpace, values: npt.ArrayLike, *, count: int = 3) -> list[Near]:
    """For each label the nearest other labels.

    Args:
        labels: L names.
        values: ``(L, E)`` vectors, in the order of the labels.
        count: neighbours at most.

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
    table: WordTable, values: npt.ArrayLike, *, without: Sequence[Collection[str]], count: int = 4, among: int = 50_000
) -> list[Near]:
    """For each vector the nearest words of a table; its frequent words alone are looked at, for others are odd.

    Args:
        table: of words.
        values: ``(n, E)`` vectors of the table's width.
        without: for each vector, words that are not told (those it was made of).
        count: neighbours at most.
        among: words looked at, the first of the table.
    """
    words = [word for word, place in table.rank.items() if place < among]
    unit = _unit(values)
    found: list[Near] = [[] for _ in without]
    for start in range(0, len(words), _WORDS_AT_A_TIME):
        block = words[start : start + _WORDS_AT_A_TIME]
        cosines = unit @ _unit(table.take(block)).T  # (n, words)
        keep = min(count + max(map(len, without), default=0), len(block))
        best = np.argpartition(-cosines, keep - 1, axis=1)[:, :keep]
        for row, columns in enumerate(best.tolist()):
            new = [
                (block[column], float(cosines[row, column])) for column in columns if block[column] not in without[row]
            ]
            found[row] = sorted(found[row] + new, key=lambda pair: -pair[1])[:count]
    return found


def _unit(values: npt.ArrayLike) -> Floats:
    vectors = np.asarray(values, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
