"""Say what a file looks like that could not be read: an image of another kind, no image, or the export of a program.

Asked only after reading has failed; nothing is decoded here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from msrn.data.image_files import is_image_name
from msrn.files import parse_json

__all__ = ["Look", "look_of", "look_of_file", "look_of_folder"]

MAX_BYTES = 2**26
"""Size of a JSON file above which only its start is looked at."""

MAX_NAMES = 2000
"""Names of a folder that are looked at."""

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev"}
READ = "pass --data.reader table"
TABLE = "or write a table with the columns image and labels, as in sea|boat"


@dataclass(frozen=True, slots=True)
class Look:
    """What a file looks like, with an article; what to do; and the reader that reads it, if one does."""

    what: str
    hint: str
    reader: str = ""


HEIC = Look("a HEIC image (an iPhone's format)", "convert it to JPEG, for example with heif-convert or pillow-heif")
JXL = Look("a JPEG XL image", "convert it to JPEG or PNG, for example with djxl")
DOWNLOAD = "the download failed: fetch the image again"
MAGIC: tuple[tuple[bytes, Look], ...] = (
    (rb"\A\Z", Look("an empty file", "copy or download it again")),
    (rb"\A.{4}ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", HEIC),
    (rb"\A(\xff\x0a|\0\0\0\x0cJXL )", JXL),
    (rb"\A.{4}ftyp(avif|avis)", Look("an AVIF image", "convert it to JPEG: this Pillow cannot decode AVIF")),
    (rb"\A.{4}ftyp", Look("a video", "save a frame of it as an image")),
    (rb"\Aversion https://git-lfs", Look("a pointer of Git LFS in place of the file", "run git lfs pull")),
    (rb"(?i)\A\s*(<!doctype html|<html|<head|<body)", Look("a web page", DOWNLOAD)),
    (rb"\A\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", Look("a drawing (SVG)", "save it as PNG")),
    (rb"\A\s*(<\?xml[^>]*>\s*)?<Error>", Look("an error message of a server", DOWNLOAD)),
    (rb"\A%PDF", Look("a PDF document", "save its pages as images")),
    (rb"\A8BPS", Look("a Photoshop document", "save it as PNG or JPEG")),
    (rb"\A(II\*\0.{4}CR|IIRO|IIU\0|FUJIFILMCCD-RAW)", Look("a raw photograph", "export it as JPEG")),
    (rb"\APK\x03\x04", Look("a zip archive or an Excel workbook", "unpack it; or save the workbook as CSV UTF-8")),
    (rb"\A\xd0\xcf\x11\xe0", Look("a workbook of old Excel (.xls)", "save it as .xlsx or CSV UTF-8")),
    (rb"\A\x1f\x8b", Look("a gzip archive", "unpack it")),
    (rb"\A(\x89HDF|CDF)", Look("an HDF5 or NetCDF file", "save its images as PNG")),
    (rb"\A\x93NUMPY", Look("a NumPy array", "save it as an image with Pillow")),
)


def look_of(content: bytes, path: Path) -> Look | None:
    """What the content of a file looks like; None if it looks like nothing known.

    Args:
        content: the file, or its start.
        path: its name.
    """
    for pattern, look in MAGIC:
        if re.match(pattern, content[:400], re.DOTALL):
            return look
    head = content[:4000].decode("utf-8-sig", "replace").lstrip()
    if head[:1] in {"[", "{"}:
        return _json_look(content, path)
    if head.startswith("<"):
        return _xml_look(head)
    return None


def look_of_file(path: str | Path) -> Look | None:
    """As ``look_of``, of a file; None if it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return look_of(file.read(MAX_BYTES), Path(path))
    except OSError:
        return None


def _xml_look(head: str) -> Look | None:
    if re.search(r"<annotations>", head) and re.search(r"<(image|meta|version)\b", head):
        return Look("annotations of CVAT for images", READ, "table")
    if re.search(r"<annotation\b", head):
        return Look("one annotation of Pascal VOC", "pass its folder, with --data.reader voc")
    return Look("an XML file", f"export it as COCO or CSV; {TABLE}")


def _json_look(content: bytes, path: Path) -> Look | None:
    try:
        tree: Any = parse_json(content)
    except ValueError:
        try:
            tree = parse_json(content.split(b"\n", 1)[0])
        except ValueError:
            return None
        tree = [tree]
    if isinstance(tree, dict):
        return _object_look(tree, path)
    if isinstance(tree, list) and tree and isinstance(tree[0], dict):
        return _list_look(tree[0])
    return None


