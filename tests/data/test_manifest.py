"""Manifests: codes and targets of the records, and writing and reading without loss."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msrn.data.manifest import DIFFICULT, NEGATIVE, POSITIVE, UNKNOWN, Manifest, Record
from msrn.data.readers.manifest import Options, read
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

LABELS = LabelSpace(["cat", "dog", "sofa"])
HEADER = '{"msrn_manifest": 1, "labels": ["cat", "dog", "sofa"], "split": "train", "source": ""}\n'


def manifest(root: Path, *records: Record) -> Manifest:
    return Manifest(records, LABELS, "train", root, "a test")


def test_codes_and_targets_are_those_of_the_records(tmp_path: Path) -> None:
    data = manifest(tmp_path, Record("a.jpg", ("dog",), ("cat",)), Record("b.jpg", (), (), ("sofa",)))
    assert data.codes().tolist() == [[DIFFICULT, POSITIVE, NEGATIVE], [NEGATIVE, NEGATIVE, UNKNOWN]]
    assert data.unknown_entries == 1
    assert data.codes().dtype == np.int8
    nan = np.nan
    for policy, value in (("positive", 1), ("negative", 0), ("ignore", nan)):
        expected = np.array([[value, 1, 0], [0, 0, nan]], np.float32)
        np.testing.assert_array_equal(data.targets(policy), expected)  # type: ignore[arg-type]


NO_TEXT = {*map(chr, range(32)), "\x7f", "\ufeff"}
names = st.text(min_size=1, max_size=12).filter(lambda name: name.strip() == name and not NO_TEXT & set(name))
images = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    labels = LabelSpace(draw(st.lists(names.filter(_encodable), min_size=1, max_size=5, unique=True)))
    records = []
    for image in draw(st.lists(images, min_size=1, max_size=6, unique_by=_normal)):
        states = draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels)))
        lists = [tuple(name for name, state in zip(labels, states, strict=True) if state == k) for k in (1, 2, 3)]
        records.append(Record(image, *lists))
    split, source = draw(st.text(max_size=8)), draw(st.text(max_size=8))
    return Manifest(tuple(records), labels, split, Path("/somewhere"), source)


def _normal(image: str) -> str:
    import posixpath

    return posixpath.normpath(image)


def _encodable(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


@settings(max_examples=60, deadline=None)
@given(manifests())
def test_writing_and_reading_is_the_identity_for_any_names(data: Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.jsonl"
        data.write(path)
        back = Manifest.read(path, root=data.root)
        assert back == data
        assert back.digest == data.digest
        assert [entry.name for entry in Path(folder).iterdir()] == ["m.jsonl"]  # nothing half written is left


def test_images_are_found_again_when_the_manifest_lies_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    data = manifest(tmp_path / "images", Record("a.jpg", ("cat",)))
    data.write(tmp_path / "lists" / "train.jsonl")
    (tmp_path / "lists").rename(tmp_path / "moved")
    assert Manifest.read(tmp_path / "moved" / "train.jsonl").path(0) == tmp_path / "images" / "a.jpg"


def test_the_digest_depends_on_content_and_not_on_place(tmp_path: Path) -> None:
    one = manifest(tmp_path, Record("a.jpg", ("cat",)))
    assert one.digest == manifest(tmp_path / "x", Record("a.jpg", ("cat",))).digest
    assert one.digest != manifest(tmp_path, Record("a.jpg", ("dog",))).digest
    assert one.digest != manifest(tmp_path, Record("b.jpg", ("cat",))).digest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "b.jpg", "positives": ["cats"]}', "'cats' is not in the label set"),
        ('{"image": "b.jpg", "positives": "cat"}', "lists of label names"),
        ('{"image": "b.jpg", "positives": ["cat"], "unknown": ["cat"]}', "named twice"),
        ('{"image": "b.jpg", "positive": ["cat"]}', "expected image, positives"),
        ('{"image": "./a.jpg", "positives": []}', "named twice"),
        ('{"image": "", "positives": []}', "expected a file name"),
        ('{"image": "b.jpg"}', "expected positives"),
        ('{"image": "b.jpg", "unknown": ["cat"]}', "expected positives"),
        ('{"positives": []}', "expected image"),
        ("[]", "JSON object"),
        ("{", "broken record"),
    ],
)
def test_a_broken_record_is_named_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{HEADER}{{"image": "a.jpg", "positives": []}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        Manifest.read(path)
    assert caught.value.problems[0].where == f"{path}, line 4"


def test_all_broken_records_come_together(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(HEADER + '{"image": "a", "positives": ["x", "y"]}\n{\n', encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Manifest.read(path)
    assert [problem.where.rpartition(" ")[2] for problem in caught.value.problems] == ["2", "2", "3"]


@pytest.mark.parametrize(
    "text", ["", "{}\n", "image,labels\n", '{"msrn_manifest": 2, "labels": ["a"]}\n', '{"msrn_manifest": 1}\n', HEADER]
)
def test_a_file_without_header_or_records_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest|no images"):
        Manifest.read(path)


def test_windows_line_ends_and_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    text = HEADER + '{"image": "a.jpg", "positives": ["cat"]}\n'
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert Manifest.read(path).records == (Record("a.jpg", ("cat",)),)


def test_the_manifest_reader_binds_to_a_label_set_by_name_and_refuses_another_one(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    manifest(tmp_path, Record("a.jpg", ("dog",))).write(path)
    turned = read(Options(), "", str(path), LabelSpace(["sofa", "dog", "cat"]))
    assert turned.codes().tolist() == [[0, 1, 0]]
    with pytest.raises(DataError) as caught:
        read(Options(), "", str(path), LabelSpace(["cat", "dog", "bird"]))
    assert {problem.message for problem in caught.value.problems} == {
        "label 'sofa' is not in the label set",
        "the manifest lacks label 'bird'",
    }


def test_a_header_is_one_json_object_that_people_can_read(tmp_path: Path) -> None:
    manifest(tmp_path, Record("ü.jpg")).write(tmp_path / "m.jsonl")
    lines = (tmp_path / "m.jsonl").read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[0])["labels"] == list(LABELS)
    assert "ü.jpg" in lines[1]
