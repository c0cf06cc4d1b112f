"""The VOC reader: the true layout, and every way in which it can be broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msrn.data.manifest import Manifest, Record
from msrn.data.readers.voc import Options, read
from msrn.errors import DataError
from msrn.labels.space import LabelSpace


def read_voc(root: Path, split: str, labels: LabelSpace | None = None) -> Manifest:
    return read(Options(), str(root), split, labels)


IDS = ("000001", "000002", "000003")
VALUES = {"dog": (1, -1, 0), "cat": (-1, 1, 1)}


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A folder VOC2007 with two classes and three images."""
    home = tmp_path / "VOCdevkit" / "VOC2007"
    (home / "JPEGImages").mkdir(parents=True)
    (home / "ImageSets" / "Main").mkdir(parents=True)
    for image in IDS:
        Image.new("RGB", (8, 6)).save(home / "JPEGImages" / f"{image}.jpg")
    main = home / "ImageSets" / "Main"
    main.joinpath("train.txt").write_text("".join(f"{image}\n" for image in IDS))
    for name, values in VALUES.items():
        text = "".join(f"{image} {value:2d}\n" for image, value in zip(IDS, values, strict=True))
        main.joinpath(f"{name}_train.txt").write_text(text)
    return home


def annotate(home: Path, image: str, *objects: tuple[str, int]) -> Path:
    body = "".join(
        f"<object>\n<name>{name}</name><difficult>{hard}</difficult><part><name>head</name></part></object>\n"
        for name, hard in objects
    )
    path = home / "Annotations" / f"{image}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<annotation>\n<filename>{image}.jpg</filename>\n{body}</annotation>\n")
    return path


EXPECTED = (
    Record("JPEGImages/000001.jpg", ("dog",)),
    Record("JPEGImages/000002.jpg", ("cat",)),
    Record("JPEGImages/000003.jpg", ("cat",), ("dog",)),
)


@pytest.mark.parametrize("up", [0, 1, 2])
def test_lists_are_read_from_the_folder_its_parent_or_the_one_above(voc: Path, up: int) -> None:
    data = read_voc([voc, *voc.parents][up], "train")
    assert data.records == EXPECTED
    assert data.labels.names == ("cat", "dog")
    assert (data.split, data.path(0).is_file()) == ("train", True)
    assert data.source == "VOC2007 train, class lists, difficult labels: 1"


def test_the_year_2012_is_read_too(voc: Path) -> None:
    """Identities with a year, actions within objects, no lists of the test split, an annotation beyond the lists."""
    home = voc.rename(voc.with_name("VOC2012"))
    for name in IDS:
        (home / "JPEGImages" / f"{name}.jpg").rename(home / "JPEGImages" / f"2008_{name}.jpg")
    for path in (home / "ImageSets" / "Main").glob("*.txt"):
        path.write_text("".join(f"2008_{line}\n" for line in path.read_text().splitlines()))
    lists = read_voc(home.parent, "train")
    assert [record.image for record in lists.records] == [f"JPEGImages/2008_{name}.jpg" for name in IDS]
    assert lists.codes().tolist() == [[0, 1], [1, 0], [1, 2]]
    assert lists.source == "VOC2012 train, class lists, difficult labels: 1"

    for path in (home / "ImageSets" / "Main").glob("*_train.txt"):
        path.unlink()
    for name, objects in zip(IDS, [[("dog", 0)], [("cat", 0)], [("cat", 0), ("dog", 1)]], strict=True):
        path = annotate(home, f"2008_{name}", *objects)
        path.write_text(path.read_text().replace("</object>", "<actions><walking>1</walking></actions></object>"))
    annotate(home, "2007_000027", ("person", 0))  # of the segmentation lists
    found = read_voc(home, "train")
    assert (found.records, found.labels) == (lists.records, lists.labels)
    with pytest.raises(DataError, match="there is no split 'test'"):
        read_voc(home, "test")


def test_columns_follow_the_label_set_that_is_passed(voc: Path) -> None:
    data = read_voc(voc, "train", LabelSpace(["dog", "cat"]))
    assert data.codes().tolist() == [[1, 0], [0, 1], [2, 1]]


def test_annotations_stand_in_for_missing_lists(voc: Path) -> None:
    for file in (voc / "ImageSets" / "Main").glob("*_train.txt"):
        file.unlink()
    annotate(voc, "000001", ("dog", 0), ("dog", 1))
    annotate(voc, "000002", ("cat", 0))
    annotate(voc, "000003", ("cat", 0), ("dog", 1), ("dog", 1))
    assert read_voc(voc, "train").records == EXPECTED
    (voc / "ImageSets" / "Main" / "train.txt").unlink()
    assert read_voc(voc, "train").records == EXPECTED  # no list at all: every annotation


Break = Callable[[Path], object]
MAIN = "ImageSets/Main"


def _replace(name: str, old: str, new: str) -> Break:
    def change(home: Path) -> None:
        path = home / MAIN / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


BROKEN: list[tuple[str, Break, str, str]] = [
    ("value", _replace("dog_train.txt", "000002 -1", "000002 7"), "1, -1 or 0", f"{MAIN}/dog_train.txt, line 2"),
    ("row", _replace("dog_train.txt", "000002 -1", "000002 -1 3"), "1, -1 or 0", f"{MAIN}/dog_train.txt, line 2"),
    ("twice", _replace("dog_train.txt", "000003", "000002"), "000002 is listed twice", f"{MAIN}/dog_train.txt, line 3"),
    ("strange", _replace("dog_train.txt", "000003", "000009"), "000009 is in this", f"{MAIN}/dog_train.txt, line 3"),
    ("lost", _replace("dog_train.txt", "000002 -1\n", ""), "000002 is missing from", f"{MAIN}/dog_train.txt"),
    (
        "image",
        lambda home: (home / "JPEGImages/000002.jpg").unlink(),
        "000002.jpg, found none",
        f"{MAIN}/cat_train.txt, line 2",
    ),
    (
        "encoding",
        lambda home: (home / MAIN / "dog_train.txt").write_bytes(b"\xff\xfe\xff"),
        "cannot read the list",
        f"{MAIN}/dog_train.txt",
    ),
]


