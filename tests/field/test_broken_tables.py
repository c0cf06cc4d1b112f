"""Tables that are damaged or no table at all: one cause first, with the way out; nothing is read as something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from msrn.audit.check import check_data
from msrn.cli import main
from msrn.data.manifest import Manifest
from msrn.data.readers import coco, folders, voc
from msrn.data.readers.table import Options, read_table
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

Images = Callable[..., Path]
P = ("p0.jpg", "p1.jpg", "p2.jpg")


def table(folder: Path, text: str | bytes, name: str = "t.csv", **options: Any) -> Manifest:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(folder / name, options=Options(**options))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Export of project,\nimage,labels\np0.jpg,sea\n", "expected column names, got 'Export of project'"),
        ("# made by x\n# 2024\nimage,labels\np0.jpg,sea\n", "remove the lines above line 3"),
        ("image,sea,boat\np0.jpg,1,0\nimage,sea,boat\np1.jpg,0,1\n", "the header occurs again"),
        ("image,sea,boat,sea\np0.jpg,1,0,1\n", "got sea more than once"),
        ('"image,labels"\n"p0.jpg,sea"\n', "quotation marks as a whole"),
        ("image,sea,split\np0.jpg,1,0\np1.jpg,0,1\n", "may be a split or a label"),
        ("image,sea,split\np0.jpg,1,train\np1.jpg,0,\n", "train 1, no split 1"),
        ("image,sea\np0.jpg,1\np1.jpg,se\0a\n", "zero bytes"),
        ("image,labels\np0.jpg,sea\n".encode("utf-16-le"), "--data.reader.encoding utf-16-le"),
        ("image,labels\np0.jpg,海\n".encode("shift_jis"), "--data.reader.encoding shift_jis"),
        ("image,labels\np0.jpg,вода\n".encode("cp1251"), "cp1251"),
        ("left,right,sea\np0.jpg,p1.jpg,1\n", "'right' holds images, too"),
    ],
)
def test_one_cause_and_its_way_out(images: Images, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        table(images(*P[:2]), text)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("tree", "hint"),
    [
        ([["p0.jpg", ["sea"]]], '{"image": "a.jpg", "labels": ["sea"]}'),
        ([{"image": "p0.jpg", "labels": {"sea": 1}}], "a field of 1 and 0 for each label"),
    ],
)
def test_json_of_another_form_is_answered_with_the_form(images: Images, tree: Any, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        table(images("p0.jpg"), json.dumps(tree), "t.json")
    assert hint in str(caught.value)


def test_names_on_lines_of_one_cell_are_several_labels(images: Images) -> None:
    data = table(images(*P[:2]), 'image,labels\np0.jpg,"sea\nboat"\np1.jpg,boat\n')
    assert data.labels.names == ("boat", "sea")


@pytest.mark.parametrize(
    ("name", "file", "note"),
    [
        ("7", "00007.jpg", "without leading zeros"),
        ("7.0", "7.jpg", "without leading zeros"),
        ("p0.jpg", "p0.jpg ", "upper and lower case"),
        ("/data/upload/3/0a1b2c3d-cat.jpg", "cat.jpg", "prefix of uploads"),
    ],
)
def test_names_that_other_programs_have_changed(images: Images, name: str, file: str, note: str) -> None:
    folder = images("x.jpg")
    (folder / "x.jpg").rename(folder / file)
    data = table(folder, f"image,labels\n{name},sea\n")
    assert [record.image for record in data.records] == [file]
    assert note in data.reading


def test_images_in_subfolders_are_found_by_a_name_that_only_one_has(images: Images) -> None:
    folder = images("images_001/p0.jpg", "images_002/p1.jpg")
    text = "image,labels\np0.jpg,sea\np1.jpg,boat\n"
    data = table(folder, text)
    assert [record.image for record in data.records] == ["images_001/p0.jpg", "images_002/p1.jpg"]
    assert "by their name in subfolders" in data.reading
    images("images_003/p0.jpg")
    with pytest.raises(DataError, match="2 problems"):
        table(folder, text)


def test_a_packed_folder_of_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError) as caught:
        table(tmp_path, "image,labels\np0.jpg,sea\n")
    assert "images.zip is there: unpack it" in str(caught.value)


@pytest.mark.parametrize("name", ["list.txt", "export.json"])
def test_lists_and_json_need_no_reader_to_be_named(
    images: Images, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = images(*P[:2])
    text = "p0.jpg sea boat\np1.jpg sea\n"
    rows = [{"image": "p0.jpg", "labels": ["sea"]}, {"image": "p1.jpg", "labels": ["boat"]}]
    (folder / name).write_text(json.dumps(rows) if name.endswith("json") else text)
    monkeypatch.chdir(folder)
    assert main(["data", "check", name, "--near", "-1"]) == 0
    assert "2 images" in capsys.readouterr().out


def test_further_frames_and_pages_are_counted(images: Images) -> None:
    folder = images("p0.jpg")
    pages = [Image.new("RGB", (40, 40), (shade, 90, 9)) for shade in (9, 90, 200)]
    for name in ("m.tif", "m.gif"):
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])
    data = table(folder, "image,labels\nm.tif,sea\nm.gif,boat\np0.jpg,sea\n")
    found = [each for each in check_data([data]).issues if each.code == "frames"]
    assert [(each.images[0].image, each.message) for each in found] == [("m.tif", "3 frames"), ("m.gif", "3 frames")]


def test_a_label_in_another_unicode_form_is_the_label_of_the_label_set_in_every_reader(images: Images) -> None:
    composed, apart = "B\u00e4r", "Ba\u0308r"
    labels = LabelSpace([composed])
    folder = images(f"by_label/{apart}/a.jpg", "p0.jpg", "flat/b.jpg")
    assert folders.read(folders.Options(), "", str(folder / "by_label"), labels).codes().tolist() == [[1]]
    tree = {"images": [{"id": 1, "file_name": "p0.jpg"}], "categories": [{"id": 1, "name": apart}]}
    (folder / "c.json").write_text(json.dumps({**tree, "annotations": [{"image_id": 1, "category_id": 1}]}))
    assert coco.read(coco.Options(), "", str(folder / "c.json"), labels).codes().tolist() == [[1]]
    xml = f"<annotation><object><name>{apart}</name></object></annotation>"
    (folder / "flat/b.xml").write_text(xml, encoding="utf-8")
    assert voc.read(voc.Options(), "", str(folder / "flat"), labels).codes().tolist() == [[1]]
