"""Turn projects of VIA, the VGG Image Annotator (JSON and CSV), into rows of an image and its attributes.

Each attribute is a column of names, whether the file has it or its regions. Texts are left out where the project has
attributes to choose from. With one attribute, it holds the labels; with several, ``label_column`` says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msrn.data.table import Row
from msrn.files import parse_json

__all__ = ["CSV_COLUMNS", "rows_of_via", "rows_of_via_csv"]

CSV_COLUMNS = {"filename", "file_attributes", "region_attributes"}
NOTE = "an export of VIA"
CHOICES = {"dropdown", "radio", "checkbox"}

Via = tuple[tuple[str, ...], list[Row], tuple[str, ...]]
"""Columns, rows and notes."""


def rows_of_via(tree: Mapping[str, Any], path: Path) -> Via | None:
    """Rows of a project or of its annotations as JSON; None if the tree is neither."""
    entries = tree.get("_via_img_metadata", tree)
    if not isinstance(entries, dict) or not entries:
        return None
    if not all(isinstance(entry, dict) and {"filename", "regions"} <= set(entry) for entry in entries.values()):
        return None
    free = _free_texts(tree.get("_via_attributes"))
    found = []
    for number, entry in enumerate(entries.values(), start=1):
        regions = entry["regions"]
        regions = list(regions.values()) if isinstance(regions, dict) else regions if isinstance(regions, list) else []
        attributes = [
            entry.get("file_attributes"),
            *(r.get("region_attributes") for r in regions if isinstance(r, dict)),
        ]
        found.append((f"{path}, entry {number}", str(entry["filename"]), attributes))
    return _rows(found, free)


def rows_of_via_csv(rows: Sequence[Row]) -> Via:
    """Rows of annotations as CSV, which has a row per region, joined by image."""
    images: dict[str, tuple[str, str, list[Any]]] = {}
    for row in rows:
        name = str(row.cells["filename"])
        _, _, attributes = images.setdefault(name, (row.where, name, []))
        for column in ("file_attributes", "region_attributes"):
            try:
                attributes.append(parse_json(row.cells[column] or "{}"))
            except ValueError:
                attributes.append({column: row.cells[column]})
    return _rows(list(images.values()), frozenset())


def _rows(found: list[tuple[str, str, list[Any]]], free: frozenset[str]) -> Via:
    names = dict.fromkeys(
        key for _, _, attributes in found for each in attributes if isinstance(each, dict) for key in each
    )
    columns = [name for name in names if name not in free and name != "image"]
    rows = []
    for where, image, attributes in found:
        cells: dict[str, Any] = {"image": image}
        for column in columns:
            values = [_names(each[column]) for each in attributes if isinstance(each, dict) and column in each]
            cells[column] = list(dict.fromkeys(name for value in values for name in value))
        rows.append(Row(where, cells))
    columns = [column for column in columns if any(row.cells[column] for row in rows)]
    kept = [Row(row.where, {key: row.cells[key] for key in ("image", *columns)}) for row in rows]
    none = sum(not any(row.cells[column] for column in columns) for row in kept)
    notes = (f"{none:,} of {len(kept):,} images have no attribute and show none of the labels",) if none else ()
    return ("image", *columns), kept, (NOTE, *notes)


def _names(value: Any) -> list[str]:
    """The names of an attribute: a text, or an object whose values are true."""
    if isinstance(value, dict):
        return [str(name) for name, chosen in value.items() if chosen]
    return [value.strip()] if isinstance(value, str) and value.strip() else []


def _free_texts(attributes: Any) -> frozenset[str]:
    """Attributes that a project declares as texts, where it declares others as a choice: captions and remarks."""
    kinds = [kind for kind in (attributes.values() if isinstance(attributes, dict) else ()) if isinstance(kind, dict)]
    types = {name: str(about.get("type")) for kind in kinds for name, about in kind.items() if isinstance(about, dict)}
    choices = {name for name, kind in types.items() if kind in CHOICES}
    return frozenset(types.keys() - choices) if choices else frozenset()
