"""COCO annotations: the options, and every way in which a file can be broken."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msrn.data.manifest import Manifest, Record
from msrn.data.readers.coco import Options, read
from msrn.errors import DataError, MsrnError
from msrn.labels.space import LabelSpace


def read_coco(root: Path | str, split: str, labels: LabelSpace | None = None, **options: Any) -> Manifest:
    return read(Options(**options), str(root), split, labels)


OUTLINE = [[1.5, 2.5, 3.0, 4.0, 5.0, 6.0]]


def tree() -> dict[str, Any]:
    """Four images: a dog and two people; a crowd of people alone; a dog and a crowd of dogs; nothing."""
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


def text_of(error: DataError) -> str:
    return "\n".join(str(problem) for problem in error.problems)


def test_an_image_shows_every_category_of_its_annotations_once(tmp_path: Path) -> None:
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
        "COCO instances_train2014, images without objects dropped (1), crowd regions count (1 labels from them alone)"
    )


def test_crowds_and_empty_images_are_a_choice_that_is_named(tmp_path: Path) -> None:
    write(tmp_path, tree())
    data = read_coco(tmp_path, "train2014", crowd="skip", empty="keep")
    assert [record.positives for record in data.records] == [("dog", "person"), (), ("dog",), ()]
    assert data.source.endswith("objects kept (2), crowd regions skipped (1 labels from them alone)")


def test_columns_by_name_or_by_category_number(tmp_path: Path) -> None:
    write(tmp_path, tree())
    assert read_coco(tmp_path, "train", order="id").labels.names == ("person", "dog")
    given_labels = LabelSpace(["person", "dog"])
    by_name = read_coco(tmp_path, "train", given_labels)
    assert by_name.codes().tolist() == [[1, 1], [1, 0], [0, 1]]


@pytest.mark.parametrize("split", ["train", "train2014", "annotations/instances_train2014.json"])
def test_a_split_is_found_by_its_name_or_file(tmp_path: Path, split: str) -> None:
    path = write(tmp_path, tree())
    assert len(read_coco(tmp_path, split)) == 3
    assert len(read_coco("", str(path), images=str(tmp_path / "train2014"))) == 3


@pytest.mark.parametrize("images", ["train2014", "train", "images/train2014", "images", "."])
def test_images_are_found_in_the_usual_places(tmp_path: Path, images: str) -> None:
    write(tmp_path, tree(), images=images)
    assert read_coco(tmp_path, "train").path(0) == tmp_path / images / "10.jpg"


def test_images_are_found_in_the_folder_that_is_named(tmp_path: Path) -> None:
    write(tmp_path, tree(), images="elsewhere/deep")
    assert read_coco(tmp_path, "train", images="elsewhere/deep").path(0).is_file()


def test_an_unknown_split_names_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, tree())
    with pytest.raises(DataError, match=r"no annotations of split 'val'") as error:
        read_coco(tmp_path, "val")
    assert "instances_train2014.json" in str(error.value)


def test_two_years_in_one_folder_must_be_reported_apart(tmp_path: Path) -> None:
    write(tmp_path, tree())
    write(tmp_path, tree(), "annotations/instances_train2017.json")
    with pytest.raises(DataError, match=r"could be instances_train2014\.json, instances_train2017\.json"):
        read_coco(tmp_path, "train")


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
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
        "id 10 occurs twice",
        'expected an id and a file_name, got {"id": 50}',
        "expected an id and a file_name, got 7",
        "image '../out.jpg' lies outside",
        "image '/etc/passwd' lies outside",
        "train2014/C:\\a.jpg, found none",
        "image './20.jpg' is named twice",
        "id 18 occurs twice",
        "category 'a\\ud800' is not a line of text",
        "category 'a\\nb' is not a line of text",
        "category 'dog' occurs twice",
        'expected an id and a name, got {"id": true',
        "no image has the id 99",
        "no category has the id 99",
        'expected an image_id and a category_id, got {"image_id": [10]',
        "expected iscrowd to be 0 or 1, got 2",
        f"{path}, annotations[7]",
    ):
        assert expected in text_of(error.value), expected


def test_missing_images_are_named(tmp_path: Path) -> None:
    write(tmp_path, tree())
    (tmp_path / "train2014" / "20.jpg").unlink()
    with pytest.raises(DataError, match=r"expected an image at .*20\.jpg"):
        read_coco(tmp_path, "train")


def test_a_label_set_must_have_the_same_names(tmp_path: Path) -> None:
    write(tmp_path, tree())
    with pytest.raises(DataError) as error:
        read_coco(tmp_path, "train", LabelSpace(["dogs", "person"]))
    assert "category 'dog' is not in the label set" in text_of(error.value)
    assert "did you mean 'dogs'?" in text_of(error.value)
    assert "label 'dogs' of the label set is not a category" in text_of(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply|not JSON"),
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


def test_images_that_are_nowhere_are_one_problem_with_the_places_searched(tmp_path: Path) -> None:
    path = write(tmp_path, tree())
    (tmp_path / "train2014").rename(tmp_path / "photos")
    with pytest.raises(DataError, match=r"expected images such as '10\.jpg', found none") as error:
        read_coco(tmp_path, "train")
    assert len(error.value.problems) == 1
    assert "--data.reader.images" in error.value.hint
    for place in ("train2014", "train", "images/train2014", "annotations/images"):
        assert str(tmp_path / place) in error.value.hint
    assert len(read_coco(tmp_path, str(path), images="photos")) == 3


def test_the_folder_is_found_although_its_first_image_is_missing(tmp_path: Path) -> None:
    write(tmp_path, tree())
    (tmp_path / "train2014" / "10.jpg").unlink()
    with pytest.raises(DataError) as error:
        read_coco(tmp_path, "train")
    assert text_of(error.value).startswith(f"expected an image at {tmp_path / 'train2014' / '10.jpg'}, found none")


def test_a_link_may_not_leave_the_folder_of_images_but_that_may_be_one(tmp_path: Path) -> None:
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
    with pytest.raises(DataError, match=r"image '10\.jpg' is a link that leaves"):
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


def test_numbers_of_annotations_do_not_matter(tmp_path: Path) -> None:
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
    with pytest.raises(DataError, match="not JSON"):
        read_coco(tmp_path, "train")


def test_numbers_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, tree())
    path.write_text(path.read_text().replace('"id": 10,', '"id": NaN,').replace('"iscrowd": 1', '"iscrowd": Infinity'))
    with pytest.raises(DataError) as error:
        read_coco(tmp_path, "train")
    assert 'expected an id and a file_name, got {"id": NaN' in text_of(error.value)
    assert "expected iscrowd to be 0 or 1, got Infinity" in text_of(error.value)


LETTERS = st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["C"])
NAMES = st.text(LETTERS, min_size=1, max_size=8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES.map(str.strip).filter(bool), min_size=1, max_size=4, unique=True), st.data())
def test_any_names_are_read_as_they_are(tmp_path: Path, names: list[str], data: st.DataObject) -> None:
    files = data.draw(st.lists(NAMES.filter(lambda name: name.strip() and name not in {".", ".."}), unique=True))
    folder = tmp_path / "images"
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
            read_coco(tmp_path, str(path), images="images")
        return
    back = read_coco(tmp_path, str(path), images="images", order="id")
    assert back.labels.names == tuple(names)
    assert [(record.image, *record.positives) for record in back.records] == [
        (name, names[number % len(names)]) for number, name in enumerate(files)
    ]
