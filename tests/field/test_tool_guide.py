"""Rows of the guide "From your tool to a table": the command of a row reads a file as that tool writes it."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from msrn.cli import main

Images = Callable[..., Path]
Files = dict[str, Any]

GUIDE = Path(__file__).parents[2] / "docs/guides/from-your-tool.md"
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| `(msrn data check .+)` \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)

NAMES = "image,labels\np0.jpg,sea|boat\np1.jpg,sea\n"
SEA, BOAT = {"id": 1, "name": "sea"}, {"id": 2, "name": "boat"}
COCO = {
    "images": [{"id": 1, "file_name": "p0.jpg"}, {"id": 2, "file_name": "p1.jpg"}],
    "categories": [SEA, BOAT],
    "annotations": [{"image_id": image, "category_id": label} for image, label in ((1, 1), (1, 2), (2, 1))],
}
BOTH = "<annotation><object><name>sea</name></object><object><name>boat</name></object></annotation>"
ONE = "<annotation><object><name>sea</name></object></annotation>"
CHOICES = [{"result": [{"value": {"choices": ["sea", "boat"]}}]}]
LABELME = {"version": "5.5.0", "flags": {}, "imageData": None, "imageHeight": 36, "imageWidth": 48}
BOX = "0.5 0.5 0.2 0.2\n"


def lines(*entries: dict[str, Any]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def workbook(*rows: list[Any]) -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    book.save(out)
    return out.getvalue()


def via(**scenes: list[str]) -> Files:
    entries = {
        f"{name}.jpg123": {
            "filename": f"{name}.jpg",
            "size": 123,
            "regions": [{"shape_attributes": {"name": "rect"}, "region_attributes": {"kind": "sloop"}}],
            "file_attributes": {"scene": dict.fromkeys(labels, True)},
        }
        for name, labels in scenes.items()
    }
    return {"via.json": {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {}}}


VERTEX = "training,gs://b/p0.jpg,sea,boat\ntraining,gs://b/p1.jpg,sea\nvalidation,gs://b/p2.jpg,boat\n"
VIA_CSV = (
    "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    'p0.jpg,1,"{}",2,0,"{""name"":""rect""}","{""kind"":""sea""}"\n'
    'p0.jpg,1,"{}",2,1,"{""name"":""rect""}","{""kind"":""boat""}"\n'
    'p1.jpg,1,"{}",1,0,"{""name"":""rect""}","{""kind"":""sea""}"\n'
)
CVAT = (
    '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta/>'
    '<image id="0" name="p0.jpg"><tag label="sea"/><box label="boat" xtl="1"/></image>'
    '<image id="1" name="p1.jpg"><tag label="sea"/></image></annotations>'
)
CHEST = "Image Index,Finding Labels,Follow-up #,Patient Age,OriginalImage[Width,Height],\np0.jpg,A|B,0,60,9,9,\n"
CHEXPERT = "Path,Sex,Age,Edema,Rash\nCheX/train/p0.jpg,M,60,1.0,-1.0\nCheX/train/p1.jpg,F,50,,1.0\n"
MIN = [{"image": "/data/upload/1/0a1b2c3d-p0.jpg", "id": 1, "choice": {"choices": ["sea", "boat"]}}]
MIN += [{"image": "/data/upload/1/0a1b2c3e-p1.jpg", "id": 2, "choice": "sea"}]
STUDIO = (
    'annotation_id,choice,id,image\n1,"{""choices"":[""sea"",""boat""]}",1,/data/u/p0.jpg\n2,sea,2,/data/u/p1.jpg\n'
)
GROUND = {"k-metadata": {"class-map": {"0": "sea", "1": "boat"}, "type": "groundtruth/image-classification-multilabel"}}

CASES: dict[tuple[str, str], list[tuple[Files, str]]] = {
    ("Excel", '"CSV UTF-8"'): [
        ({"labels.csv": ("\ufeff" + NAMES.replace(",", ";").replace("\n", "\r\n")).encode()}, "p0.jpg p1.jpg"),
        ({"labels.csv": NAMES.replace(",", "\t").encode("utf-16")}, "p0.jpg p1.jpg"),
    ],
    ("Excel workbook", "as it is"): [
        ({"book.xlsx": workbook(["image", "sea", "boat"], ["p0.jpg", 1, 1.0], ["p1.jpg", True, None])}, "p0.jpg p1.jpg")
    ],
    ("pandas", "`to_csv`"): [({"labels.csv": ",image,labels\n0,p0.jpg,\"['sea', 'boat']\"\n1,p1.jpg,['sea']\n"},
                              "p0.jpg p1.jpg")],
    ("Label Studio", "JSON"): [
        ({"export.json": [{"data": {"image": "/data/upload/1/0a1b2c3d-p0.jpg"}, "annotations": CHOICES},
                          {"data": {"image": "/data/upload/1/0a1b2c3e-p1.jpg"}, "annotations": []}]},
         "images/p0.jpg images/p1.jpg"),
        ({"export.json": MIN}, "images/0a1b2c3d-p0.jpg images/0a1b2c3e-p1.jpg"),
        ({"export.csv": STUDIO}, "images/p0.jpg images/p1.jpg"),
    ],
    ("CVAT", '"CVAT for images 1.1"'): [({"annotations.xml": CVAT}, "images/p0.jpg images/p1.jpg")],
    ("CVAT", '"ImageNet"'): [({}, "photos/sea/p0.jpg photos/boat/p1.jpg")],
    ("CVAT", '"PASCAL VOC"'): [
        ({"VOC/Annotations/p0.xml": BOTH, "VOC/Annotations/p1.xml": ONE, "VOC/ImageSets/Main/train.txt": "p0\np1\n"},
         "VOC/JPEGImages/p0.png VOC/JPEGImages/p1.png")
    ],
    ("CVAT, Labelbox, VIA, Roboflow, Scale, Supervisely", "COCO"): [({"instances.json": COCO}, "p0.jpg p1.jpg")],
    ("CVAT, Datumaro", '"Datumaro"'): [
        ({"default.json": {"categories": {"label": {"labels": [SEA, BOAT]}}, "items": [
            {"id": "p0", "annotations": [{"label_id": 0}, {"label_id": 1}], "image": {"path": "p0.jpg"}},
            {"id": "p1", "annotations": [{"label_id": 0}], "image": {"path": "p1.jpg"}}]}},
         "images/p0.jpg images/p1.jpg")
    ],
    ("Roboflow", '"Multi-label classification"'): [
        ({"train/_classes.csv": "filename, boat, sea\np0.rf.1.jpg, 1, 1\np1.rf.2.jpg, 0, 1\n"},
         "train/p0.rf.1.jpg train/p1.rf.2.jpg")
    ],
    ("Roboflow", '"Pascal VOC"'): [
        ({"train/p0.rf.1.xml": BOTH, "train/p1.rf.2.xml": ONE}, "train/p0.rf.1.jpg train/p1.rf.2.jpg")
    ],
    ("labelImg", "XML"): [({"photos/p0.xml": BOTH, "photos/p1.xml": ONE}, "photos/p0.jpg photos/p1.jpg")],
    ("labelme", "the folder"): [
        ({"photos/p0.json": {**LABELME, "shapes": [{"label": "sea"}, {"label": "boat"}], "imagePath": "p0.jpg"},
          "photos/p1.json": {**LABELME, "shapes": [{"label": "sea"}], "imagePath": "p1.jpg"}},
         "photos/p0.jpg photos/p1.jpg")
    ],
    ("YOLO", "`images`"): [
        ({"yolo/data.yaml": "names: [sea, boat]\n", "yolo/labels/train/p0.txt": f"0 {BOX}1 {BOX}",
          "yolo/labels/train/p1.txt": f"0 {BOX}"}, "yolo/images/train/p0.jpg yolo/images/train/p1.jpg")
    ],
    ("VIA (VGG Image Annotator)", "project"): [
        (via(p0=["sea", "boat"], p1=["sea"]), "p0.jpg p1.jpg"),
        ({"via.json": via(p0=["sea", "boat"], p1=["sea"])["via.json"]["_via_img_metadata"]}, "p0.jpg p1.jpg"),
    ],
    ("VIA (VGG Image Annotator)", "annotations as CSV"): [({"via.csv": VIA_CSV}, "p0.jpg p1.jpg")],
    ("FiftyOne", "image classification"): [
        ({"labels.json": {"classes": ["sea", "boat"], "labels": {"p0": ["sea", 1], "p1": 0}}},
         "data/p0.jpg data/p1.jpg")
    ],
    ("CreateML", "JSON"): [
        ({"annotations.json": [{"image": "p0.jpg", "annotations": [{"label": "sea"}, {"label": "boat"}]},
                               {"image": "p1.jpg", "annotations": [{"label": "sea"}]}]}, "p0.jpg p1.jpg")
    ],
    ("Azure Custom Vision", "the list"): [
        ({"tagged.json": [{"tags": [{"tagName": "sea"}, {"tagName": "boat"}], "originalImageUri": "https://a.b/p0.jpg"},
                          {"tags": [{"tagName": "sea"}], "originalImageUri": "https://a.b/p1.jpg?sig=1"}]},
         "images/p0.jpg images/p1.jpg")
    ],
    ("Azure Machine Learning", "COCO"): [
        ({"azure.json": {**COCO, "images": [{"id": n, "file_name": f"https://a.b/c/p{n - 1}.jpg"} for n in (1, 2)]}},
         "images/p0.jpg images/p1.jpg")
    ],
    ("SageMaker Ground Truth", "`output.manifest`"): [
        ({"output.manifest": lines({"source-ref": "s3://b/p0.jpg", "k": [0, 1], **GROUND},
                                   {"source-ref": "s3://b/p1.jpg", "k": [0], **GROUND})},
         "images/p0.jpg images/p1.jpg")
    ],
    ("Vertex AI", "import file"): [
        ({"import.csv": VERTEX}, "images/p0.jpg images/p1.jpg images/p2.jpg"),
        ({"import.jsonl": lines(*({
            "imageGcsUri": f"gs://b/{name}", "classificationAnnotations": [{"displayName": each} for each in shown],
            "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": use}}
            for name, use, shown in (("p0.jpg", "training", ["sea", "boat"]), ("p1.jpg", "training", ["sea"]),
                                     ("p2.jpg", "test", ["boat"]))))},
         "images/p0.jpg images/p1.jpg images/p2.jpg"),
    ],
    ("Open Images", "a row"): [
        ({"labels.csv": "ImageID,Source,LabelName,Confidence\np0,v,sea,1\np0,v,boat,0\np1,v,boat,1\np1,v,sea,1\n"},
         "images/p0.jpg images/p1.jpg")
    ],
    ("a row per label", "a row"): [
        ({"labels.csv": "image,label\np0.jpg,sea\np0.jpg,boat\np1.jpg,sea\np1.jpg,boat\n"}, "p0.jpg p1.jpg")
    ],
    ("a column per rank", "`label1`"): [
        ({"labels.csv": "image,label1,label2\np0.jpg,sea,boat\np1.jpg,sea,\n"}, "p0.jpg p1.jpg")
    ],
    ("several raters", "a row"): [
        ({"labels.csv": "image,rater,sea,boat\np0.jpg,A,1,0\np0.jpg,B,1,1\np1.jpg,A,0,1\n"}, "p0.jpg p1.jpg")
    ],
    ("a model's scores", "a column"): [
        ({"labels.csv": "image,sea,boat\np0.jpg,0.9,0.7\np1.jpg,0.8,0.1\n"}, "p0.jpg p1.jpg")
    ],
    ("numbers for names", "class numbers"): [
        ({"train.csv": "Id,Target\np0,1 0\np1,0\n", "names.txt": "sea\nboat\n"}, "p0.jpg p1.jpg")
    ],
    ("LVIS", "its JSON"): [
        ({"lvis_v1_val.json": {**COCO, "images": [
            {"id": n, "coco_url": f"http://x.org/val2017/p{n - 1}.jpg", "neg_category_ids": [2]} for n in (1, 2)]}},
         "val2017/p0.jpg val2017/p1.jpg")
    ],
    ("iNaturalist, MS-COCO panoptic", "their JSON"): [
        ({"train.json": COCO}, "p0.jpg p1.jpg"),
        ({"train.json": {**COCO, "annotations": [
            {"image_id": 1, "file_name": "p0.png", "segments_info": [{"category_id": 1}, {"category_id": 2}]},
            {"image_id": 2, "file_name": "p1.png", "segments_info": [{"category_id": 1}]}]}}, "p0.jpg p1.jpg"),
    ],
    ("Hugging Face", "an `imagefolder`"): [
        ({"photos/metadata.jsonl": lines({"file_name": "p0.jpg", "labels": ["sea", "boat"]},
                                         {"file_name": "p1.jpg", "labels": ["sea"]})},
         "photos/p0.jpg photos/p1.jpg")
    ],
    ("Planet (Kaggle)", "`train_v2.csv`"): [
        ({"train_v2.csv": "image_name,tags\np0,sea boat\np1,sea\n"}, "train-jpg/p0.jpg train-jpg/p1.jpg")
    ],
    ("CelebA", "`list_attr_celeba.csv`"): [
        ({"list_attr_celeba.csv": "image_id,sea,boat\np0.jpg,1,1\np1.jpg,1,-1\n"}, "img/p0.jpg img/p1.jpg"),
        ({"list_attr_celeba.txt": "2\nsea boat \np0.jpg  1  1\np1.jpg  1 -1\n"}, "img/p0.jpg img/p1.jpg"),
    ],
    ("CheXpert", "`train.csv`"): [({"train.csv": CHEXPERT}, "train/p0.jpg train/p1.jpg")],
    ("ChestX-ray14", "`Data_Entry.csv`"): [
        ({"Data_Entry.csv": CHEST + "p1.jpg,A,0,60,9,9,\n"}, "images_001/p0.jpg images_002/p1.jpg")
    ],
    ("RFMiD, MLRSNet, UCMerced", "a column"): [
        ({"labels.csv": "ID,Risk,DR\n1,1,1\n2,0,1\n"}, "images/1.png images/2.png"),
        ({"labels.csv": "IMAGE\\LABEL\tsea\tboat\np0\t1\t1\np1\t0\t1\n"}, "images/p0.tif images/p1.tif"),
    ],
    ("Paddle, Caffe lists", "`image.jpg 4 0`"): [
        ({"list.txt": "images\\p0.jpg 1 0\nimages\\p1.jpg 0\n", "names.txt": "sea\nboat\n"},
         "images/p0.jpg images/p1.jpg")
    ],
}  # fmt: skip
"""By the row, its tool and the start of its export: files, as texts, bytes or JSON, and the images beside them."""


def cases_of(tool: str, export: str) -> list[tuple[Files, str]]:
    return next((cases for (name, start), cases in CASES.items() if name == tool and export.startswith(start)), [])


def test_every_row_of_the_guide_has_a_file_and_every_file_a_row() -> None:
    without = [(tool, export) for tool, export, _ in ROWS if not cases_of(tool, export)]
    assert (without, len(ROWS)) == ([], len(CASES))


@pytest.mark.parametrize(
    ("command", "files", "names"),
    [
        pytest.param(command, *case, id=f"{tool} {number}")
        for tool, export, command in ROWS
        for number, case in enumerate(cases_of(tool, export))
    ],
)
def test_the_command_of_the_guide_reads_the_file_of_the_tool(
    images: Images,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    files: Files,
    names: str,
) -> None:
    folder = images(*names.split())
    for name, value in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = value if isinstance(value, str | bytes) else json.dumps(value)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(folder)
    arguments = shlex.split(command)[1:]
    source = arguments[2].partition("::")
    if files and not Path(source[0]).exists() and "." in source[0]:  # another file of the same row, such as .txt
        arguments[2] = next(name for name in files if name.startswith(Path(source[0]).stem)) + "".join(source[1:])
    assert main([*arguments, "--near", "-1"]) == 0, capsys.readouterr().err
    shown = capsys.readouterr()
    assert shown.out.startswith("2 images (")
    assert ", 2 labels" in shown.out.splitlines()[0]