def _object_look(tree: dict[str, Any], path: Path) -> Look | None:
    keys = set(tree)
    if {"images", "categories"} <= keys or {"images", "annotations"} <= keys:
        return Look("a COCO file", f"pass --data.reader coco --data.train {path}", "coco")
    if {"classes", "labels"} <= keys:
        return Look("labels of FiftyOne", READ, "table")
    if {"shapes", "imagePath"} <= keys or {"flags", "shapes"} <= keys:
        hint = f"it holds one image: pass its folder, {path.parent}, with --data.reader labelme"
        return Look("an annotation of labelme", hint)
    values = [value for value in list(tree.values())[:3] if isinstance(value, dict)]
    if "_via_img_metadata" in keys or (values and all({"filename", "regions"} <= set(value) for value in values)):
        return Look("annotations of VIA (VGG Image Annotator)", READ, "table")
    if {"items", "categories"} <= keys:
        return Look("annotations of Datumaro", READ, "table")
    if "samples" in keys:
        hint = "export it with fiftyone.types.FiftyOneImageClassificationDataset or COCODetectionDataset"
        return Look("samples of FiftyOne", f"{hint}, {TABLE}")
    if {"tags", "objects"} <= keys:
        return Look("an annotation of Supervisely", f"export the project as COCO, {TABLE}")
    if "image_id" in keys and "caption" in keys:
        return Look("captions of COCO", "pass the instances file")
    if {"message", "error"} & keys and len(keys) < 6:
        return Look("an error message of a server", DOWNLOAD)
    return _list_look(tree)


def _list_look(first: dict[str, Any]) -> Look | None:
    keys = set(first)
    if "source-ref" in keys:
        return Look("a manifest of SageMaker Ground Truth", READ, "table")
    if {"data", "annotations"} <= keys or {"data", "completions"} <= keys:
        return Look("an export of Label Studio", READ, "table")
    if "imageGcsUri" in keys:
        return Look("an import file of Vertex AI", READ, "table")
    if {"image", "annotations"} <= keys or {"imagefilename", "annotation"} <= keys:
        return Look("annotations of CreateML", READ, "table")
    if "tags" in keys and keys & {"originalImageUri", "resizedImageUri"}:
        return Look("images of Azure Custom Vision", READ, "table")
    if "data_row" in keys or "Labeled Data" in keys:
        return Look("an export of Labelbox", f"export it as COCO, {TABLE}")
    if "task_id" in keys and {"params", "response"} & keys:
        return Look("tasks of Scale AI", f"convert them: {TABLE.removeprefix('or ')}")
    if {"image_id", "category_id", "score"} <= keys:
        return Look("results in COCO's format", "pass the instances file")
    return None


def look_of_folder(folder: Path) -> Look | None:
    """What the layout of a folder looks like, by the names of its first files; None if it looks like nothing known."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))[:MAX_NAMES]
    suffixes = {PurePath(name).suffix.lower() for name in names}
    folders = [name for name in names if (folder / name).is_dir()]
    if "JPEGImages" in folders:
        return Look("a folder of Pascal VOC", f"pass the name of a split with --data.reader voc --data.root {folder}")
    if {"ann", "img"} <= set(folders):
        return Look("a data set of Supervisely", f"export the project as COCO, {TABLE}")
    if {"images", "labels"} <= set(folders) or {"data.yaml", "classes.txt", "obj.names"} & set(names):
        return Look("a data set of YOLO", f"pass --data.reader yolo with {folder} or a folder of images in it")
    tables = [name for name in names if name.lower() in {"_classes.csv", "labels.csv", "_annotations.coco.json"}]
    if tables:
        return Look(f"a folder that holds {tables[0]}", f"pass that file: {folder / tables[0]}")
    if {"metadata.csv", "metadata.jsonl"} & set(names):
        return Look("an imagefolder of Hugging Face", "pass --data.reader folders")
    images = any(is_image_name(name) for name in names)
    for suffix, reader in ((".xml", "voc"), (".txt", "textfiles")):
        if images and suffix in suffixes:
            return Look(f"images with {suffix} files beside them", f"pass --data.reader {reader}")
    if ".json" in suffixes:
        first = next(name for name in names if name.lower().endswith(".json"))
        look = look_of_file(folder / first)
        if look and "labelme" in look.what:
            return Look("a folder of labelme", "pass --data.reader labelme")
        return look
    if {".tar", ".parquet"} & suffixes:
        return Look("a folder of shards", "pass a pattern of them, such as 'train-*.tar'")
    if images:
        return Look("a folder of images without labels", f"name a file that holds their labels, {TABLE}")
    inner = [name for name in folders if any(is_image_name(each.name) for each in (folder / name).iterdir())]
    if inner and not {name.lower() for name in folders} <= SPLITS:
        return Look("a folder per label", "pass --data.reader folders")
    if folders:
        # Splits, of which each has a layout of its own, or folders in folders.
        look = look_of_folder(folder / folders[0]) if {name.lower() for name in folders} <= SPLITS else None
        if look is not None:
            return Look(f"a folder of splits ({', '.join(folders[:3])}), each {look.what}", f"name them: {look.hint}")
        some = " ".join(str(folder / name) for name in folders[:3])
        return Look(
            "a folder of folders", f"if they are splits of folders per label, pass {some} --data.reader folders"
        )
    return None
