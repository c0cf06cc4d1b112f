"""Apparel's layout, and the published split."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from msrn.config import DataSettings, ReaderSettings
from msrn.data import READERS
from msrn.data.apparel import read_apparel
from msrn.data.records import Record
from msrn.errors import DataError
from msrn.labels.space import LabelSpace


def draw(root: Path, **folders: int) -> Path:
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number:03}.jpg").touch()
    return root


def test_every_picture_has_its_folders_colour_and_garment(tmp_path: Path) -> None:
    draw(tmp_path, red_dress=1, black_shirt=2)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "red_dress" / "notes.txt").touch()
    data = READERS["apparel"](DataSettings(format="apparel", root=str(tmp_path)), "all", None)
    assert data.labels.names == ("black", "dress", "red", "shirt")
    assert data.records == (
        Record("black_shirt/000.jpg", ("black", "shirt")),
        Record("black_shirt/001.jpg", ("black", "shirt")),
        Record("red_dress/000.jpg", ("red", "dress")),
    )
    assert data.path(2).is_file()
    published = ReaderSettings(order="id")
    data = READERS["apparel"](DataSettings(format="apparel", root=str(tmp_path), reader=published), "all", None)
    assert data.labels.names == ("black", "red", "dress", "shirt")


def test_train_and_test_are_halves_that_share_nothing(tmp_path: Path) -> None:
    draw(tmp_path, red_dress=7, blue_dress=6)
    parts = [{record.image for record in read_apparel(tmp_path, split).records} for split in ("train", "test", "all")]
    assert len(parts[0]) == 6
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == parts[2]


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    draw(tmp_path, red=1, red_dark_dress=1, _dress=1, blue_dress=0, shirt_red=1, red_shirt=1)
    with pytest.raises(DataError) as error:
        read_apparel(tmp_path)
    told = "\n".join(str(problem) for problem in error.value.problems)
    for folder in ("'red'", "'red_dark_dress'", "'_dress'"):
        assert f"expected <colour>_<garment>, got {folder}" in told
    assert "holds no pictures" in told
    assert "'red' is a colour and a garment" in told
    assert "'shirt' is a colour and a garment" in told


def test_labels_bind_by_name_and_lack_none(tmp_path: Path) -> None:
    draw(tmp_path, red_dress=1)
    data = read_apparel(tmp_path, labels=LabelSpace(["dress", "green", "red"]))
    assert data.codes().tolist() == [[1, 0, 1]]
    with pytest.raises(DataError, match="'dress' is not in the label set"):
        read_apparel(tmp_path, labels=LabelSpace(["dresses", "red"]))


@pytest.mark.parametrize(("split", "message"), [("tset", "did you mean 'test'"), ("val", "expected split train, test")])
def test_other_splits_are_refused(tmp_path: Path, split: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_apparel(draw(tmp_path, red_dress=1), split)


def test_no_folder_and_an_empty_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder of folders"):
        read_apparel(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found none"):
        read_apparel(tmp_path)


def test_the_published_split_and_counts(shared: Path, tmp_path: Path) -> None:
    """Of 11,384 files in the published order, one has another garment in the list than its place there says."""
    with open(shared / "published" / "apparel_labels.csv", newline="", encoding="utf-8") as file:
        listed = [(row["file_name"], row["labels"].replace(" ", "_")) for row in csv.DictReader(file)]
    folders = [folder for _, folder in listed]
    odd = [n for n in range(1, len(listed) - 1) if folders[n - 1] == folders[n + 1] != folders[n]]
    assert len(odd) == 1
    folders[odd[0]] = folders[odd[0] - 1]
    assert folders == sorted(folders)
    for folder in set(folders):
        (tmp_path / folder).mkdir()
    paths = [f"{folder}/{name}" for folder, (name, _) in zip(folders, listed, strict=True)]
    for path in paths:
        (tmp_path / path).touch()

    random.seed(10)
    order = list(range(len(listed)))
    random.shuffle(order)
    expected = [paths[place] for place in order[:5692]], [paths[place] for place in order[5692:]]
    train, test = read_apparel(tmp_path, "train"), read_apparel(tmp_path, "test")
    assert [record.image for record in train.records] == expected[0]
    assert [record.image for record in test.records] == expected[1]

    labels = read_apparel(tmp_path, "all", colours_first=True)
    present = labels.codes().astype(int)
    counts = present.T @ present
    published = np.load(shared / "published" / "apparel.npz")["counts"]
    colours = labels.labels.names.index("dress")
    # One-directional: colour to garment. The one odd picture counts once in another garment's column.
    assert np.abs(counts[:colours, colours:] - published[:colours, colours:]).sum() <= 2


def test_the_clothing_photographs(shared: Path) -> None:
    data = read_apparel(shared / "data" / "clothing")
    assert len(data) == 2158
    assert data.codes().sum(axis=1).tolist() == [2] * 2158
