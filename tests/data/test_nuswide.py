"""NUS-WIDE in its three layouts, and every way in which they can be broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from msrn.config import DataSettings, ReaderSettings
from msrn.data import READERS
from msrn.data.nuswide import CONCEPTS, SPLITS, read_nuswide
from msrn.data.records import Record
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

IMAGES = ("actor/0001.jpg", "sea side/0002.jpg", "sea side/0003.jpg")
SHOWN = (("person",), ("sky", "water"), ())


def touch(folder: Path) -> None:
    for image in IMAGES:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).touch()


@pytest.fixture
def official(tmp_path: Path) -> Path:
    touch(tmp_path / "Flickr")
    (tmp_path / "ImageList").mkdir()
    lines = "".join(image.replace("/", "\\") + " \r\n" for image in IMAGES)
    (tmp_path / "ImageList" / "TrainImagelist.txt").write_bytes(lines.encode())
    truth = tmp_path / "Groundtruth" / "TrainTestLabels"
    truth.mkdir(parents=True)
    for concept in CONCEPTS:
        text = "".join(f"{int(concept in shown)}\n" for shown in SHOWN)
        (truth / f"Labels_{concept}_Train.txt").write_text(text)
    return tmp_path


@pytest.fixture
def asl(tmp_path: Path) -> Path:
    touch(tmp_path)
    rows = zip(IMAGES, SHOWN, ("train", "val", "val"), strict=True)
    lines = "".join(f'{image},"{list(shown)}",{split}\n' for image, shown, split in rows)
    (tmp_path / "nus_wid_data.csv").write_text("filepath,label,split_name\n" + lines)
    return tmp_path


def told(error: DataError) -> str:
    return "\n".join(str(problem) for problem in error.problems)


def test_official_files_drop_unlabelled_pictures_and_say_so(official: Path) -> None:
    data = READERS["nuswide"](DataSettings(format="nuswide", root=str(official)), "train", None)
    assert data.labels.names == CONCEPTS
    assert data.records == (Record(IMAGES[0], ("person",)), Record(IMAGES[1], ("sky", "water")))
    assert data.path(1).is_file()
    assert data.source == (
        "NUS-WIDE official files, split train, pictures without concepts dropped (1): 2 pictures, none of the common "
        f"splits, digest {data.digest[:12]}"
    )


def test_unlabelled_pictures_are_kept_if_asked_for(official: Path) -> None:
    reader = ReaderSettings(without_labels="keep", order="id")
    data = READERS["nuswide"](DataSettings(format="nuswide", root=str(official), reader=reader), "train", None)
    assert [record.positives for record in data.records] == [("person",), ("sky", "water"), ()]
    assert "kept (1): 3 pictures" in data.source
    assert data.labels.names[:2] == ("clouds", "sky")


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_csv_has_two_splits(asl: Path, split: str) -> None:
    assert read_nuswide(asl, "train").records == (Record(IMAGES[0], ("person",)),)
    assert read_nuswide(asl, split, keep_empty=True).records == (
        Record(IMAGES[1], ("sky", "water")),
        Record(IMAGES[2]),
    )


@pytest.mark.parametrize("form", ["numbers", "numbers after a comma", "names", "0 and 1"])
def test_lists_say_the_same_in_each_form(tmp_path: Path, form: str) -> None:
    image, shown = IMAGES[0], ("person", "sky")
    (tmp_path / "images" / image).parent.mkdir(parents=True)
    (tmp_path / "images" / image).touch()
    numbers = " ".join(str(CONCEPTS.index(name)) for name in shown)
    line = {
        "numbers": f"{image} {numbers}",
        "numbers after a comma": f"{image}, {numbers}",
        "names": f"{image} {' '.join(shown)}",
        "0 and 1": f"{image} {' '.join(str(int(name in shown)) for name in CONCEPTS)}",
    }[form]
    (tmp_path / "database.txt").write_bytes(f"\ufeff{line}\r\n\r\n".encode())
    assert read_nuswide(tmp_path, "database.txt").records == (Record(image, shown),)


def test_numbers_count_in_the_order_of_the_label_set(tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").touch()
    (tmp_path / "list.txt").write_text("a b.jpg,0 2\n")
    data = read_nuswide(tmp_path, str(tmp_path / "list.txt"), LabelSpace(["zebra", "dog", "cat"]))
    assert data.records == (Record("a b.jpg", ("zebra", "cat")),)


def test_everything_wrong_with_official_files_is_told_at_once(official: Path) -> None:
    truth = official / "Groundtruth" / "TrainTestLabels"
    (truth / "Labels_sky_Train.txt").write_text("0\n2\n0\n")
    (truth / "Labels_sun_Train.txt").write_text("0\n1\n")
    (truth / "Labels_map_Train.txt").unlink()
    with pytest.raises(DataError) as error:
        read_nuswide(official, "train")
    assert f"expected 0 or 1, got '2'\n  at: {truth / 'Labels_sky_Train.txt'}, line 2" in told(error.value)
    assert "expected 3 lines, one a picture of TrainImagelist.txt, got 2" in told(error.value)
    assert "expected the labels of 'map', found no file" in told(error.value)


def test_everything_wrong_with_a_csv_is_told_at_once(asl: Path) -> None:
    path = asl / "nus_wid_data.csv"
    text = path.read_text()
    text += "x.jpg,\"['skye']\",train\ny.jpg,\"__import__('os')\",train\nz.jpg,sky,train\n../o.jpg,\"['sky']\",train\n"
    text += f'{IMAGES[0]},"[\'sky\']",train\nl.jpg,"{["sky"] * 5000}",train\n'
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_nuswide(asl, "train", keep_empty=True)
    assert "concept 'skye' is not in the label set" in told(error.value)
    assert f"{path}, line 5\n  hint: did you mean 'sky'?" in told(error.value)
    assert told(error.value).count("expected a list such as ['sky', 'clouds']") == 3
    assert "'../o.jpg' lies outside" in told(error.value)
    assert "is named twice" in told(error.value)


def test_everything_wrong_with_a_list_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg 81 3\nb.jpg sky clods\n")
    with pytest.raises(DataError) as error:
        read_nuswide(tmp_path, "list.txt")
    assert "expected numbers from 0 to 80, got 81" in told(error.value)
    assert "did you mean 'clouds'?" in told(error.value)


def test_missing_pictures_are_named(official: Path) -> None:
    (official / "Flickr" / IMAGES[0]).unlink()
    with pytest.raises(DataError, match=r"expected a picture at .*0001\.jpg, found none"):
        read_nuswide(official, "train")


@pytest.mark.parametrize("split", ["val", "validation"])
def test_splits_that_are_not_there_are_refused(official: Path, asl: Path, split: str) -> None:
    (asl / "nus_wid_data.csv").unlink()
    with pytest.raises(DataError, match="expected split train or test"):
        read_nuswide(official, split)


def test_a_folder_of_something_else_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_nuswide(tmp_path, "train")
    assert "expected ImageList and Groundtruth, one .csv, or the name of a list" in str(error.value)
    (tmp_path / "a.csv").write_text("image,label\n")
    with pytest.raises(DataError, match="expected columns filepath, label and split_name, got image, label"):
        read_nuswide(tmp_path, "train")
    (tmp_path / "b.csv").touch()
    with pytest.raises(DataError, match=r"expected one csv, found a\.csv, b\.csv"):
        read_nuswide(tmp_path, "train")
    with pytest.raises(DataError, match="a csv holds several splits"):
        read_nuswide(tmp_path, "a.csv")


def test_a_split_without_any_concept_says_how_to_keep_it(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with pytest.raises(DataError, match="no picture has a concept"):
        read_nuswide(tmp_path, "list.txt")


def test_asls_test_split_is_recognised_by_its_count(shared: Path, tmp_path: Path) -> None:
    """The real list, with its pictures as empty files in one folder."""
    text = (shared / "data" / "label_lists" / "nuswide_test_50720.txt").read_text()
    rows = [line.split(",") for line in text.splitlines()]
    for image, _ in rows:
        (tmp_path / image).touch()
    (tmp_path / "test.txt").write_text(text)
    data = read_nuswide(tmp_path, "test.txt")
    assert len(data) == 50_720
    assert "50,720 pictures, ASL's test split" in data.source
    expected = np.zeros(81, int)
    for _, numbers in rows:
        expected[[int(number) for number in numbers.split()]] += 1
    assert data.codes().sum(axis=0, dtype=int).tolist() == expected.tolist()


def test_concepts_and_both_orders_are_the_published_ones(shared: Path, tmp_path: Path) -> None:
    orders = json.loads((shared / "published" / "label_orders.json").read_text())
    (tmp_path / "a.jpg").touch()
    (tmp_path / "list.txt").write_text("a.jpg sky\n")
    assert list(read_nuswide(tmp_path, "list.txt").labels) == orders["nuswide_list_order"]
    assert list(read_nuswide(tmp_path, "list.txt", published_order=True).labels) == orders["nuswide"]


def test_the_common_splits_sum_to_the_whole() -> None:
    pictures = sorted(SPLITS)
    assert 161_789 + 107_859 == 269_648  # all of NUS-WIDE
    assert 125_449 + 83_898 == 209_347  # those with a concept
    assert {161_789, 107_859, 125_449, 83_898, 119_103, 50_720, 150_000, 60_260} == set(pictures)
