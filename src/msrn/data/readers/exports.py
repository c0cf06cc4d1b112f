"""Turn exports of annotation programs into rows of an image and its labels.

Read are Label Studio's JSON, CVAT for images (XML), CreateML, FiftyOne's image labels, Azure Custom Vision, Datumaro,
VIA (``exports_via``), and the manifests of SageMaker Ground Truth and Vertex AI. Boxes and outlines count as their
label. An image that was looked at and has no annotation shows none of the labels.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msrn.data.image_files import is_image_name
from msrn.data.image_names import is_url
from msrn.data.readers.exports_via import rows_of_via
from msrn.data.table import Row
from msrn.errors import DataError

__all__ = ["Export", "rows_of_export", "rows_of_xml"]

Labels = list[Any] | None
"""Labels of an image; None: nothing is known."""


@dataclass(frozen=True, slots=True)
class Export:
    """Rows of an export, their columns, and notes that name the program."""

    columns: tuple[str, ...]
    rows: list[Row]
    notes: tuple[str, ...]


def rows_of_export(tree: Any, path: Path) -> Export | None:
    """Rows with the columns image, labels and maybe split; None if the tree is not a known export.

    Args:
        tree: parsed JSON: an object, or the list of the objects of all lines.
        path: the file, for the places of rows.
    """
    if isinstance(tree, dict):
        if via := rows_of_via(tree, path):
            return Export(*via)
        kinds: tuple[Any, ...] = (_fiftyone, _datumaro, _mapping)
    elif isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree):
        kinds = (_label_studio, _custom_vision, _create_ml, _sagemaker, _vertex)
    else:
        return None
    return next((_export(found, path) for kind in kinds if (found := kind(tree)) is not None), None)


def rows_of_xml(text: str, path: Path) -> Export:
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
        video = root.find("track") is not None
        hint = "export the task as CVAT for images 1.1, which saves its frames as images" if video else ""
        got = "found tracks of a video" if video else "found no image"
        raise DataError(f"expected annotations of CVAT for images, {got}", str(path), hint)
    rows: list[tuple[str, Labels, str]] = [(name, [each for each in labels if each], "") for name, labels in images]
    return _export(("CVAT for images", rows, []), path)


Found = tuple[str, list[tuple[str, Labels, str]], list[str]]
"""The name of the program; images with their labels and split; notes."""


def _export(found: Found, path: Path) -> Export:
    program, entries, notes = found
    rows = []
    splits = any(split for _, _, split in entries)
    for number, (image, labels, split) in enumerate(entries, start=1):
        cells: dict[str, Any] = {"image": image, "labels": None if labels is None else _once(labels)}
        rows.append(Row(f"{path}, entry {number}", cells | ({"split": split} if splits else {})))
    none = sum(labels == [] for _, labels, _ in entries)
    if none:
        notes = [*notes, f"{none:,} of {len(rows):,} images have no annotation and show none of the labels"]
    return Export(("image", "labels", *(("split",) if splits else ())), rows, (f"an export of {program}", *notes))


def _once(labels: Iterable[Any]) -> list[Any]:
    """Each label once; what is not a name stays, and is reported as such."""
    kept: dict[object, Any] = {}
    for place, label in enumerate(labels):
        kept.setdefault(label if isinstance(label, str) else place, label)
    return list(kept.values())


def _list(value: Any) -> list[Any]:
    """A part of an export; none where it is not the list that it should be."""
    return value if isinstance(value, list) else []


def _label_studio(entries: Sequence[dict[str, Any]]) -> Found | None:
    """Tasks with the results of all annotations that were not cancelled."""
    if not all(isinstance(entry.get("data"), dict) for entry in entries):
        return None
    rows: list[tuple[str, Labels, str]] = []
    several = predicted = 0
    for entry in entries:
        given = _list(entry.get("annotations", entry.get("completions")))
        done = [each for each in given if isinstance(each, dict) and not each.get("was_cancelled")]
        values = [
            result.get("value")
            for annotation in done
            for result in _list(annotation.get("result"))
            if isinstance(result, dict)
        ]
        labels = [
            name
            for value in values
            if isinstance(value, dict)
            for key, names in value.items()
            if (key in {"choices", "taxonomy"} or key.endswith("labels")) and isinstance(names, list)
            for name in names
        ]
        several += len(done) > 1
        predicted += not done and bool(entry.get("predictions"))
        labels = [name[-1] if isinstance(name, list) and name else name for name in labels]  # a path of a taxonomy
        rows.append((_image_of(entry["data"]), labels if done else None, ""))
    notes = [f"{several:,} images with several annotations have the labels of all of them"] if several else []
    notes += [f"{predicted:,} images with predictions only are unknown"] if predicted else []
    return "Label Studio", rows, notes


def _image_of(data: dict[str, Any]) -> str:
    """The image of a task: under a usual key, or else the first text that names one."""
    texts = [data.get("image"), *data.values()]
    named = (text for text in texts if isinstance(text, str) and (is_image_name(text) or is_url(text)))
    return next(named, str(data.get("image") or ""))


def _custom_vision(entries: Sequence[dict[str, Any]]) -> Found | None:
    """Images of Azure Custom Vision, as its interface lists them."""
    keys = ("originalImageUri", "resizedImageUri", "uri")
    if not all(isinstance(entry.get("tags"), list) and any(key in entry for key in keys) for entry in entries):
        return None
    rows: list[tuple[str, Labels, str]] = []
    for entry in entries:
        marks = [*entry["tags"], *_list(entry.get("regions"))]
        labels = [mark.get("tagName") for mark in marks if isinstance(mark, dict)]
        rows.append((str(next(entry[key] for key in keys if key in entry)), labels, ""))
    return "Azure Custom Vision", rows, []


def _create_ml(entries: Sequence[dict[str, Any]]) -> Found | None:
    keys = next(
        (pair for pair in (("image", "annotations"), ("imagefilename", "annotation")) if pair[1] in entries[0]), None
    )
    if keys is None or not all(
        isinstance(entry.get(keys[1]), list) and isinstance(entry.get(keys[0]), str) for entry in entries
    ):
        return None
    rows: list[tuple[str, Labels, str]] = []
    for entry in entries:
        labels = [each.get("label") if isinstance(each, dict) else each for each in entry[keys[1]]]
        rows.append((str(entry.get(keys[0]) or ""), labels, ""))
    return "CreateML", rows, []


def _fiftyone(tree: dict[str, Any]) -> Found | None:
    classes, labels = tree.get("classes"), tree.get("labels")
    if not isinstance(labels, dict) or not (classes is None or isinstance(classes, list)):
        return None
    if not tree.keys() <= {"classes", "labels"}:
        return None
    return "FiftyOne", [(image, _named(value, classes or []), "") for image, value in labels.items()], []


def _named(value: Any, classes: list[Any]) -> Labels:
    """Labels by name or by number; boxes by their label."""
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    values = [each.get("label") if isinstance(each, dict) else each for each in values]
    return [classes[v] if isinstance(v, int) and 0 <= v < len(classes) else v for v in values]


def _mapping(tree: dict[str, Any]) -> Found | None:
    """An object whose keys are images, and whose values are their labels."""
    if not tree or not all(is_image_name(key) for key in tree):
        return None
    if not all(value is None or isinstance(value, str | list) for value in tree.values()):
        return None
    rows = [(image, [value] if isinstance(value, str) else value, "") for image, value in tree.items()]
    return "images to labels", rows, []


def _datumaro(tree: dict[str, Any]) -> Found | None:
    items, categories = tree.get("items"), tree.get("categories")
    if not isinstance(items, list) or not isinstance(categories, dict) or not isinstance(categories.get("label"), dict):
        return None
    names = [each.get("name") for each in _list(categories["label"].get("labels")) if isinstance(each, dict)]
    rows: list[tuple[str, Labels, str]] = []
    for item in (item for item in items if isinstance(item, dict)):
        image = item.get("image") if isinstance(item.get("image"), dict) else {}
        numbers = [each.get("label_id") for each in _list(item.get("annotations")) if isinstance(each, dict)]
        labels = [names[n] if isinstance(n, int) and 0 <= n < len(names) else n for n in numbers if n is not None]
        rows.append((str((image or {}).get("path") or item.get("id") or ""), labels, ""))
    return "Datumaro", rows, []


def _sagemaker(entries: Sequence[dict[str, Any]]) -> Found | None:
    if not all(isinstance(entry.get("source-ref"), str) for entry in entries):
        return None
    rows: list[tuple[str, Labels, str]] = []
    for entry in entries:
        job = next((key for key in entry if isinstance(entry.get(f"{key}-metadata"), dict)), None)
        if job is None:
            rows.append((entry["source-ref"], None, ""))
            continue
        metadata, value = entry[f"{job}-metadata"], entry[job]
        names = metadata.get("class-map")
        names = names if isinstance(names, dict) else {}
        if isinstance(value, dict):  # boxes
            value = [each.get("class_id") for each in _list(value.get("annotations")) if isinstance(each, dict)]
        if not isinstance(value, list):
            value, names = [value], names or {str(value): metadata.get("class-name")}
        rows.append((entry["source-ref"], [names.get(str(number), number) for number in value], ""))
    return "SageMaker Ground Truth", rows, []


def _vertex(entries: Sequence[dict[str, Any]]) -> Found | None:
    if not all(isinstance(entry.get("imageGcsUri"), str) for entry in entries):
        return None
    rows: list[tuple[str, Labels, str]] = []
    for entry in entries:
        one = entry.get("classificationAnnotation")
        marks = [*_list(entry.get("classificationAnnotations")), *_list(entry.get("boundingBoxAnnotations"))]
        marks += [one] if isinstance(one, dict) else []
        labels = [mark.get("displayName") for mark in marks if isinstance(mark, dict)]
        use = entry.get("dataItemResourceLabels")
        split = use.get("aiplatform.googleapis.com/ml_use") if isinstance(use, dict) else None
        rows.append((entry["imageGcsUri"], labels, str(split or "")))
    return "Vertex AI", rows, []
