"""Apparel's layout, and the published split."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msrn.data.manifest import Manifest, Record
from msrn.data.readers.apparel import Options, read
from msrn.errors import DataError
from msrn.labels.space import LabelSpace


def read_apparel(root: Path, split: str = "all", labels: LabelSpace | None = None, **options: Any) -> Manifest:
    return read(Options(**options), str(root), split, labels)


def draw(root: Path, **folders: int) -> Path:
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number:03}.jpg").write_text(f"{folder} {number}")
    return root


def test_every_image_has_its_folders_colour_and_garment(tmp_path: Path) -> None:
    draw(tmp_path, red_dress=1, black_shirt=2)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "red_dress" / "notes.txt").touch()
    data = read_apparel(tmp_path)
    assert data.labels.names == ("black", "dress", "red", "shirt")
    assert data.records == (
        Record("black_shirt/000.jpg", ("black", "shirt")),
        Record("black_shirt/001.jpg", ("black", "shirt")),
        Record("red_dress/000.jpg", ("red", "dress")),
    )
    assert data.path(2).is_file()
    data = read_apparel(tmp_path, order="published")
    assert data.labels.names == ("black", "red", "dress", "shirt")
    assert data.source == (
        f"Apparel layout {tmp_path.name} (not the published files), passed over (not images by suffix): 1 .txt, "
        "all 3 images"
    )


def test_train_and_test_are_halves_that_share_nothing(tmp_path: Path) -> None:
    draw(tmp_path, red_dress=7, blue_dress=6)
    parts = [{record.image for record in read_apparel(tmp_path, split).records} for split in ("train", "test", "all")]
    assert len(parts[0]) == 6
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == parts[2]


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    draw(tmp_path, red=1, red_dark_dress=1, _dress=1, blue_dress=0, shirt_red=1, red_shirt=1)
    (tmp_path / "lost.jpg").touch()
    (tmp_path / "red _shirt").mkdir()
    (tmp_path / "red_shirt" / "more.jpg").mkdir()
    (tmp_path / "red_shirt" / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "red_shirt" / "away.jpg").symlink_to(Path(__file__))
    (tmp_path / "__MACOSX").mkdir()
    with pytest.raises(DataError) as error:
        read_apparel(tmp_path)
    text = "\n".join(str(problem) for problem in error.value.problems)
    for folder in ("'red'", "'red_dark_dress'", "'_dress'", "'red _shirt'"):
        assert f"expected <colour>_<garment>, got {folder}" in text
    assert "holds no images" in text
    assert "the image is in no folder <colour>_<garment>" in text
    assert "expected images in the folder, got a folder" in text
    assert "the image is a link that leads nowhere" in text
    assert "image 'red_shirt/away.jpg' is a link that leaves" in text
    assert "MACOSX" not in text
    assert "'red' is both a colour and a garment" in text
    assert "'shirt' is both a colour and a garment" in text


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


def test_no_folder_and_an_empty_one_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder of folders"):
        read_apparel(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found none"):
        read_apparel(tmp_path)


def test_a_file_in_two_folders_is_one_image_with_the_labels_of_the_last(
    tmp_path: Path,
) -> None:
    draw(tmp_path, blue_dress=2, red_dress=1, red_shoes=2)
    for folder in ("blue_dress", "red_shoes"):
        (tmp_path / folder / "001.jpg").write_text("the same")
    data = read_apparel(tmp_path)
    assert data.records == (
        Record("blue_dress/000.jpg", ("blue", "dress")),
        Record("red_shoes/001.jpg", ("red", "shoes")),
        Record("red_dress/000.jpg", ("red", "dress")),
        Record("red_shoes/000.jpg", ("red", "shoes")),
    )
    assert data.source.endswith("1 in several folders taken from the last, all 4 images")


def test_a_folder_of_images_may_not_be_a_link_that_leaves_but_the_root_may(tmp_path: Path) -> None:
    draw(tmp_path / "there", red_dress=2)
    (tmp_path / "here").symlink_to("there")
    assert len(read_apparel(tmp_path / "here")) == 2
    draw(tmp_path / "other", red_shirt=2)
    (tmp_path / "there" / "blue_shirt").symlink_to(tmp_path / "other" / "red_shirt")
    with pytest.raises(DataError, match=r"image 'blue_shirt/000\.jpg' lies outside"):
        read_apparel(tmp_path / "here")


WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="/_", exclude_categories=["C", "Z"]), min_size=1, max_size=5
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(WORDS.filter(lambda word: word[0] != "."), min_size=2, max_size=4), st.data())
def test_any_words_are_labels_and_halves_are_all(tmp_path: Path, words: set[str], data: st.DataObject) -> None:
    root = tmp_path / "any"
    shutil.rmtree(root, ignore_errors=True)
    first, *garments = sorted(words)
    draw(root, **{f"{first}_{garment}": data.draw(st.integers(1, 3)) for garment in garments})
    found = {record.image: record.positives for record in read_apparel(root).records}
    assert found == {
        f"{path.parent.name}/{path.name}": (first, path.parent.name.removeprefix(f"{first}_"))
        for path in root.glob("*/*.jpg")
    }
    halves = [read_apparel(root, split).records for split in ("train", "test")]
    assert sorted(record.image for half in halves for record in half) == sorted(found)
    assert len(halves[1]) - len(halves[0]) in {0, 1}


def test_the_published_split_order_and_counts(shared: Path, tmp_path: Path) -> None:
    """The list names 11,384 images by file name, and one of them as of a folder that its neighbours are not of.

    It lies in both folders: the counts, published beside the list, are of 11,385 files.
    """
    with open(shared / "published" / "apparel_labels.csv", newline="", encoding="utf-8") as file:
        listed = [(row["file_name"], row["labels"].replace(" ", "_")) for row in csv.DictReader(file)]
    folders = [folder for _, folder in listed]
    (odd,) = (n for n in range(1, len(listed) - 1) if folders[n - 1] == folders[n + 1] != folders[n])
    for name, folder in [*listed, (listed[odd][0], folders[odd - 1])]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
    paths = [f"{folder}/{name}" for name, folder in listed]
    assert [record.image for record in read_apparel(tmp_path, "all").records] == paths

    random.seed(10)
    random.shuffle(paths)
    for split, expected in (("train", paths[:5692]), ("test", paths[5692:])):
        data = read_apparel(tmp_path, split)
        assert [record.image for record in data.records] == expected
        assert "(the published files), 1 in several folders taken from the last, split" in data.source

    orders = json.loads((shared / "published" / "label_orders.json").read_text())
    labels = read_apparel(tmp_path, "all", order="published").labels
    assert list(labels) == orders["apparel"]
    counts = np.zeros((11, 11), int)  # one-directional: colour to garment
    for path in tmp_path.glob("*/*.jpg"):
        counts[tuple(labels.columns(path.parent.name.split("_")))] += 1
    np.testing.assert_array_equal(counts, np.load(shared / "published" / "apparel.npz")["counts"])


def test_the_clothing_photographs(shared: Path) -> None:
    data = read_apparel(shared / "data" / "clothing")
    assert len(data) == 2158
    assert data.codes().sum(axis=1).tolist() == [2] * 2158
    assert "(not the published files)" in data.source
