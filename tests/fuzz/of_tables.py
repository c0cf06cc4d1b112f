"""Kinds of tables: CSV and its relatives, JSON lines, and the exports of annotation programs."""

from __future__ import annotations

import json
from typing import Any

from kinds import Kind
from of_data_sets import NAMES, data_set, jsonl, lines


def task(image: str, *names: str) -> dict[str, Any]:
    """One of Label Studio."""
    results = [{"value": {"choices": list(names)}}]
    return {"id": 1, "data": {"image": image}, "annotations": [{"was_cancelled": False, "result": results}]}


VERTEX = [
    {"imageGcsUri": "gs://b/a.png", "classificationAnnotations": [{"displayName": "sea"}, {"displayName": "boat"}]},
    {"imageGcsUri": "gs://b/é.png", "classificationAnnotation": {"displayName": "sea"}},
]
SAGEMAKER = [
    {"source-ref": "s3://b/a.png", "job": [0, 1], "job-metadata": {"class-map": {"0": "sea", "1": "boat"}}},
    {"source-ref": "s3://b/b c.png", "job": 0, "job-metadata": {"class-name": "sea"}},
    {
        "source-ref": "s3://b/é.png",
        "job": {"annotations": [{"class_id": 1}]},
        "job-metadata": {"class-map": {"0": "sea", "1": "boat"}},
    },
]
LABEL_STUDIO = [task("/data/local-files/?d=a.png", "sea", "boat"), task("/data/local-files/?d=b%20c.png", "sea")]
CREATEML = [
    {"image": "a.png", "annotations": [{"label": "sea", "coordinates": {}}, {"label": "boat"}]},
    {"image": "é.png", "annotations": [{"label": "sea"}]},
]
FIFTYONE = {"classes": ["sea", "boat"], "labels": {"a.png": [0, 1], "é.png": "sea", "b c.png": None}}
VISION = [
    {"originalImageUri": "https://x/a.png?sv=1", "tags": [{"tagName": "sea"}], "regions": [{"tagName": "boat"}]},
    {"originalImageUri": "https://x/é.png", "tags": [{"tagName": "sea"}]},
]
DATUMARO = {
    "categories": {"label": {"labels": [{"name": "sea"}, {"name": "boat"}]}},
    "items": [
        {"id": "a", "annotations": [{"label_id": 0}, {"label_id": 1}], "image": {"path": "a.png"}},
        {"id": "é.png", "annotations": [{"label_id": 0}]},
    ],
}
VIA = {
    "_via_attributes": {"file": {"kind": {"type": "dropdown"}}, "region": {"note": {"type": "text"}}},
    "_via_img_metadata": {
        "a.png1": {"filename": "a.png", "regions": [], "file_attributes": {"kind": "sea"}},
        "é.png1": {
            "filename": "é.png",
            "regions": [{"region_attributes": {"note": "x", "kind": {"boat": True}}}],
            "file_attributes": {},
        },
    },
}
VIA_CSV = lines(
    "filename,file_attributes,region_attributes", 'a.png,"{""kind"":""sea""}",{}', 'é.png,{},"{""kind"":""boat""}"'
)
ARRAY = [{"image": "a.png", "sea": 1, "boat": None}, {"image": "é.png", "sea": 0}]
STATES = [
    {"image": "a.png", "positives": ["sea"], "difficult": [], "unknown": ["boat"]},
    {"image": "b c.png", "positives": [], "difficult": ["boat"], "unknown": []},
]
LONG = [f"{image},{name},{state}" for image in NAMES for name, state in (("sea", 1), ("boat", 0))]
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<image id="0" name="a.png"><box label="sea"/><tag label="boat"/></image>
<image id="1" name="sub/d.png"><polygon label="boat" points="1,2;3,4"/></image></annotations>
"""

TEXTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "names.csv": (lines("image,labels,unknown", "a.png,sea|boat,", "b c.png,-,sea", "sub/d.png,sea,"), {}),
    "lists.csv": (lines("image,labels", "a.png,\"['sea', 'boat']\"", 'b c.png,"[""sea""]"', "é.png,[]"), {}),
    "columns.csv": (lines("image,sea,boat,x", "a.png,1,0,1", "b c.png,0,,0", "sub/d.png,?,1,1"), {}),
    "codes.csv": (lines(",image,sea,boat", "0,a.png,1,-1", "1,b c.png,-1,1"), {"minus_one": "unknown"}),
    "long.csv": (lines("ImageID,LabelName,Confidence", *LONG), {}),
    "ragged.csv": (lines("training,gs://b/a.png,sea,boat", "training,gs://b/é.png,sea"), {}),
    "split.csv": (lines("image,labels,split", "a.png,sea,train", "b c.png,boat,train", "é.png,sea,val"), {}),
    "excel.csv": (lines("sep=;", "image;labels", "a.png;sea, boat", "b c.png;sea"), {}),
    "plain.tsv": (lines("image\tlabels", "a.png\tsea boat", "sub/d.png\tsea", "é.png\tboat"), {}),
    "celeba.txt": (lines("2", "sea boat", "a.png 1 -1", "sub/d.png -1 1"), {"minus_one": "absent"}),
    "blanks.txt": (lines("a.png sea boat", "sub/d.png sea"), {}),
    "cvat.xml": (CVAT.encode(), {}),
    "via.csv": (VIA_CSV, {}),
}
TREES: dict[str, bytes] = {
    "rows.jsonl": jsonl({"image": "a.png", "labels": ["sea"]}, {"image": "é.png", "labels": ["boat"]}),
    "states.jsonl": jsonl(*STATES),
    "sagemaker.manifest": jsonl(*SAGEMAKER),
    "vertex.jsonl": jsonl(*VERTEX),
    "array.json": json.dumps(ARRAY).encode(),
    "label-studio.json": json.dumps(LABEL_STUDIO).encode(),
    "createml.json": json.dumps(CREATEML).encode(),
    "vision.json": json.dumps(VISION).encode(),
    "datumaro.json": json.dumps(DATUMARO).encode(),
    "via.json": json.dumps(VIA).encode(),
    "mapping.json": json.dumps({"a.png": ["sea", "boat"], "é.png": "sea", "b c.png": None}).encode(),
    "fiftyone.json": json.dumps(FIFTYONE).encode(),
}
SPLITS = {"split.csv": "split.csv::train"}
KINDS: list[Kind] = [
    *(
        data_set(f"table {name}", "table", SPLITS.get(name, name), {name: content}, "text", **options)
        for name, (content, options) in TEXTS.items()
    ),
    *(data_set(f"table {name}", "table", name, {name: content}, "json") for name, content in TREES.items()),
]
