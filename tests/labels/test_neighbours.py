"""Neighbours of label embeddings, against cosines computed one pair at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from msrn.labels import neighbours
from msrn.labels.embedding_tables import EmbeddingTable, open_table
from msrn.labels.neighbours import nearest_labels, nearest_words
from msrn.labels.space import LabelSpace

WORDS = [f"word{number}" for number in range(40)]
TABLE = np.random.default_rng(0).normal(size=(40, 6))
VECTORS = np.random.default_rng(1).normal(size=(7, 6))
NAMES = LabelSpace([f"label{number}" for number in range(7)])


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """In double precision, by the definition."""
    lengths = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


@pytest.fixture
def table(tmp_path: Path) -> EmbeddingTable:
    rows = [f"{word} {' '.join(map(repr, row))}" for word, row in zip(WORDS, TABLE.tolist(), strict=True)]
    path = tmp_path / "glove.txt"
    path.write_text("\n".join(rows) + "\n")
    return open_table(path)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_nearest_labels_are_those_of_the_highest_cosine(count: int) -> None:
    found = nearest_labels(NAMES, VECTORS, count=count)
    for row, near in enumerate(found):
        others = [(cosine(VECTORS[row], VECTORS[column]), NAMES[column]) for column in range(7) if column != row]
        best = sorted(others, key=lambda pair: -pair[0])[:count]
        assert [name for name, _ in near] == [name for _, name in best]
        assert [value for _, value in near] == pytest.approx([value for value, _ in best], abs=1e-6)


@pytest.mark.parametrize("at_a_time", [3, 10_000])
def test_nearest_words_are_those_of_the_highest_cosine(
    table: EmbeddingTable, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(neighbours, "_WORDS_AT_A_TIME", at_a_time)
    nearest = [sorted(range(30), key=lambda number: -cosine(vector, TABLE[number])) for vector in VECTORS]
    exclude = [{WORDS[number] for number in nearest[row][:2]} if row % 2 else set() for row in range(7)]
    found = nearest_words(table, VECTORS, exclude=exclude, count=4, most_frequent=30)
    for row, near in enumerate(found):
        allowed = [number for number in range(30) if WORDS[number] not in exclude[row]]
        best = sorted(((cosine(VECTORS[row], TABLE[number]), WORDS[number]) for number in allowed), reverse=True)[:4]
        assert [name for name, _ in near] == [name for _, name in best]
        assert [value for _, value in near] == pytest.approx([value for value, _ in best], abs=1e-5)


def test_no_more_words_are_returned_than_there_are(table: EmbeddingTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_WORDS_AT_A_TIME", 4)
    found = nearest_words(table, VECTORS[:2], exclude=[{"word0", "no such word"}, WORDS[:9]], count=50, most_frequent=9)
    assert {name for name, _ in found[0]} == set(WORDS[1:9])
    assert [value for _, value in found[0]] == sorted((value for _, value in found[0]), reverse=True)
    assert found[1] == []


def test_zeros_among_words_or_vectors_have_cosine_zero_with_everything(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("nothing 0 0\ncat 1 0\ndog 0 2\n")
    found = nearest_words(open_table(tmp_path / "glove.txt"), [[-3, 0.1], [0, 0]], exclude=[set(), set()])
    assert [name for name, _ in found[0]] == ["dog", "nothing", "cat"]
    assert found[0][1][1] == 0
    assert sorted(found[1]) == [("cat", 0.0), ("dog", 0.0), ("nothing", 0.0)]


def test_an_embedding_of_zeros_is_near_to_nothing() -> None:
    found = nearest_labels(LabelSpace(["nothing", "cat", "dog"]), [[0, 0], [1, 0], [-1, 0]])
    assert found[0] == [("cat", 0.0), ("dog", 0.0)]
    assert found[1] == [("nothing", 0.0), ("dog", -1.0)]


def test_one_label_has_no_neighbour() -> None:
    assert nearest_labels(LabelSpace(["cat"]), [[1.0, 2.0]]) == [[]]
