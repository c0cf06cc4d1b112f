"""Kinds of data sets: what the readers beside that of tables read, with the images."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from kinds import Kind, damaged
from of_images import SMALL, arrow, parquet, tar_of

from msrn import registry
from msrn.config import DataSettings, validate
from msrn.data.manifest import Manifest
from msrn.data.readers.nuswide import CONCEPTS
from msrn.labels.space import LabelSpace

NAMES = ("a.png", "b c.png", "sub/d.png", "é.png")
IMAGES: dict[str, bytes] = dict.fromkeys(NAMES, SMALL)


def check_manifest(manifest: Manifest, folder: Path) -> None:
    """What a reader promises: bound labels, each in one state; written and read back, it is the same."""
    assert len(manifest) > 0
    assert len(manifest.reading) + len(manifest.source) < 50_000
    for record in manifest.records:
        named = [*record.positives, *record.difficult, *record.unknown]
        assert len(set(named)) == len(named), named
        assert all(name in manifest.labels for name in named), named
        assert "\0" not in record.image, record.image
    assert manifest.codes().shape == (len(manifest), len(manifest.labels))
    targets = manifest.targets("ignore")
    assert ((targets == 0) | (targets == 1) | np.isnan(targets)).all()
    written = folder / "out" / "again.jsonl"
    manifest.write(written)
    again = Manifest.read(written, root=manifest.root)
    assert again.records == manifest.records
    assert again.labels == manifest.labels
    assert again.digest == manifest.digest


def read_split(folder: Path, *, reader: str, split: str, options: Mapping[str, Any], root: bool = True) -> None:
    """Read a split by its reader: with its own labels, and then bound to these."""
    tree = {"reader": {"name": reader, **options}}
    chosen = validate(DataSettings, tree).reader
    read: Callable[..., Manifest] = registry.load("reader", reader)
    place = str(folder) if root else ""
    manifest = read(chosen, place, split, None)
    check_manifest(manifest, folder)
    if reader == "nuswide":
        return  # numbers in its lists count in the order of the labels that are passed
    bound = read(chosen, place, split, LabelSpace(reversed(manifest.labels.names)))
    assert bound.labels.names == manifest.labels.names[::-1]
    assert [set(record.positives) for record in bound.records] == [set(r.positives) for r in manifest.records]


def lines(*rows: str) -> bytes:
    return ("\n".join(rows) + "\n").encode()


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def boxes(*names: str) -> str:
    objects = "".join(f"<object><name>{n}</name><difficult>0</difficult><bndbox/></object>" for n in names)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotation><filename>a.png</filename>{objects}</annotation>\n'


COCO = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "sub/d.png"}, {"id": 3, "file_name": "é.png"}],
    "categories": [
        {"id": 1, "name": "sea", "supercategory": "all"},
        {"id": 2, "name": "boat", "supercategory": "all"},
        {"id": 9, "name": "all", "supercategory": "none"},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 2, "iscrowd": 1},
        {"id": 3, "image_id": "1", "category_id": 2},
    ],
}
LVIS = {
    "images": [
        {"id": 1, "coco_url": "http://x/sub/d.png", "neg_category_ids": [2], "not_exhaustive_category_ids": []},
        {"id": 2, "file_name": "a.png", "neg_category_ids": []},
    ],
    "categories": [{"id": 1, "name": "sea"}, {"id": 2, "name": "boat"}],
    "annotations": [{"image_id": 1, "category_id": 1}, {"image_id": 2, "category_id": 2}],
}
MANIFEST_HEADER = {"msrn_manifest": 1, "labels": ["sea", "boat"], "split": "train", "source": "x", "root": "."}
STATES = [
    {"image": "a.png", "positives": ["sea"], "difficult": ["boat"]},
    {"image": "é.png", "positives": [], "unknown": ["boat"]},
]
LISTS = ("ImageSets/Main/sea_val.txt", "ImageSets/Main/boat_val.txt")
VOC = {
    "JPEGImages/a.jpg": SMALL,
    "JPEGImages/b 1.jpg": SMALL,
    "Annotations/a.xml": boxes("sea", "boat").encode(),
    "Annotations/b 1.xml": boxes("sea").encode(),
    "ImageSets/Main/train.txt": b"a\nb 1\n",
    LISTS[0]: b"a  1\nb 1 -1\n",
    LISTS[1]: b"a  0\nb 1  1\n",
}
METADATA = jsonl({"file_name": "1.png", "tags": ["sea"]}, {"file_name": "2.png", "tags": ["boat", "sea"]})
TEXTS = {"1.txt": b"sea, boat\n", "2.txt": b"sea\n"}
SAVED = {"_data_files": [{"filename": "data-0.arrow"}], "_indices_data_files": None}
NUS_LIST = lines("a.png,1 2 17", "sub/d.png,sky", "é.png 80 3")
NUS_CSV = lines("filepath,label,split_name", "a.png,\"['sky', 'clouds']\",train", "é.png,\"['sky']\",val")


def shards(kind: str) -> dict[str, bytes]:
    parts = {
        "json": (b'{"labels": ["sea", "boat"], "unknown": []}', b'{"labels": ["sea"], "unknown": ["boat"]}'),
        "cls": (b"1", b"0"),
        "txt": (b"sea, boat", b"sea"),
    }[kind]
    members: dict[str, bytes] = {}
    for name, part in zip(("dog/1", "dog/2"), parts, strict=True):
        members |= {f"{name}.png": SMALL, f"{name}.{kind}": part}
    return {"train-0.tar": tar_of(members), "classnames.txt": b"sea\nboat\n"}


TRUTH = "Groundtruth/TrainTestLabels"


def nuswide_official() -> dict[str, bytes]:
    files = {"ImageList/TrainImagelist.txt": b"a.png\nsub\\d.png\n"}
    for concept in CONCEPTS:
        files[f"{TRUTH}/Labels_{concept}_Train.txt"] = b"1\n0\n" if concept < "c" else b"0\n1\n"
    return files


def folders() -> dict[str, bytes]:
    return {f"train/{label}/{number}.png": SMALL + bytes(number) for label in ("sea", "boat") for number in (1, 2)}


def data_set(
    name: str, reader: str, split: str, files: Mapping[str, bytes], form: str, *others: str, **options: Any
) -> Kind:
    """A kind of data set.

    Args:
        name: of the kind.
        reader: that reads it.
        split: as the reader takes it.
        files: beside the images; the first is damaged.
        form: of the first (``mutate.FORMS``).
        others: more files of the same form that are damaged.
        options: of the reader.
    """
    return damaged(
        name,
        functools.partial(dict, {**IMAGES, **files}),
        functools.partial(read_split, reader=reader, split=split, options=options),
        forms=dict.fromkeys((next(iter(files)), *others), form),
    )


def _names_of_folders() -> Kind:
    """Folders of labels with hostile names."""
    from mutate import WORDS

    words = [word.replace("/", "").replace("\0", "")[:200] for word in WORDS]
    odd = [word for word in words if word.strip(".")] + ["\udcff\udcfe", "a\udc80", "\n", "__MACOSX", ".hidden"]

    def case(rng: Any, number: int) -> dict[str, bytes]:
        files = folders()
        for _ in range(rng.randrange(3) if number else 0):
            files[f"train/{rng.choice(odd)}/{rng.choice(odd)}{rng.choice(('.png', '.PNG', '', '.txt'))}"] = SMALL
        return {name: content for name, content in files.items() if len(name.encode("utf-8", "surrogateescape")) < 250}

    return Kind("folders", case, functools.partial(read_split, reader="folders", split="train", options={}))


def saved() -> dict[str, bytes]:
    return {"state.json": json.dumps(SAVED).encode()}


def in_train(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"train/{name}": content for name, content in files.items()}


LABELME = {"version": "5", "flags": {"sea": True}, "shapes": [{"label": "boat"}], "imagePath": "1.png"}
YOLO = {
    "labels/train/1.txt": b"0 0.5 0.5 1 1\n1 0.1 0.1 0.2 0.2\n",
    "data.yaml": b"train: images/train\nnames:\n  0: sea\n  1: boat\n",
    "labels/train/2.txt": b"1 0.5 0.5 1 1\n",
    "images/train/1.png": SMALL,
    "images/train/2.png": SMALL,
}
MANIFEST = {"train.jsonl": jsonl(MANIFEST_HEADER, *STATES)}
TRAIN_JSON = {"train.json": json.dumps(COCO).encode()}
PAIR = {"1.png": SMALL, "2.png": SMALL}
KINDS: list[Kind] = [
    data_set("manifest", "manifest", "train.jsonl", MANIFEST, "json"),
    data_set("coco", "coco", "train", TRAIN_JSON, "json", empty="keep"),
    data_set("coco joined", "coco", "train.json", TRAIN_JSON, "json", repeated="join", crowd="skip", order="id"),
    data_set("coco lvis", "coco", "train", {"train.json": json.dumps(LVIS).encode()}, "json"),
    data_set("voc xml", "voc", "train", {"Annotations/a.xml": b"", **VOC}, "text", "ImageSets/Main/train.txt"),
    data_set(
        "voc lists", "voc", "val", {"ImageSets/Main/sea_val.txt": b"", **VOC}, "text", "ImageSets/Main/boat_val.txt"
    ),
    data_set("nuswide csv", "nuswide", "train", {"nus.csv": NUS_CSV}, "text"),
    data_set("nuswide list", "nuswide", "list.txt", {"list.txt": NUS_LIST}, "text"),
    data_set("nuswide official", "nuswide", "train", nuswide_official(), "text", f"{TRUTH}/Labels_sky_Train.txt"),
    data_set("textfiles", "textfiles", "train", in_train({**TEXTS, **PAIR}), "text", "train/2.txt"),
    data_set("folders metadata", "folders", "train", in_train({"metadata.jsonl": METADATA, **PAIR}), "json"),
    data_set("labelme", "labelme", "train", in_train({"1.json": json.dumps(LABELME).encode(), **PAIR}), "json"),
    data_set("yolo", "yolo", "train", YOLO, "text", "data.yaml"),
    data_set("parquet", "parquet", "train.parquet", {"train.parquet": parquet()}, "bytes"),
    data_set("arrow", "parquet", "train", in_train({"data-0.arrow": arrow(stream=True), **saved()}), "bytes"),
    data_set("arrow state", "parquet", "train", in_train({**saved(), "data-0.arrow": arrow(stream=True)}), "json"),
    *(data_set(f"webdataset {kind}", "webdataset", "train", shards(kind), "tar") for kind in ("json", "cls", "txt")),
    data_set("webdataset classes", "webdataset", "train", dict(reversed(shards("cls").items())), "text"),
    _names_of_folders(),
]
