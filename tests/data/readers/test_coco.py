"""COCO annotations: what the field does with them, and every way in which a file can be broken."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msrn.config import DataSettings, ReaderSettings
from msrn.data import READERS
from msrn.data.manifest import Record
from msrn.data.readers import coco as module
from msrn.data.readers.coco import read_coco
from msrn.errors import DataError, MsrnError
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
    assert data.source == (
        "COCO instances_train2014, pictures without objects dropped (1), "
        "crowd regions count (1 labels shown by them alone)"
    )


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
    value["annotations"] += [{"image_id": 62, "category_id": 1}]
    value["categories"] += [{"id": 4, "name": "a\ud800"}, {"id": 5, "name": "a\nb"}]
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
        "train2014/C:\\a.jpg, found none",
        "picture './20.jpg' is named twice",
        "id 18 is given twice",
        "category 'a\\ud800' is no line of text",
        "category 'a\\nb' is no line of text",
        "category 'dog' is given twice",
        'expected an id and a name, got {"id": true',
        "no picture has the id 99",
        "no category has the id 99",
        'expected an image_id and a category_id, got {"image_id": [10]',
        "expected iscrowd to be 0 or 1, got 2",
        f"{path}, annotations[7]",
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


def test_pictures_that_are_nowhere_are_one_problem_that_says_where_was_looked(tmp_path: Path) -> None:
    path = write(tmp_path, tree())
    (tmp_path / "train2014").rename(tmp_path / "photos")
    with pytest.raises(DataError, match=r"expected pictures such as '10\.jpg', found none") as error:
        read_coco(tmp_path, "train")
    assert len(error.value.problems) == 1
    assert "--data.reader.images" in error.value.hint
    for place in ("train2014", "train", "images/train2014", "annotations/images"):
        assert str(tmp_path / place) in error.value.hint
    assert len(read_coco(tmp_path, str(path), images="photos")) == 3


def test_the_folder_is_found_although_its_first_picture_is_missing(tmp_path: Path) -> None:
    write(tmp_path, tree())
    (tmp_path / "train2014" / "10.jpg").unlink()
    with pytest.raises(DataError) as error:
        read_coco(tmp_path, "train")
    assert told(error.value).startswith(f"expected a picture at {tmp_path / 'train2014' / '10.jpg'}, found none")


def test_a_link_may_not_leave_the_folder_of_pictures_but_that_may_be_one(tmp_path: Path) -> None:
    write(tmp_path, tree(), images="elsewhere")
    (tmp_path / "train2014").symlink_to(tmp_path / "elsewhere")
    assert len(read_coco(tmp_path, "train")) == 3
    inside, outside = tmp_path / "elsewhere" / "10.jpg", tmp_path / "secret.jpg"
    inside.rename(inside.with_name("other.jpg"))
    inside.symlink_to("other.jpg")
    assert len(read_coco(tmp_path, "train")) == 3
    outside.touch()
    inside.unlink()
    inside.symlink_to(outside)
    with pytest.raises(DataError, match=r"picture '10\.jpg' is a link that leaves"):
        read_coco(tmp_path, "train")


def test_an_absolute_name_will_do_if_it_lies_in_the_folder(tmp_path: Path) -> None:
    value = tree()
    value["images"][0]["file_name"] = str(tmp_path / "train2014" / "10.jpg")
    write(tmp_path, value)
    data = read_coco(tmp_path, "train")
    assert data.path(0) == tmp_path / "train2014" / "10.jpg"


def test_a_path_of_windows_is_refused_with_a_hint(tmp_path: Path) -> None:
    value = tree()
    value["images"][0]["file_name"] = "a\\10.jpg"
    write(tmp_path, value)
    with pytest.raises(DataError, match="write folders with forward slashes"):
        read_coco(tmp_path, "train")


def test_numbers_of_annotations_say_nothing(tmp_path: Path) -> None:
    write(tmp_path, tree())
    expected = read_coco(tmp_path, "train").records
    value = tree()
    for annotation in value["annotations"]:
        annotation["id"] = 1
    del value["annotations"][0]["id"]
    write(tmp_path, value)
    assert read_coco(tmp_path, "train").records == expected


def test_thousands_of_problems_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    value = tree()
    value["annotations"] += [{"image_id": 99, "category_id": 1}] * 5000
    write(tmp_path, value)
    with pytest.raises(DataError) as error:
        read_coco(tmp_path, "train")
    assert len(error.value.problems) == 5000
    assert "5,000 problems" in str(error.value)
    assert len(str(error.value)) < 20_000


KNOWN = st.sampled_from([10, 18, "10.jpg", "\ud800", "a\0b", "../10.jpg", "x" * 300 + ".jpg", " dog "])
ANYTHING = st.recursive(
    KNOWN | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("id", "file_name", "name", "image_id", "category_id", "iscrowd")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_an_entry_holds_it_is_read_or_refused_in_words(tmp_path: Path, data: st.DataObject) -> None:
    value = tree()
    part = data.draw(st.sampled_from(["images", "categories", "annotations"]))
    entry = data.draw(ANYTHING | st.dictionaries(st.sampled_from(FIELDS), ANYTHING))
    value[part].insert(data.draw(st.integers(0, len(value[part]))), entry)
    write(tmp_path, value)
    with contextlib.suppress(MsrnError):
        assert {"10.jpg", "20.jpg", "30.jpg"} <= {record.image for record in read_coco(tmp_path, "train").records}


def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, tree())
    path.write_text(path.read_text().replace('"id": 10,', f'"id": {"1" * 5000},'))
    with pytest.raises(DataError, match="no JSON"):
        read_coco(tmp_path, "train")


def test_numbers_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, tree())
    path.write_text(path.read_text().replace('"id": 10,', '"id": NaN,').replace('"iscrowd": 1', '"iscrowd": Infinity'))
    with pytest.raises(DataError) as error:
        read_coco(tmp_path, "train")
    assert 'expected an id and a file_name, got {"id": NaN' in told(error.value)
    assert "expected iscrowd to be 0 or 1, got Infinity" in told(error.value)


LETTERS = st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["C"])
NAMES = st.text(LETTERS, min_size=1, max_size=8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES.map(str.strip).filter(bool), min_size=1, max_size=4, unique=True), st.data())
def test_any_names_are_read_as_they_are(tmp_path: Path, names: list[str], data: st.DataObject) -> None:
    files = data.draw(st.lists(NAMES.filter(lambda name: name.strip() and name not in {".", ".."}), unique=True))
    folder = tmp_path / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in files:
        (folder / name).touch()
    value = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(files)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [{"image_id": number, "category_id": number % len(names)} for number in range(len(files))],
    }
    path = tmp_path / "instances_any.json"
    path.write_text(json.dumps(value, ensure_ascii=data.draw(st.booleans())), encoding="utf-8")
    if not files:
        with pytest.raises(DataError, match="the file has no images"):
            read_coco(tmp_path, str(path), images="pictures")
        return
    back = read_coco(tmp_path, str(path), images="pictures", by_id=True)
    assert back.labels.names == tuple(names)
    assert [(record.image, *record.positives) for record in back.records] == [
        (name, names[number % len(names)]) for number, name in enumerate(files)
    ]


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


def published(shared: Path) -> dict[str, set[str]]:
    """Pictures of the label list that the published program used, and what they show."""
    names = json.loads((shared / "published" / "label_orders.json").read_text())["coco_list_order"]
    lines = (shared / "data" / "label_lists" / "coco2014_train_82081.txt").read_text().splitlines()
    return {line.split(",")[0]: {names[int(n)] for n in line.split(",")[1].split()} for line in lines}


def test_the_sample_shows_what_the_published_list_says(shared: Path) -> None:
    by_number = {int(name[-16:-4]): shown for name, shown in published(shared).items()}
    compared = 0
    for split in ("train", "val"):
        for record in read_coco(shared / "data" / "coco_sample", split).records:
            number = int(Path(record.image).stem)
            if number in by_number:
                compared += 1
                assert set(record.positives) == by_number[number], record
    assert compared == 217


def test_counts_of_a_file_of_the_published_labels_are_the_published_ones(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 82,081 pictures and 702 without objects, without files of pictures: where they lie is another test's."""
    lists = published(shared)
    categories = {name: number for number, name in enumerate(sorted(set().union(*lists.values())), start=7)}
    files = [*lists, *(f"empty {number}.jpg" for number in range(702))]
    value = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(files)],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": [
            {"image_id": number, "category_id": categories[label]}
            for number, shown in enumerate(lists.values())
            for label in shown
        ],
    }
    write(tmp_path, value)
    monkeypatch.setattr(module, "missing_images", lambda root, images: [])
    data = read_coco(tmp_path, "train", images="train2014")
    assert len(data) == 82_081
    assert "dropped (702)" in data.source
    target = data.targets("negative")
    together = (target.T @ target).astype(int)
    figures = np.load(shared / "published" / "coco.npz")
    np.testing.assert_array_equal(together.diagonal(), figures["totals"])
    np.fill_diagonal(together, 0)
    np.testing.assert_array_equal(together, figures["counts"])
