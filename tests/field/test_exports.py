"""Exports of annotation programs and the layouts of their folders, as they are met in the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msrn.data.looks import look_of_folder
from msrn.data.manifest import Manifest
from msrn.data.readers import coco, folders, labelme, textfiles, yolo
from msrn.data.readers.table import Options, read, read_table
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

Images = Callable[..., Path]
P = ("p0.jpg", "p1.jpg", "p2.jpg")


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def shown(data: Manifest) -> dict[str, tuple[str, ...]]:
    return {record.image: record.positives for record in data.records}


BOAT = {"shape_attributes": {"name": "rect"}, "region_attributes": {"type": "boat"}}
VIA = {
    "p0.jpg1": {"filename": "p0.jpg", "size": 1, "regions": [BOAT, BOAT], "file_attributes": {"caption": "a photo"}},
    "p1.jpg1": {"filename": "p1.jpg", "size": 1, "regions": {"0": BOAT}, "file_attributes": {}},
    "p2.jpg1": {"filename": "p2.jpg", "size": 1, "regions": [], "file_attributes": {}},
}
KINDS = {"region": {"type": {"type": "dropdown", "options": {}}}, "file": {"caption": {"type": "text"}}}


def test_a_project_of_via_has_the_names_that_can_be_chosen_and_no_captions(images: Images) -> None:
    tree = {"_via_settings": {}, "_via_img_metadata": VIA, "_via_attributes": KINDS}
    data = read_table(write(images(*P) / "via.json", tree))
    assert shown(data) == {"p0.jpg": ("boat",), "p1.jpg": ("boat",), "p2.jpg": ()}
    assert "an export of VIA; 1 of 3 images have no attribute" in data.reading
    assert "labels in 'type'" in data.reading


def test_of_several_attributes_of_via_one_or_all_are_asked_for(images: Images) -> None:
    scene = {"scene": {"sea": True, "beach": True, "sky": False}}
    tree = {key: {**entry, "file_attributes": scene} for key, entry in VIA.items()}
    path = write(images(*P) / "via.json", tree)
    with pytest.raises(DataError, match=r"--data\.reader\.label_column scene, or scene,type for all"):
        read_table(path)
    assert shown(read_table(path, options=Options(label_column="scene")))["p0.jpg"] == ("sea", "beach")
    assert shown(read_table(path, options=Options(label_column="scene,type")))["p0.jpg"] == ("sea", "beach", "boat")


def test_csv_of_via_has_a_row_per_region(images: Images) -> None:
    head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    body = 'p0.jpg,1,"{}",2,0,"{}","{""type"":""boat""}"\np0.jpg,1,"{}",2,1,"{}","{""type"":""sea""}"\n'
    data = read_table(write(images(*P[:2]) / "via.csv", head + body + 'p1.jpg,1,"{}",0,0,"{}","{}"\n'))
    assert shown(data) == {"p0.jpg": ("boat", "sea"), "p1.jpg": ()}


def test_azure_datumaro_and_plain_objects(images: Images) -> None:
    folder = images(*P[:2])
    tags = [{"tagName": "sea"}, {"tagName": "boat"}]
    azure = [
        {"id": "a", "tags": tags, "originalImageUri": "https://x.windows.net/i/p0.jpg?sv=1"},
        {"id": "b", "tags": tags[:1], "originalImageUri": "https://x.windows.net/i/p1.jpg?sv=1"},
    ]
    items = [
        {"id": "p0", "annotations": [{"type": "label", "label_id": 0}, {"label_id": 1}], "image": {"path": "p0.jpg"}},
        {"id": "p1", "annotations": [{"type": "label", "label_id": 0}]},
    ]
    datumaro = {"categories": {"label": {"labels": [{"name": "sea"}, {"name": "boat"}]}}, "items": items}
    plain = {"p0.jpg": ["sea", "boat"], "p1.jpg": "sea"}
    for name, tree in (("Azure", azure), ("Datumaro", datumaro), ("images to labels", plain)):
        data = read_table(write(folder / "x.json", tree))
        assert shown(data) == {"p0.jpg": ("sea", "boat"), "p1.jpg": ("sea",)}
        assert name in data.reading
    with pytest.raises(DataError, match="orient='records'"):
        read_table(write(folder / "x.json", {"image": {"0": "p0.jpg"}, "labels": {"0": "sea"}}))


def task(name: str, *results: list[str], **more: Any) -> dict[str, Any]:
    given = [{"result": [{"value": {"choices": names}}]} for names in results]
    return {"data": {"image": f"/data/upload/1/1a2b3c4d-{name}"}, "annotations": given, **more}


def test_label_studio_uploads_predictions_and_several_annotators_are_told(images: Images) -> None:
    predicted = task("p2.jpg", predictions=[{"result": [{"value": {"choices": ["sea"]}}]}])
    path = write(images(*P) / "ls.json", [task("p0.jpg", ["sea"], ["boat"]), task("p1.jpg", []), predicted])
    data = read_table(path)
    assert data.codes().tolist() == [[1, 1], [0, 0], [-1, -1]]
    assert [record.image for record in data.records] == list(P)
    for text in ("1 images with several annotations", "1 images with predictions only", "prefix of uploads"):
        assert text in data.reading


def test_vertex_lines_name_their_split(images: Images) -> None:
    lines = [
        {
            "imageGcsUri": f"gs://b/{name}",
            "classificationAnnotations": [{"displayName": "sea"}],
            "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": use},
        }
        for name, use in zip(P, ("training", "test", "training"), strict=True)
    ]
    path = write(images(*P) / "v.jsonl", "\n".join(map(json.dumps, lines)))
    with pytest.raises(DataError, match=r"train 2, test 1"):
        read_table(path)
    assert list(shown(read(Options(), "", f"{path}::train", None))) == ["p0.jpg", "p2.jpg"]


def test_tracks_of_a_video_in_cvat_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", '<annotations><version>1.1</version><track label="boat"/></annotations>')
    with pytest.raises(DataError, match="tracks of a video") as caught:
        read_table(path)
    assert "CVAT for images" in caught.value.hint


def test_a_folder_of_labelme(images: Images) -> None:
    folder = images("d/p0.jpg", "d/s/p1.jpg", "d/p2.png", "d/alone.jpg") / "d"
    write(folder / "p0.json", {"shapes": [{"label": "sea"}, {"label": "sea"}], "imagePath": "p0.jpg"})
    flags = {"sea": False, "boat": True}
    write(folder / "s/p1.json", {"shapes": [], "flags": flags, "imagePath": "..\\..\\elsewhere\\p1.jpg"})
    write(folder / "p2.json", {"shapes": [], "imagePath": "renamed.jpg"})
    write(folder / "settings.json", {"theme": "dark"})
    data = labelme.read(labelme.Options(), "", str(folder), None)
    assert shown(data) == {"p0.jpg": ("sea",), "p2.png": (), "s/p1.jpg": ("boat",)}
    for text in ("1 images without an annotation", "1 other JSON files", "1 of 3 images show none"):
        assert text in data.reading
    assert labelme.read(labelme.Options(), "", str(folder), LabelSpace(["boat", "sea"])).labels.names == ("boat", "sea")
    with pytest.raises(DataError, match="found none"):
        labelme.read(labelme.Options(), "", str(images("e/a.jpg") / "e"), None)
    write(folder / "broken.json", "{")
    with pytest.raises(DataError, match="cannot read the annotation"):
        labelme.read(labelme.Options(), "", str(folder), None)


BOX = "0.5 0.5 0.1 0.1"


@pytest.mark.parametrize(
    ("image", "text", "names", "split"),
    [
        ("images/train/{}", "labels/train/{}", "data.yaml", "train"),
        ("train/images/{}", "train/labels/{}", "data.yaml", "train"),
        ("train/{}", "train/{}", "train/classes.txt", "train"),
        ("images/{}", "labels/{}", "labels/classes.txt", "."),
    ],
)
def test_layouts_of_yolo(images: Images, image: str, text: str, names: str, split: str) -> None:
    folder = images(*(f"d/{image.format(name)}" for name in P)) / "d"
    write(folder / text.format("p0.txt"), f"2 {BOX}\n0 {BOX}\n0 {BOX}\n")
    write(folder / text.format("p1.txt"), "")
    write(folder / names, "names:\n  0: sea\n  1: boat\n  2: sand\n" if names.endswith("yaml") else "sea\nboat\nsand\n")
    data = yolo.read(yolo.Options(), str(folder), split, None)
    assert data.labels.names == ("sea", "boat", "sand")
    assert shown(data) == {"p0.jpg": ("sea", "sand"), "p1.jpg": (), "p2.jpg": ()}
    assert "2 of 3 images show none of them (1 have no text file)" in data.reading
    assert yolo.read(yolo.Options(), str(folder), split, LabelSpace(["sand", "sea"])).codes()[0].tolist() == [1, 1]


def test_what_is_wrong_with_yolo_is_named(images: Images) -> None:
    folder = images("d/p0.jpg") / "d"
    write(folder / "p0.txt", f"0 {BOX}\n7 {BOX}\nsea\n")
    with pytest.raises(DataError, match=r"data\.yaml or classes\.txt") as caught:
        yolo.read(yolo.Options(), "", str(folder), None)
    assert "--data.reader.names" in caught.value.hint
    write(folder / "c.yaml", "names: [sea]\n")
    with pytest.raises(DataError) as caught:
        yolo.read(yolo.Options(names=str(folder / "c.yaml")), "", str(folder), None)
    assert [problem.where.rsplit(" ", 1)[1] for problem in caught.value.problems] == ["2", "3"]
    (folder / "p0.txt").write_text(f"0 {BOX}\n")
    with pytest.raises(DataError, match=r"pass --data\.reader yolo"):
        textfiles.read(textfiles.Options(), "", str(folder), None)
    (folder / "p0.txt").unlink()
    with pytest.raises(DataError, match="no image has a text file"):
        yolo.read(yolo.Options(names=str(folder / "c.yaml")), "", str(folder), None)


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (("a.jpg", "a.json"), "labelme"),
        (("images/a.jpg", "labels/a.txt"), "--data.reader yolo"),
        (("a.jpg", "a.xml"), "--data.reader voc"),
        (("a.jpg", "a.txt"), "--data.reader textfiles"),
        (("a.jpg", "metadata.jsonl"), "--data.reader folders"),
        (("sea/a.jpg", "boat/b.jpg"), "--data.reader folders"),
        (("train/sea/a.jpg", "val/sea/b.jpg"), "--data.reader folders"),
        (("JPEGImages/a.jpg",), "--data.root"),
        (("_classes.csv", "a.jpg"), "_classes.csv"),
        (("ann/a.json", "img/a.jpg"), "COCO"),
        (("a.jpg",), "columns image and labels"),
        (("a.tar",), "pattern"),
    ],
)
def test_the_layout_of_a_folder_names_its_reader(tmp_path: Path, files: tuple[str, ...], advice: str) -> None:
    for name in files:
        write(tmp_path / name, {"shapes": [], "imagePath": "a.jpg"})
    look = look_of_folder(tmp_path)
    assert look is not None
    assert advice in look.hint


def test_a_folder_of_splits_is_not_a_folder_per_label(images: Images) -> None:
    folder = images("d/train/sea/a.jpg", "d/val/sea/b.jpg") / "d"
    with pytest.raises(DataError, match="found a folder per split") as caught:
        folders.read(folders.Options(), "", str(folder), None)
    assert "--data.train train" in caught.value.hint


def test_panoptic_files_and_urls_as_names_of_coco(images: Images) -> None:
    folder = images(*P[:2])
    tree = {
        "images": [{"id": n, "file_name": f"https://x.windows.net/c/{name}"} for n, name in enumerate(P[:2])],
        "categories": [{"id": 1, "name": "sea"}, {"id": 2, "name": "boat"}],
        "annotations": [
            {"image_id": 0, "file_name": "p0.png", "segments_info": [{"category_id": 1}, {"category_id": 2}]},
            {"image_id": 1, "file_name": "p1.png", "segments_info": [{"category_id": 2, "iscrowd": 1}]},
        ],
    }
    data = coco.read(coco.Options(), "", str(write(folder / "c.json", tree)), None)
    assert shown(data) == {"p0.jpg": ("boat", "sea"), "p1.jpg": ("boat",)}
    assert "leaving out" in data.reading


def test_images_in_a_folder_beside_that_of_the_annotations_are_named(images: Images) -> None:
    tree = {"images": [{"id": 1, "file_name": "p0.jpg"}], "categories": [{"id": 1, "name": "sea"}]}
    path = write(images("photos/p0.jpg") / "ann/x.json", {**tree, "annotations": [{"image_id": 1, "category_id": 1}]})
    with pytest.raises(DataError) as caught:
        coco.read(coco.Options(), "", str(path), None)
    assert "--data.reader.images ../photos" in caught.value.hint
    assert len(coco.read(coco.Options(images="../photos"), "", str(path), None)) == 1


def test_many_equal_problems_are_shown_as_some_and_their_number(images: Images) -> None:
    tree = {
        "images": [{"id": 0, "file_name": "p0.jpg"}],
        "categories": [{"id": 1, "name": "sea"}],
        "annotations": [{"image_id": n, "category_id": 1} for n in range(400)] + [{"image_id": 0, "category_id": 9}],
    }
    with pytest.raises(DataError) as caught:
        coco.read(coco.Options(), "", str(write(images("p0.jpg") / "c.json", tree)), None)
    text = str(caught.value)
    assert "and 389 more like this" in text
    assert "no category has the id 9" in text
