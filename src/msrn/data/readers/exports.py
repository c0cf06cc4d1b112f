"""Turn exports of annotation programs into rows of an image and its labels.

Read are Label Studio's JSON, CVAT for images (XML), CreateML, FiftyOne's image labels, and the manifests of SageMaker
Ground Truth and Vertex AI. Boxes and outlines count as their label. An image without any annotation is unknown.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msrn.data.image_files import is_image_name
from msrn.data.image_names import is_url
from msrn.data.table import Row
from msrn.errors import DataError

__all__ = ["rows_of_export", "rows_of_xml"]

Found = tuple[str, list[tuple[str, list[Any] | None]]]
"""The name of the program, and pairs of an image and its labels (None: nothing is known)."""


def rows_of_export(tree: Any, path: Path) -> tuple[list[Row], str] | None:
    """Rows with the columns image and labels, and a note; None if the tree is not a known export.

    Args:
        tree: parsed JSON: an object, or the list of the objects of all lines.
        path: the file, for the places of rows.
    """
    found = _fiftyone(tree) if isinstance(tree, dict) else None
    if isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree):
        kinds = (_label_studio, _create_ml, _sagemaker, _vertex)
        found = next((rows for kind in kinds if (rows := kind(tree)) is not None), None)
    return None if found is None else (_rows(found, path), found[0])


def rows_of_xml(text: str, path: Path) -> tuple[list[Row], str]:
    """Rows of CVAT's annotations.

    Raises:
        DataError: the text is not XML, declares entities, or holds no image.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError("expected plain annotations, got a file that declares entities", str(path))
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"the annotations are not XML: {error}", str(path)) from error
    images = [(str(image.get("name") or ""), [child.get("label") for child in image]) for image in root.iter("image")]
    if not images:
        raise DataError("expected annotations of CVAT for images, found no image", str(path))
    named = [(name, [label for label in labels if label]) for name, labels in images]
    return _rows(("CVAT for images", [(name, labels) for name, labels in named]), path), "CVAT for images"


def _rows(found: Found, path: Path) -> list[Row]:
    return [
        Row(f"{path}, entry {number}", {"image": image, "labels": None if labels is None else _once(labels)})
        for number, (image, labels) in enumerate(found[1], start=1)
    ]


def _once(labels: Iterable[Any]) -> list[Any]:
    """Each label once; what is not a name stays, and is reported as such."""
    kept: list[Any] = []
    for label in labels:
        if label not in kept:
            kept.append(label)
    return kept


def _label_studio(entries: Sequence[dict[str, Any]]) -> Found | None:
    """Tasks with the results of all annotations that were not cancelled."""
    if not all(isinstance(entry.get("data"), dict) for entry in entries):
        return None
    rows: list[tuple[str, list[Any] | None]] = []
    for entry in entries:
        given = entry.get("annotations", entry.get("completions")) or []
        results = [
            result.get("value")
            for annotation in given
            if isinstance(annotation, dict) and not annotation.get("was_cancelled")
            for result in annotation.get("result") or []
            if isinstance(result, dict)
        ]
        done = any(isinstance(each, dict) and not each.get("was_cancelled") for each in given)
        labels = [
            name
            for value in results
            if isinstance(value, dict)
            for key, names in value.items()
            if (key == "choices" or key.endswith("labels")) and isinstance(names, list)
            for name in names
        ]
        rows.append((_image_of(entry["data"]), labels if done else None))
    return "Label Studio", rows


def _image_of(data: dict[str, Any]) -> str:
    """The image of a task: under a usual key, or else the first text that names one."""
    texts = [data.get("image"), *data.values()]
    named = (text for text in texts if isinstance(text, str) and (is_image_name(text) or is_url(text)))
    return next(named, str(data.get("image") or ""))


def _create_ml(entries: Sequence[dict[str, Any]]) -> Found | None:
    keys = next(
        (pair for pair in (("image", "annotations"), ("imagefilename", "annotation")) if pair[1] in entries[0]), None
    )
    if keys is None or not all(
        isinstance(entry.get(keys[1]), list) and isinstance(entry.get(keys[0]), str) for entry in entries
    ):
        return None
    rows: list[tuple[str, list[Any] | None]] = []
    for entry in entries:
        labels = [each.get("label") if isinstance(each, dict) else each for each in entry[keys[1]]]
        rows.append((str(entry.get(keys[0]) or ""), labels))
    return "CreateML", rows


def _fiftyone(tree: dict[str, Any]) -> Found | None:
    classes, labels = tree.get("classes"), tree.get("labels")
    if not isinstance(labels, dict) or not (classes is None or isinstance(classes, list)):
        return None
    return "FiftyOne", [(image, _named(value, classes or [])) for image, value in labels.items()]


def _named(value: Any, classes: list[Any]) -> list[Any] | None:
    """Labels by name or by number; boxes by their label."""
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    values = [each.get("label") if isinstance(each, dict) else each for each in values]
    return [classes[v] if isinstance(v, int) and 0 <= v < len(classes) else v for v in values]


def _sagemaker(entries: Sequence[dict[str, Any]]) -> Found | None:
    if not all(isinstance(entry.get("source-ref"), str) for entry in entries):
        return None
    rows: list[tuple[str, list[Any] | None]] = []
    for entry in entries:
        job = next((key for key in entry if isinstance(entry.get(f"{key}-metadata"), dict)), None)
        if job is None:
            rows.append((entry["source-ref"], None))
            continue
        metadata, value = entry[f"{job}-metadata"], entry[job]
        names = metadata.get("class-map") or {}
        if isinstance(value, dict):  # boxes
            value = [each.get("class_id") for each in value.get("annotations") or [] if isinstance(each, dict)]
        if not isinstance(value, list):
            value, names = [value], names or {str(value): metadata.get("class-name")}
        rows.append((entry["source-ref"], [names.get(str(number), number) for number in value]))
    return "SageMaker Ground Truth", rows


def _vertex(entries: Sequence[dict[str, Any]]) -> Found | None:
    if not all(isinstance(entry.get("imageGcsUri"), str) for entry in entries):
        return None
    rows: list[tuple[str, list[Any] | None]] = []
    for entry in entries:
        one = entry.get("classificationAnnotation")
        marks = [*(entry.get("classificationAnnotations") or []), *(entry.get("boundingBoxAnnotations") or [])]
        marks += [one] if isinstance(one, dict) else []
        labels = [mark.get("displayName") for mark in marks if isinstance(mark, dict)]
        rows.append((entry["imageGcsUri"], labels))
    return "Vertex AI", rows
