"""COCO and VOC files, exports of annotation programs, and splits in folders, as they are met in the field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msrn.audit.check import check_data
from msrn.audit.split_names import name_splits
from msrn.data.manifest import Manifest
from msrn.data.readers import coco, voc
from msrn.data.readers.table import read_table
from msrn.errors import DataError

Images = Callable[..., Path]
P = ("p0.jpg", "p1.jpg", "p2.jpg")


def tree(names: tuple[str, ...] = P, **parts: Any) -> dict[str, Any]:
    """A COCO file: image i shows category 1 + i % 2."""
    return {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "categories": [{"id": 1, "name": "pike"}, {"id": 2, "name": "bowl"}],
        "annotations": [{"image_id": n, "category_id": 1 + n % 2} for n in range(len(names))],
    } | parts


def read_coco(folder: Path, value: dict[str, Any], name: str = "a.json", **options: Any) -> Manifest:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
    return coco.read(coco.Options(**options), "", str(path), None)


@pytest.mark.parametrize("name", ["fishes", "pike"])
def test_the_root_category_of_roboflow_is_left_out_and_told(images: Images, name: str) -> None:
    root = [{"id": 0, "name": name, "supercategory": "none"}, {"id": 1, "name": "pike", "supercategory": name}]
    more = [{"id": 2, "name": "bowl", "supercategory": name}]
    data = read_coco(images(*P), tree(categories=root + more))
    assert data.labels.names == ("bowl", "pike")
    assert f"category {name!r} left out" in data.reading
    used = tree(categories=root + more)
    used["annotations"].append({"image_id": 0, "category_id": 0})
    if name == "fishes":
        assert read_coco(images(*P), used).labels.names == ("bowl", "fishes", "pike")


def test_lvis_files_are_found_by_their_url_and_unverified_categories_are_unknown(images: Images) -> None:
    folder = images(*(f"train2017/{name}" for name in P))
    value = tree(categories=[{"id": n, "name": name} for n, name in enumerate(("cup", "pike", "bowl"))])
    value["images"] = [
        {"id": n, "coco_url": f"http://x.org/train2017/{name}", "neg_category_ids": [0]} for n, name in enumerate(P)
    ]
    data = read_coco(folder, value)
    assert data.labels.names == ("bowl", "cup", "pike")
    assert data.codes().tolist() == [[-1, 0, 1], [1, 0, -1], [-1, 0, 1]]
    assert "LVIS" in data.reading
    assert read_coco(folder, value, unverified="absent").unknown_entries == 0


@pytest.mark.parametrize("kind", [str, float, lambda number: f"{number:04}"])
def test_ids_as_texts_or_floats_are_the_numbers_they_stand_for(images: Images, kind: Callable[[int], Any]) -> None:
    folder = images(*P)
    value = tree()
    for entry in value["annotations"]:
        entry |= {"image_id": kind(entry["image_id"]), "category_id": kind(entry["category_id"])}
    value["annotations"][0]["iscrowd"] = None
    value["annotations"][1]["iscrowd"] = 0.0
    data = read_coco(folder, value)
    assert [record.positives for record in data.records] == [("pike",), ("bowl",), ("pike",)]
    swapped = tree()
    for entry in swapped["images"]:
        entry["id"] = kind(entry["id"])
    assert read_coco(folder, swapped).records == data.records


def test_ids_that_could_be_two_are_not_converted(images: Images) -> None:
    value = tree()
    value["images"][1]["id"] = "00"
    value["annotations"] = [{"image_id": "0", "category_id": 1}]
    with pytest.raises(DataError, match="no image has the id '0'"):
        read_coco(images(*P), value)


def test_an_image_under_two_ids_is_joined_if_asked_for(images: Images) -> None:
    value = tree((*P, "p0.jpg"))
    with pytest.raises(DataError, match=r"--data\.reader\.repeated join"):
        read_coco(images(*P), value)
    data = read_coco(images(*P), value, repeated="join")
    assert data.records[0].positives == ("bowl", "pike")
    assert "1 images joined" in data.reading


def test_images_without_objects_are_counted(images: Images) -> None:
    data = read_coco(images(*P), tree(annotations=[{"image_id": 0, "category_id": 1}]))
    assert "2 of 3 images have no object and are dropped" in data.reading


def test_a_file_without_annotations_says_so(images: Images) -> None:
    value = tree()
    del value["annotations"]
    with pytest.raises(DataError, match="nothing to train or evaluate on"):
        read_coco(images(*P), value)


def test_splits_are_called_by_the_part_of_the_path_that_differs(images: Images) -> None:
    folder = images(*(f"{split}/{split}{n}.jpg" for split in ("train", "valid", "test") for n in range(3)))
    (folder / "test/test0.jpg").write_bytes((folder / "valid/valid2.jpg").read_bytes())
    manifests, sources = [], []
    for split in ("train", "valid", "test"):
        names = tuple(f"{split}{n}.jpg" for n in range(3))
        value = tree(names, annotations=[{"image_id": n, "category_id": 1} for n in range(3)])
        manifests.append(read_coco(folder, value, f"{split}/_annotations.coco.json"))
        sources.append(str(folder / split / "_annotations.coco.json"))
    named = name_splits(manifests, sources)
    assert [each.split for each in named] == ["train", "valid", "test"]
    check = check_data(named)
    assert check.ranks == (0, 1, 2)
    assert "leak" in {each.code for each in check.issues}
    assert "duplicate" not in {each.code for each in check.issues}


def write_voc(path: Path, *objects: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "".join(f"<object>{text}</object>" for text in objects)
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?><annotation>{body}</annotation>'.encode(encoding))


def voc_folder(folder: Path, names: tuple[str, ...], lines: str = "") -> Path:
    for name in names:
        write_voc(folder / "VOC/Annotations" / f"{Path(name).stem}.xml", "<name>boat</name>")
    (folder / "VOC/ImageSets/Main").mkdir(parents=True)
    listed = lines or "".join(f"{Path(name).stem}\n" for name in names)
    (folder / "VOC/ImageSets/Main/train.txt").write_text(listed)
    return folder / "VOC"


def read_voc(root: Path | str, split: str = "train") -> Manifest:
    return voc.read(voc.Options(), str(root), split, None)


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (("a0.png", "a1.jpeg", "a2.bmp"), ""),
        (("IMG (0).jpg", "IMG (1).jpg"), ""),
        (("a0.jpg", "a1.jpg"), "a0.jpg\nJPEGImages/a1.jpg\n"),
        (("a_jpg.rf.0.jpg",), ""),
    ],
)
def test_voc_images_of_any_suffix_and_name(images: Images, names: tuple[str, ...], lines: str) -> None:
    folder = images(*(f"VOC/JPEGImages/{name}" for name in names))
    data = read_voc(voc_folder(folder, names, lines))
    assert [record.image for record in data.records] == [f"JPEGImages/{name}" for name in names]


def test_class_lists_may_hold_ids_with_blanks(images: Images) -> None:
    folder = images("VOC/JPEGImages/IMG 1.jpg", "VOC/JPEGImages/IMG 2.jpg")
    (folder / "VOC/ImageSets/Main").mkdir(parents=True)
    (folder / "VOC/ImageSets/Main/sea_train.txt").write_text("IMG 1  1\nIMG 2 -1\n")
    assert read_voc(folder / "VOC").codes().tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("flag", "difficult"),
    [
        ("<Difficult>1</Difficult>", True),
        ("<difficult>True</difficult>", True),
        ("<difficult>Unspecified</difficult>", False),
        ("<difficult>0.0</difficult>", False),
        ("", False),
    ],
)
def test_words_for_difficult(images: Images, flag: str, difficult: bool) -> None:
    root = voc_folder(images("VOC/JPEGImages/a.jpg"), ("a.jpg",))
    part = "<part><name>head</name></part>"
    write_voc(root / "Annotations/a.xml", f"<name>\n boat\n</name>{flag}{part}", encoding="iso-8859-1")
    data = read_voc(root)
    assert (data.labels.names, bool(data.records[0].difficult)) == (("boat",), difficult)
    if "Unspecified" in flag:
        assert "1 objects whose difficult is unspecified" in data.reading


def test_declared_encodings_hold_and_entities_stay_refused(images: Images) -> None:
    root = voc_folder(images("VOC/JPEGImages/a.jpg"), ("a.jpg",))
    for encoding in ("iso-8859-1", "utf-16"):
        write_voc(root / "Annotations/a.xml", "<name>Bär</name>", encoding=encoding)
        assert read_voc(root).labels.names == ("Bär",)
    (root / "Annotations/a.xml").write_bytes('<!DOCTYPE x [<!ENTITY e "e">]><annotation/>'.encode("utf-16"))
    with pytest.raises(DataError, match="declares entities"):
        read_voc(root)


def test_annotations_beside_the_images(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = images("train/a.rf.0.jpg", "train/b.png", "train/alone.jpg")
    for name, label in (("a.rf.0", "boat"), ("b", "sea")):
        write_voc(folder / f"train/{name}.xml", f"<name>{label}</name>")
    monkeypatch.chdir(folder)
    for root in ("", ".", "train"):
        data = read_voc(root)
        assert [record.image for record in data.records] == ["a.rf.0.jpg", "b.png"]
        assert "1 images without an annotation" in data.reading
    with pytest.raises(DataError, match="expected a VOC folder"):
        read_voc("train", "val")


EXPORTS: dict[str, tuple[str, str]] = {
    "labels.json": ("FiftyOne", '{"classes": ["sea", "boat"], "labels": {"p0": ["sea", 1], "p1": "sea"}}'),
    "c.json": ("CreateML", '[{"image": "p0.jpg", "annotations": ["sea", {"label": "boat"}]}, '
               '{"image": "p1.jpg", "annotations": ["sea"]}]'),
    "ls.json": ("Label Studio", json.dumps([
        {"data": {"image": f"/data/upload/1/{name}"},
         "annotations": [{"result": [{"value": {"choices": labels}}]}, {"was_cancelled": True, "result": []}]}
        for name, labels in (("p0.jpg", ["sea", "boat"]), ("p1.jpg", ["sea"]))
    ])),
    "cvat.xml": ("CVAT", '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>'
                 '<image name="p0.jpg"><tag label="sea"/><box label="boat"/></image>'
                 '<image name="p1.jpg"><tag label="sea"/></image></annotations>'),
    "o.manifest": ("SageMaker", "\n".join(json.dumps({
        "source-ref": f"s3://b/{name}", "k": numbers, "k-metadata": {"class-map": {"0": "sea", "1": "boat"}}
    }) for name, numbers in (("p0.jpg", [0, 1]), ("p1.jpg", [0])))),
    "v.jsonl": ("Vertex AI", "\n".join(json.dumps({
        "imageGcsUri": f"gs://b/{name}", "classificationAnnotations": [{"displayName": label} for label in labels]
    }) for name, labels in (("p0.jpg", ["sea", "boat"]), ("p1.jpg", ["sea"])))),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_of_annotation_programs_are_tables(images: Images, name: str) -> None:
    program, text = EXPORTS[name]
    folder = images("p0.jpg", "p1.jpg")
    (folder / name).write_text(text)
    data = read_table(folder / name)
    assert [record.positives for record in data.records] == [("sea", "boat"), ("sea",)]
    assert f"an export of {program}" in data.reading
    with pytest.raises(DataError, match=r"looks like|not JSON"):
        coco.read(coco.Options(), "", str(folder / name), None) if name != "cvat.xml" else read_voc(
            "", str(folder / name)
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": "5", "flags": {}, "shapes": [], "imagePath": "p0.jpg"}', "labelme.*--data.reader labelme"),
        ('{"samples": []}', "samples of FiftyOne.*FiftyOneImageClassificationDataset"),
        ('{"tags": [], "objects": []}', "Supervisely.*COCO"),
        ('[{"task_id": "1", "params": {}}]', "Scale AI.*columns image and labels"),
        ('[{"data_row": {}, "projects": {}}]', "Labelbox.*COCO"),
        ('{"images": [], "categories": [], "annotations": []}', "COCO file.*--data.reader coco"),
    ],
)
def test_files_that_are_no_table_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "x.json")
    assert re.search(message, str(caught.value).replace("\n", " ")), caught.value
