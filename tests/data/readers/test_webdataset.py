"""WebDataset shards: samples by key, labels from json, cls or txt."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from msrn.data.manifest import Manifest
from msrn.data.readers.webdataset import Options, read, read_shards
from msrn.errors import DataError
from msrn.labels.space import LabelSpace


def shard(path: Path, members: dict[str, Any]) -> Path:
    """A tar file; contents that are no bytes are written as JSON or text."""
    with tarfile.open(path, "w") as tar:
        for name, value in members.items():
            text = json.dumps(value) if isinstance(value, dict | list) else value
            content = text.encode() if isinstance(text, str) else text
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def states(data: Manifest) -> list[list[int]]:
    return data.codes().tolist()


@pytest.mark.parametrize(
    "members",
    [
        {"a.json": {"labels": ["cat", "dog"]}, "b.json": {"labels": []}, "c.json": {"labels": None}},
        {"a.json": {"labels": "cat|dog", "x": 1}, "b.json": {"labels": "-"}, "c.json": {"x": 2}},
        {"a.json": {"positives": ["cat", "dog"]}, "b.json": {"positives": []}},
        {"a.txt": "dog, cat", "b.txt": "-", "c.txt": "\n"},
        {"a.txt": b"\xef\xbb\xbfdog\r\ncat\r\n", "b.txt": "-"},
        {"a.json": {"width": 3}, "a.txt": "cat,dog", "b.txt": "-"},
    ],
)
def test_all_kinds_of_labels_mean_the_same(tmp_path: Path, members: dict[str, Any]) -> None:
    images = {f"{key}.jpg": key.encode() for key in "abc"}
    data = read_shards([shard(tmp_path / "s.tar", images | members)])
    assert data.labels.names == ("cat", "dog")
    assert states(data) == [[1, 1], [0, 0], [-1, -1]]
    assert [data.image_bytes(index) for index in range(3)] == [b"a", b"b", b"c"]


def test_a_class_is_a_name_or_a_number_with_a_list_of_names(tmp_path: Path) -> None:
    named = shard(tmp_path / "s.tar", {"a.jpg": b"", "a.cls": "sea side\n", "b.jpg": b"", "b.cls": b"cat"})
    assert states(read_shards([named])) == [[0, 1], [1, 0]]
    numbered = shard(tmp_path / "n.tar", {"a.jpg": b"", "a.cls": "2\n", "b.jpg": b"", "b.cls": b"0"})
    with pytest.raises(DataError, match="no class names are known") as caught:
        read_shards([numbered])
    assert caught.value.problems[0].where == f"{numbered}::a.cls"
    (tmp_path / "classnames.txt").write_text("sea\ncat\ndog\n")
    data = read_shards([numbered])
    assert (data.labels.names, states(data)) == (("sea", "cat", "dog"), [[0, 0, 1], [1, 0, 0]])
    assert states(read_shards([numbered], LabelSpace(["dog", "sea"]))) == [[1, 0], [0, 1]]


def test_a_field_or_a_kind_may_be_chosen(tmp_path: Path) -> None:
    members = {"a.jpg": b"", "a.json": {"labels": ["x"], "mine": ["y"]}, "a.txt": "z", "a.cls": "w"}
    shard(tmp_path / "train-0.tar", members)
    for column, label in (("", "x"), ("mine", "y"), ("txt", "z"), ("cls", "w")):
        data = read(Options(label_column=column), str(tmp_path), "train", None)
        assert data.labels.names == (label,)
    with pytest.raises(DataError, match="no column 'min'"):
        read(Options(label_column="min"), str(tmp_path), "train", None)


def test_partial_and_difficult_labels_are_read(tmp_path: Path) -> None:
    states_by_name = {"positives": ["a"], "difficult": ["b"], "unknown": ["c"]}
    data = read_shards(
        [shard(tmp_path / "s.tar", {"1.jpg": b"", "1.json": states_by_name})], LabelSpace(["a", "b", "c", "d"])
    )
    assert states(data) == [[1, 2, -1, 0]]
    (tmp_path / "classnames.txt").write_text("a\nb\nc\nd\n")
    beside = {"1.jpg": b"", "1.json": {"labels": [0], "unknown": [2, 3]}, "2.jpg": b"", "2.json": {"labels": None}}
    assert states(read_shards([shard(tmp_path / "t.tar", beside)])) == [[1, 0, -1, -1], [-1] * 4]


def test_a_key_ends_at_the_first_dot_of_the_file_s_name(tmp_path: Path) -> None:
    members = {
        "v1.0/a.jpg": b"1",
        "v1.0/a.txt": "x",
        "v1.0/a.seg.png": b"",
        "__MACOSX/w/b.jpg": b"",
        "w/a.JPEG": b"2",
        "w/a.TXT": "y",
        "./w/c.jpg": b"3",
        "./w/c.txt": "z",
        "._a.jpg": b"",
        "__key__.jpg": b"",
        "w/.hidden.jpg": b"",
    }
    data = read_shards([shard(tmp_path / "s.tar", members)])
    assert [(data.image_bytes(index), data.records[index].positives) for index in range(3)] == [
        (b"1", ("x",)),
        (b"2", ("y",)),
        (b"3", ("z",)),
    ]


def test_many_shards_are_one_manifest_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for number in range(3):
        shard(tmp_path / "shards" / f"train-{number}.tar", {"x.jpg": b"%d" % number, "x.txt": f"t{number}"})
    data = read(Options(), str(tmp_path), "shards/train-{0..2}.tar", None)
    assert data.source == "train-0.tar and 2 more shards, txt"
    data.write(tmp_path / "m.jsonl")
    back = Manifest.read(tmp_path / "m.jsonl")
    assert [back.image_bytes(index) for index in range(3)] == [b"0", b"1", b"2"]
    assert back.labels.names == ("t0", "t1", "t2")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.jpg": b"", "a.png": b"", "a.txt": "x"}, "two images"),
        ({"a.txt": "x"}, "no image"),
        ({"my.photo.jpg": b"", "a.jpg": b"", "a.txt": "x"}, "no image, only photo.jpg"),
        ({"a.jpg": b""}, "no member holds labels"),
        ({"a.jpg": b"", "a.json": "{"}, "cannot read the labels"),
        ({"a.jpg": b"", "a.json": [1]}, "expected a JSON object, got list"),
        ({"a.jpg": b"", "a.json": "[" * 9000}, "cannot read the labels"),
        ({"a.jpg": b"", "a.json": {"width": 1}}, "expected a field of labels"),
        ({"a.jpg": b"", "a.txt": b"\xff"}, "cannot read the labels"),
        ({"a.jpg": b"", "a.txt": "x" * 101}, "at most 100 bytes"),
        ({"a.jpg": b"", "a.json": {"labels": [1, 2]}}, "no class names"),
        ({}, "hold no images"),
    ],
)
def test_samples_that_make_no_sense_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("msrn.data.readers.webdataset.MAX_TEXT_BYTES", 100 if "x" * 101 in members.values() else 2**20)
    path = shard(tmp_path / "s.tar", members)
    with pytest.raises(DataError) as caught:
        read_shards([path])
    assert any(message in problem.message for problem in caught.value.problems), caught.value
    assert str(path) in caught.value.problems[0].where


def test_problems_of_all_shards_come_together(tmp_path: Path) -> None:
    paths = [shard(tmp_path / f"{number}.tar", {"a.jpg": b"", "b.txt": "x"}) for number in range(2)]
    (tmp_path / "2.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(DataError) as caught:
        read_shards([*paths, tmp_path / "2.tar"])
    assert [Path(problem.where).name for problem in caught.value.problems] == ["0.tar", "1.tar", "2.tar"]
