"""Labels are bound to columns by name, and all errors in a list of names are reported together."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msrn.errors import LabelError
from msrn.labels.space import LabelSpace

NO_TEXT = "".join(map(chr, range(32))) + "\x7f\ufeff"
NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=NO_TEXT), min_size=1)
    .map(str.strip)
    .filter(bool),
    min_size=1,
    max_size=8,
    unique=True,
)


def test_columns_follow_the_order_of_the_names() -> None:
    labels = LabelSpace(["dog", "cat", "sofa"])
    assert labels.names == ("dog", "cat", "sofa")
    assert (len(labels), list(labels), "cat" in labels, "cow" in labels) == (3, ["dog", "cat", "sofa"], True, False)
    assert labels.column("sofa") == 2
    assert labels.columns(["sofa", "dog", "sofa"]) == [2, 0, 2]


def test_digest_is_the_sha256_of_the_names_in_order() -> None:
    assert LabelSpace(["dog", "café"]).digest == hashlib.sha256("dog\ncafé".encode()).hexdigest()
    assert LabelSpace(["dog", "cat"]).digest != LabelSpace(["cat", "dog"]).digest


def test_spaces_are_equal_when_names_and_order_are() -> None:
    one, same, other = LabelSpace(["a", "b"]), LabelSpace(iter(["a", "b"])), LabelSpace(["b", "a"])
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != ("a", "b")
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_space_cannot_be_changed() -> None:
    labels = LabelSpace(["a"])
    with pytest.raises(AttributeError, match="immutable"):
        labels.names = ("b",)  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        del labels._names


def test_an_unknown_label_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(LabelError, match="'sofaa' is not in the label set") as caught:
        LabelSpace(["sofa", "chair"]).column("sofaa")
    assert "did you mean 'sofa'?" in str(caught.value)


def test_all_unknown_labels_are_reported_together() -> None:
    with pytest.raises(LabelError) as caught:
        LabelSpace(["sofa", "chair"]).columns(["sofaa", "chair", "zebra", "sofaa"])
    assert [problem.message for problem in caught.value.problems] == [
        "label 'sofaa' is not in the label set",
        "label 'zebra' is not in the label set",
    ]


def test_all_bad_names_are_reported_together() -> None:
    with pytest.raises(LabelError) as caught:
        LabelSpace(["cat", "", "dog", "cat", " cow", "a\nb", 7])  # type: ignore[list-item]
    text = str(caught.value)
    for part in ("is empty", "'cat' is given 2 times", "names 1, 4 of 7", "' cow' has spaces", "line break", "got 7"):
        assert part in text
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("names", [[], "cat"])
def test_no_names_or_a_single_string_are_refused(names: list[str]) -> None:
    with pytest.raises(LabelError):
        LabelSpace(names)


def test_encode_marks_the_given_names() -> None:
    target = LabelSpace(["a", "b", "c"]).encode(["c", "a"])
    assert target.dtype == np.float32
    assert target.tolist() == [1, 0, 1]
    assert LabelSpace(["a", "b"]).encode([]).tolist() == [0, 0]


def test_align_puts_the_columns_of_another_space_into_this_order() -> None:
    labels, other = LabelSpace(["c", "a"]), LabelSpace(["a", "b", "c"])
    assert np.array([10, 20, 30])[labels.align(other)].tolist() == [30, 10]
    with pytest.raises(LabelError, match="'b' is not in the label set"):
        other.align(labels)


def test_a_label_file_may_have_a_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffcat\r\n\r\n traffic light \r\nfür\n\n".encode())
    assert LabelSpace.read(file).names == ("cat", "traffic light", "für")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "cannot read"), (b"\xff\xfe\x00", "UTF-8"), (b"\n\n", "none"), (b"a\na\n", "2 times")],
)
def test_a_broken_label_file_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    file = tmp_path / "labels.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(LabelError, match=expected) as caught:
        LabelSpace.read(file)
    assert "labels.txt" in str(caught.value)


@given(names=NAMES)
def test_writing_and_reading_gives_the_same_labels(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("space")
    labels = LabelSpace(names)
    labels.write(folder / "deep" / "labels.txt")
    assert LabelSpace.read(folder / "deep" / "labels.txt") == labels
    assert [file.name for file in (folder / "deep").iterdir()] == ["labels.txt"]