@pytest.mark.parametrize(("change", "message", "where"), [case[1:] for case in BROKEN], ids=[c[0] for c in BROKEN])
def test_a_broken_list_is_named_by_file_and_line(voc: Path, change: Break, message: str, where: str) -> None:
    change(voc)
    with pytest.raises(DataError) as caught:
        read_voc(voc, "train")
    hits = [problem for problem in caught.value.problems if message in problem.message]
    assert [problem.where for problem in hits] == [str(voc / where)], str(caught.value)


def test_one_bad_value_is_one_problem(voc: Path) -> None:
    _replace("cat_train.txt", "000001 -1", "000001 5")(voc)
    with pytest.raises(DataError) as caught:
        read_voc(voc, "train")
    assert len(caught.value.problems) == 1


def test_all_problems_come_together(voc: Path) -> None:
    _replace("cat_train.txt", "000001 -1", "000001 5")(voc)
    _replace("dog_train.txt", "000002 -1", "000002 x")(voc)
    (voc / "JPEGImages" / "000003.jpg").unlink()
    with pytest.raises(DataError, match="3 problems"):
        read_voc(voc, "train")


def test_an_empty_split_is_refused(voc: Path) -> None:
    for file in (voc / MAIN).glob("*.txt"):
        file.write_text("")
    with pytest.raises(DataError, match="no images"):
        read_voc(voc, "train")


def test_an_unknown_split_names_the_nearest_one(voc: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'train'"):
        read_voc(voc, "trian")


def test_a_folder_that_is_no_voc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="VOCdevkit"):
        read_voc(tmp_path, "train")
    with pytest.raises(DataError, match=r"data\.root"):
        read(Options(), "", "train", None)


def test_two_years_need_a_choice(voc: Path) -> None:
    (voc.parent / "VOC2012" / "JPEGImages").mkdir(parents=True)
    with pytest.raises(DataError, match=r"VOC2007.*VOC2012"):
        read_voc(voc.parent, "train")


def test_classes_and_label_set_must_be_the_same(voc: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_voc(voc, "train", LabelSpace(["cat", "dogs"]))
    messages = [problem.message for problem in caught.value.problems]
    assert messages == ["class 'dog' is not in the label set", "label 'dogs' of the label set has no list"]
    assert caught.value.problems[0].hint == "did you mean 'dogs'?"


XML = "Annotations/000002.xml"
BAD_XML: list[tuple[str, str, str, str]] = [
    ("cut", "<annotation>\n<object>\n", "not XML", f"{XML}, line 3"),
    ("nameless", "<annotation><object><name> </name></object></annotation>", "no name", XML),
    ("flag", "<annotation><object><name>x</name><difficult>2</difficult></object></annotation>", "0 or 1", XML),
    (
        "entities",
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation><object><name>&b;</name></object></annotation>',
        "entities",
        XML,
    ),
]


@pytest.mark.parametrize(("text", "message", "where"), [case[1:] for case in BAD_XML], ids=[c[0] for c in BAD_XML])
def test_a_broken_annotation_is_named(voc: Path, text: str, message: str, where: str) -> None:
    for file in (voc / MAIN).glob("*_train.txt"):
        file.unlink()
    annotate(voc, "000001", ("dog", 0))
    (voc / XML).write_text(text)
    with pytest.raises(DataError) as caught:  # the annotation of 000003 is missing as well
        read_voc(voc, "train")
    found = [(problem.where, problem.message) for problem in caught.value.problems]
    assert [place for place, text in found if message in text] == [str(voc / where)]
    assert (str(voc / "Annotations" / "000003.xml"), "expected an annotation, found no file") in found


def test_an_id_cannot_point_out_of_the_folder(voc: Path) -> None:
    for file in (voc / MAIN).glob("*_train.txt"):
        file.unlink()
    annotate(voc, "000001", ("dog", 0))
    (voc / MAIN / "train.txt").write_text("000001\n../../../secret\n")
    with pytest.raises(DataError, match="expected an image id"):
        read_voc(voc, "train")


@pytest.mark.parametrize(("split", "count"), [("train", 2501), ("val", 2510), ("trainval", 5011)])
def test_real_voc_has_the_published_number_of_images(shared: Path, split: str, count: int) -> None:
    data = read_voc(shared / "data" / "voc2007", split)
    assert (len(data), len(data.labels)) == (count, 20)


def test_counts_of_real_voc_are_the_published_ones(shared: Path) -> None:
    target = read_voc(shared / "data" / "voc2007", "trainval").targets("negative")
    published = np.load(shared / "published" / "voc.npz")
    together = (target.T @ target).astype(int)
    np.testing.assert_array_equal(together.diagonal(), published["totals"])
    np.fill_diagonal(together, 0)
    np.testing.assert_array_equal(together, published["counts"])


def test_the_test_split_without_images_is_refused(shared: Path) -> None:
    with pytest.raises(DataError, match=r"4,952 of 4,952 images do not exist"):
        read_voc(shared / "data" / "voc2007", "test")
