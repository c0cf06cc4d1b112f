"""COCO annotations: what the field does with them, and every way in which a file can be broken."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msrn.config import DataSettings, ReaderSettings
from msrn.data import READERS
from msrn.data.coco import read_coco
from msrn.data.convert import convert
from msrn.data.records import Manifest, Record
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

OUTLINE = [[1.5, 2.5, 3.0, 4.0, 5.0, 6.0]]


def tree() -> dict[str, Any]:
    """Four pictures: a dog and two people; a crowd of people alone; a dog and a crowd of dogs; nothing."""
    objects = [(10, 18, 0), (10, 1, 0), (10, 1, 0), (20, 1, 1), (30, 18, 0), (30, 18, 1)]
    return {
        "info": {"year": 2014},
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 8, "height": 6} for n in (10, 20, 30, 40)],
        "categories": [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 1, "name": "person", "supercategory": "person"},
        ],
        "annotations": [
            {
                "id": n,
                "image_id": image,
                "category_id": category,
                "iscrowd": crowd,
                "segmentation": {"counts": [1, 2], "size": [6, 8]} if crowd else OUTLINE,
            }
            for n, (image, category, crowd) in enumerate(objects)
        ],
    }


TRAIN = "annotations/instances_train2014.json"


def write(folder: Path, value: Any, name: str = TRAIN, images: str = "train2014") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    (folder / images).mkdir(parents=True, exist_ok=True)
    for number in (10, 20, 30, 40):
        (folder / images / f"{number}.jpg").touch()
    return path


def told(error: DataError) -> str:
    return "\n".join(str(problem) for problem in error.problems)


def test_a_picture_shows_every_category_of_its_annotations_once(tmp_path: Path) -> None:
    write(tmp_path, tree())
    data = read_coco(tmp_path, "train")
    assert data.labels.names == ("dog", "person")
    assert data.records == (
        Record("10.jpg", ("dog", "person")),
        Record("20.jpg", ("person",)),
        Record("30.jpg", ("dog",)),
    )
    assert data.root == tmp_path / "train2014"
    assert data.source == "COCO instances_train2014, pictures without objects dropped (1), crowd regions count"


def test_crowds_and_empty_pictures_are_a_choice_that_is_named(tmp_path: Path) -> None:
    write(tmp_path, tree())
    reader = ReaderSettings(crowd="skip", without_labels="keep")
    data = READERS["coco"](DataSettings(format="coco", root=str(tmp_path), reader=reader), "train2014", None)
    assert [record.positives for record in data.records] == [("dog", "person"), (), ("dog",), ()]
    assert data.source.endswith("objects kept (2), crowd regions skipped (1 labels shown by them alone)")


def test_columns_by_name_or_by_category_number(tmp_path: Path) -> None:
    write(tmp_path, tree())
    assert read_coco(tmp_path, "train", by_id=True).labels.names == ("person", "dog")
    given_labels = LabelSpace(["person", "dog"])
    by_name = read_coco(tmp_path, "train", given_labels)
    assert by_name.codes().tolist() == [[1, 1], [1, 0], [0, 1]]


@pytest.mark.parametrize("split", ["train", "train2014", "annotations/instances_train2014.json"])
def test_a_split_is_found_by_its_name_or_file(tmp_path: Path, split: str) -> None:
    path = write(tmp_path, tree())
    assert len(read_coco(tmp_path, split)) == 3
    assert len(read_coco("", str(path), images=str(tmp_path / "train2014"))) == 3


@pytest.mark.parametrize("images", ["train2014", "train", "images/train2014", "images", "."])
def test_pictures_are_found_in_the_usual_places(tmp_path: Path, images: str) -> None:
    write(tmp_path, tree(), images=images)
    assert read_coco(tmp_path, "train").path(0) == tmp_path / images / "10.jpg"


def test_pictures_are_found_in_the_folder_that_is_named(tmp_path: Path) -> None:
    write(tmp_path, tree(), images="elsewhere/deep")
    data = DataSettings(format="coco", root=str(tmp_path), reader=ReaderSettings(images="elsewhere/deep"))
    assert READERS["coco"](data, "train", None).path(0).is_file()


def test_an_unknown_split_names_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, tree())
    with pytest.raises(DataError, match=r"no annotations of split 'val'") as error:
        read_coco(tmp_path, "val")
    assert "instances_train2014.json" in str(error.value)


def test_two_years_in_one_folder_must_be_told_apart(tmp_path: Path) -> None:
    write(tmp_path, tree())
    write(tmp_path, tree(), "annotations/instances_train2017.json")
    with pytest.raises(DataError, match=r"could be instances_train2014\.json, instances_train2017\.json"):
        read_coco(tmp_path, "train")


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    value = tree()
    value["images"] += [{"id": 10, "file_name": "again.jpg"}, {"id": 50}, {"id": 60, "file_name": "../out.jpg"}, 7]
    value["images"] += [{"id": 61, "file_name": "/etc/passwd"}, {"id": 62, "file_name": "C:\\a.jpg"}]
    value["images"] += [{"id": 63, "file_name": "./20.jpg"}]
    value["categories"] += [{"id": 18, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": True, "name": "x"}]
    value["annotations"] += [{"image_id": 99, "category_id": 1}, {"image_id": 10, "category_id": 99}]
    value["annotations"] += [{"image_id": [10], "category_id": 1}, {"image_id": 10, "category_id": 1, "iscrowd": 2}]
    path = write(tmp_path, value)
    with pytest.raises(DataError) as error:
        read_coco(tmp_path, "train")
    for expected in (
        "id 10 is given twice",
        'expected an id and a file_name, got {"id": 50}',
        "expected an id and a file_name, got 7",
        "picture '../out.jpg' lies outside",
        "picture '/etc/passwd' lies outside",
        "picture 'C:/a.jpg' lies outside",
        "picture './20.jpg' is named twice",
        "id 18 is given twice",
        "category 'dog' is given twice",
        'expected an id and a name, got {"id": true',
        "no picture has the id 99",
        "no category has the id 99",
        'expected an image_id and a category_id, got {"image_id": [10]',
        "expected iscrowd to be 0 or 1, got 2",
        f"{path}, annotations[6]",
    ):
        assert expected in told(error.value), expected


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    write(tmp_path, tree())
    (tmp_path / "train2014" / "20.jpg").unlink()
    with pytest.raises(DataError, match=r"expected a picture at .*20\.jpg"):
        read_coco(tmp_path, "train")


def test_a_label_set_must_have_the_same_names(tmp_path: Path) -> None:
    write(tmp_path, tree())
    with pytest.raises(DataError) as error:
        read_coco(tmp_path, "train", LabelSpace(["dogs", "person"]))
    assert "category 'dog' is not in the label set" in told(error.value)
    assert "did you mean 'dogs'?" in told(error.value)
    assert "label 'dogs' of the label set is no category" in told(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "nested too deeply|no JSON"),
        ("[]", "expected lists named images, categories, annotations, got list"),
        ('{"images": [], "annotations": {}}', "got images, annotations"),
        ('{"images": [], "annotations": [], "categories": []}', "broken"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "instances_train.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_coco(tmp_path, "train")


def test_a_byte_order_mark_and_other_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path, tree())
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(tree(), indent=1).replace("\n", "\r\n").encode())
    assert len(read_coco(tmp_path, "train")) == 3


LETTERS = st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["C"])
NAMES = st.text(LETTERS, min_size=1, max_size=8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES.map(str.strip).filter(bool), min_size=1, max_size=4, unique=True), st.data())
def test_what_convert_writes_is_read_back(tmp_path: Path, names: list[str], data: st.DataObject) -> None:
    shown = data.draw(st.lists(st.sets(st.sampled_from(names), min_size=1), min_size=1, max_size=4))
    labels = LabelSpace(sorted(names))
    records = tuple(Record(f"{number} ü.jpg", tuple(sorted(some))) for number, some in enumerate(shown))
    for record in records:
        (tmp_path / record.image).touch()
    written = Manifest(records, labels, "train", tmp_path)
    path = convert(written, tmp_path / "out.json", "coco", force=True)
    back = read_coco("", str(path))
    assert (back.records, back.labels, back.root) == (records, labels, tmp_path)


def test_the_sample_has_the_labels_that_its_own_annotations_count(shared: Path) -> None:
    root = shared / "data" / "coco_sample"
    for split, pictures in (("train", 373), ("val", 120)):
        data = read_coco(root, split)
        assert (len(data), len(data.labels)) == (pictures, 80)
        raw = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        name = {category["id"]: category["name"] for category in raw["categories"]}
        pairs = {(entry["image_id"], name[entry["category_id"]]) for entry in raw["annotations"]}
        shown = Counter(label for record in data.records for label in record.positives)
        assert shown == Counter(label for _, label in pairs)
