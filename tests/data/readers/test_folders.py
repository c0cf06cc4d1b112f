"""Folders of one label each, and images with a text file of tags beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from msrn.data.manifest import Manifest, Record
from msrn.data.readers import table, textfiles
from msrn.data.readers.folders import Options, read
from msrn.errors import DataError
from msrn.labels.space import LabelSpace


def read_folders(folder: Path, labels: LabelSpace | None = None) -> Manifest:
    return read(Options(), "", str(folder), labels)


def read_textfiles(folder: Path, labels: LabelSpace | None = None, **options: Any) -> Manifest:
    return textfiles.read(textfiles.Options(**options), "", str(folder), labels)


def image(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path)
    return path


def positives_of(data: Manifest) -> dict[str, tuple[str, ...]]:
    return {record.image: record.positives for record in data.records}


def problems(error: DataError) -> list[tuple[str, str]]:
    return [(Path(problem.where).name, problem.message) for problem in error.problems]


def test_an_image_has_the_label_of_its_folder_and_no_other(tmp_path: Path) -> None:
    image(tmp_path / "dog" / "1.jpg", 1)
    image(tmp_path / "big cat" / "ü 2.PNG", 2)
    data = read_folders(tmp_path)
    assert data.labels.names == ("big cat", "dog")
    assert data.records == (Record("big cat/ü 2.PNG", ("big cat",)), Record("dog/1.jpg", ("dog",)))
    assert data.targets("positive").tolist() == [[1, 0], [0, 1]]
    assert data.path(1) == tmp_path / "dog" / "1.jpg"


@pytest.mark.parametrize("given", [("train", True), ("train", False), (".", True)])
def test_a_split_is_a_folder_below_the_root_or_the_root_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, bool]
) -> None:
    split, has_root = given
    base = tmp_path if split == "." else tmp_path / "train"
    image(base / "cat" / "1.jpg")
    (tmp_path / "elsewhere" / "train" / "dog").mkdir(parents=True)
    if has_root:
        monkeypatch.chdir(tmp_path / "elsewhere" if split != "." else tmp_path)  # what lies here is not what is meant
        if split == ".":
            (tmp_path / "elsewhere").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
        data = read(Options(), str(tmp_path), split, None)
    else:
        monkeypatch.chdir(tmp_path)
        data = read(Options(), "", split, None)
    assert positives_of(data) == {"cat/1.jpg": ("cat",)}


def test_the_same_image_in_several_folders_has_all_their_labels(tmp_path: Path) -> None:
    one = image(tmp_path / "beach" / "IMG_1.jpg", 1)
    (tmp_path / "boat").mkdir()
    (tmp_path / "boat" / "IMG_1.jpg").write_bytes(one.read_bytes())  # a copy
    (tmp_path / "boat" / "other name.jpg").symlink_to(image(tmp_path / "sea" / "2.jpg", 2))  # a link
    os.link(image(tmp_path / "sea" / "3.jpg", 3), tmp_path / "boat" / "hard.jpg")
    data = read_folders(tmp_path)
    assert positives_of(data) == {
        "beach/IMG_1.jpg": ("beach", "boat"),
        "boat/hard.jpg": ("boat", "sea"),
        "boat/other name.jpg": ("boat", "sea"),
    }
    assert data.source.endswith("3 images in several")


def test_different_images_of_one_name_are_two_images(tmp_path: Path) -> None:
    image(tmp_path / "beach" / "IMG_1.png", 1)
    image(tmp_path / "boat" / "IMG_1.png", 200)
    sizes = {path.stat().st_size for path in tmp_path.rglob("*.png")}
    assert len(sizes) == 1  # only their bytes tell them apart
    assert positives_of(read_folders(tmp_path)) == {"beach/IMG_1.png": ("beach",), "boat/IMG_1.png": ("boat",)}


def test_what_is_hidden_or_no_image_is_left_out(tmp_path: Path) -> None:
    image(tmp_path / "cat" / "1.jpg")
    image(tmp_path / ".trash" / "1.jpg")
    image(tmp_path / "__MACOSX" / "1.jpg")
    image(tmp_path / "cat" / "._1.jpg")
    for name in ("notes.txt", "cat/Thumbs.db", ".DS_Store"):
        (tmp_path / name).write_text("")
    assert positives_of(read_folders(tmp_path)) == {"cat/1.jpg": ("cat",)}


def test_all_that_is_wrong_with_folders_comes_together(tmp_path: Path) -> None:
    image(tmp_path / "cat" / "1.jpg")
    image(tmp_path / "cat" / "old" / "2.jpg")
    image(tmp_path / "lost.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(DataError) as caught:
        read_folders(tmp_path)
    assert sorted(problems(caught.value)) == [
        ("broken.jpg", "cannot read the image: No such file or directory"),
        ("empty", "the folder of the label holds no images"),
        ("lost.jpg", "the image is in no folder of a label"),
        ("old", "expected images in the folder of a label, got a folder"),
    ]


def test_folders_are_bound_to_the_label_set_that_is_passed(tmp_path: Path) -> None:
    image(tmp_path / "dog" / "1.jpg")
    (tmp_path / "cat").mkdir()  # none in this split
    assert read_folders(tmp_path, LabelSpace(["dog", "sofa", "cat"])).codes().tolist() == [[1, 0, 0]]
    with pytest.raises(DataError, match="'dog' is not in the label set") as caught:
        read_folders(tmp_path, LabelSpace(["dogs", "cat"]))
    assert caught.value.problems[0].hint == "did you mean 'dogs'?"


@pytest.mark.parametrize("reader", [read_folders, read_textfiles])
def test_a_folder_without_images_is_refused(tmp_path: Path, reader: object) -> None:
    assert callable(reader)
    with pytest.raises(DataError, match="found none"):
        reader(tmp_path / "gone")
    with pytest.raises(DataError, match=r"found none|no images"):
        reader(tmp_path)


def test_an_imagefolder_with_metadata_is_read_as_a_table(tmp_path: Path) -> None:
    image(tmp_path / "1.jpg")
    image(tmp_path / "x" / "2.jpg")
    rows = [{"file_name": "1.jpg", "labels": ["cat", "dog"]}, {"file_name": "x/2.jpg", "labels": []}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert positives_of(read_folders(tmp_path)) == {"1.jpg": ("cat", "dog"), "x/2.jpg": ()}
    (tmp_path / "metadata.jsonl").rename(tmp_path / "metadata.csv")
    (tmp_path / "metadata.csv").write_text("file_name,label\n1.jpg,sea\n")
    assert positives_of(read_folders(tmp_path)) == {"1.jpg": ("sea",)}


@pytest.mark.parametrize(
    "text",
    [
        b"long hair, sea,blue sky\n",
        b"long hair\nsea\nblue sky",
        b"\xef\xbb\xbflong hair,sea\r\nblue sky\r\n",
        b"long hair\rsea\r\rblue sky",
        b"long hair, sea,, sea,\n\n  blue sky ,",
    ],
)
def test_tags_stand_between_commas_or_on_lines(tmp_path: Path, text: bytes) -> None:
    image(tmp_path / "1.jpg")
    (tmp_path / "1.txt").write_bytes(text)
    data = read_textfiles(tmp_path)
    assert positives_of(data) == {"1.jpg": ("long hair", "sea", "blue sky")}
    assert data.labels.names == ("blue sky", "long hair", "sea")


def test_labels_are_unknown_without_text_and_absent_after_a_dash(tmp_path: Path) -> None:
    for number in range(4):
        image(tmp_path / f"in/{number}.jpg")
    for number, text in enumerate(("sea", "-", " \n")):
        (tmp_path / f"in/{number}.txt").write_text(text)
    (tmp_path / "readme.TXT").write_text("not an image's")
    data = read_textfiles(tmp_path)
    assert data.codes().ravel().tolist() == [1, 0, -1, -1]
    assert "2 images without tags" in data.source
    assert "1 text files without an image passed over" in data.source


def test_images_that_show_none_of_the_labels_are_dropped_if_asked_for(tmp_path: Path) -> None:
    for number, text in enumerate(("sea", "-", "")):
        image(tmp_path / f"{number}.jpg")
        (tmp_path / f"{number}.txt").write_text(text)
    data = read_textfiles(tmp_path, empty="drop")
    assert [record.image for record in data.records] == ["0.jpg", "2.jpg"]  # nobody knows what 2 shows
    assert data.source.endswith("images without labels dropped (1)")
    (tmp_path / "labels.csv").write_text("image,sea\n1.jpg,0\n")
    with pytest.raises(DataError, match="no image shows a label"):
        table.read(table.Options(empty="drop"), str(tmp_path), "labels.csv", None)


def test_another_delimiter_may_be_named(tmp_path: Path) -> None:
    image(tmp_path / "1.jpg")
    (tmp_path / "1.txt").write_text("red, white; blue")
    assert read_textfiles(tmp_path, delimiter=";").labels.names == ("blue", "red, white")


def test_all_that_is_wrong_with_text_files_comes_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msrn.data.readers.textfiles.MAX_TEXT_BYTES", 50)
    for number, text in enumerate([b"\xff\xfe", b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.2 0.2\n", b"x" * 51, b"sea"]):
        image(tmp_path / f"{number}.jpg")
        (tmp_path / f"{number}.txt").write_bytes(text)
    image(tmp_path / "3.png")
    with pytest.raises(DataError) as caught:
        read_textfiles(tmp_path)
    found = sorted(problems(caught.value))
    assert [name for name, _ in found] == ["0.txt", "1.txt", "2.txt", "3.txt"]
    for (_, message), part in zip(found, ("utf-8", "YOLO", "at most 50 bytes", "3.jpg and to 3.png"), strict=True):
        assert part in message


def test_tags_that_are_no_labels_are_reported_by_their_file(tmp_path: Path) -> None:
    image(tmp_path / "1.jpg")
    (tmp_path / "1.txt").write_text("see")
    with pytest.raises(DataError, match="'see' is not in the label set") as caught:
        read_textfiles(tmp_path, LabelSpace(["sea"]))
    assert problems(caught.value)[0][0] == "1.txt"
