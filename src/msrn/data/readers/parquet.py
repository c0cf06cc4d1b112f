"""Read parquet files that hold images, and the folders that Hugging Face's ``datasets`` saves.

The image column holds the bytes of the files; the label column holds names, lists of names, or class numbers whose
names are in the schema. Images are read in place: a record names file, column and row.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from msrn import registry
from msrn.data.archives.names import find_archives
from msrn.data.archives.parquet import column_values, columns_of
from msrn.data.manifest import Manifest
from msrn.data.readers.table import IMAGE_COLUMNS
from msrn.data.rows import LABEL_COLUMNS, Row, Table, class_names, drop_empty, manifest_of_rows, pick_column
from msrn.errors import DataError, Problem, did_you_mean, reason
from msrn.files import parse_json
from msrn.labels.space import LabelSpace

__all__ = ["Options", "read"]

IMAGE = "\0image"
"""Key of the image name among the cells of a row; no column has this name."""


class Options(registry.Options):
    """Options of the reader of parquet and Arrow files."""

    name: str = "parquet"
    image_column: str = Field(
        "", description="column of the images; empty: a usual name such as image, or the first column of bytes"
    )
    label_column: str = Field(
        "", description="column of the labels; empty: a usual name, the one column of classes, or all other columns"
    )
    delimiter: str = Field("", description="between the labels of one cell; empty: the first of | ; , that occurs")
    empty: Literal["keep", "drop"] = Field("keep", description="images that show none of the labels")


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one split; its images are not read.

    Args:
        options: columns and cells.
        root: the folder of the data set, or empty.
        split: files as ``find_archives`` takes them, all with the same columns; or a folder that ``datasets`` saved.
        labels: bind to these; None: the class names of the schema in their order, or else the names found in
            alphabetical order.

    Raises:
        DataError: everything that is wrong, by file and row. DependencyError: pyarrow is missing.
    """
    files = _files(root, split)
    folder = Path(os.path.commonpath([path.parent for path in files]))
    columns = [columns_of(path) for path in files]
    first, where = columns[0], str(files[0])
    for path, other in zip(files, columns, strict=True):
        if (other.names, other.classes) != (first.names, first.classes):
            raise DataError("expected the same columns and classes in all files", str(path), f"compare {where}")
    image = pick_column(options.image_column or None, IMAGE_COLUMNS, first.images, where, "image_column")
    if image is None and not first.images:
        message = f"expected a column of image bytes, found only {', '.join(first.names)}"
        raise DataError(message, where, "if the files only name images, write a CSV table")
    image = image or first.images[0]
    others = [name for name in first.names if name not in first.images]
    if options.label_column and options.label_column not in others:
        hint = did_you_mean(options.label_column, others) or f"columns: {', '.join(others)}"
        raise DataError(f"there is no column {options.label_column!r} (label_column)", where, hint)
    one = options.label_column or pick_column(None, LABEL_COLUMNS, others, where, "label_column")
    if one is None and len(first.classes) == 1:
        one = next(iter(first.classes))
    asked = [one] if one else others
    if one:  # a column beside it may list unknown labels, and the manifest form has difficult labels too
        beside = ("difficult", "unknown") if one == "positives" else ("unknown",)
        asked += [name for name in others if name.lower() in beside and name != one]
    rows: list[Row] = []
    problems: list[Problem] = []
    for path, found in zip(files, columns, strict=True):
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        values = {column: column_values(path, column) for column in asked}
        for row in range(found.rows):
            place = f"{path}, row {row}"
            cells = {column: column_cells[row] for column, column_cells in values.items()}
            if one:
                cells = {key: class_names(cell, first.classes.get(key), place, problems) for key, cell in cells.items()}
            rows.append(Row(place, {IMAGE: f"{name}::{image}/{row}", **cells}))
    if problems:
        raise DataError.of(problems, "class numbers have no names")
    if labels is None and one in first.classes:
        labels = LabelSpace(first.classes[one])
    table = Table(
        rows,
        image_column=IMAGE,
        label_column=one,
        columns=asked,
        delimiter=options.delimiter or None,
        root=folder,
        split=Path(split).stem,
        source=f"{files[0].name}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
        where=where,
    )
    manifest = manifest_of_rows(table, labels)
    return drop_empty(manifest) if options.empty == "drop" else manifest


def _files(root: str, split: str) -> list[Path]:
    """The files of a split: those that a saved folder lists, or those that ``find_archives`` finds."""
    for folder in (Path(root) / split, Path(split)):
        state = folder / "state.json"
        if state.is_file():
            try:
                listed = parse_json(state.read_bytes())
                if listed.get("_indices_data_files"):
                    raise ValueError(
                        "its rows are a selection that was not written; call flatten_indices() before saving"
                    )
                # Other files of the folder may be outdated caches.
                files = [folder / Path(entry["filename"]).name for entry in listed["_data_files"]]
                if not files:
                    raise ValueError("it lists no data file")
                return files
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"the saved data set cannot be read: {reason(error)}", str(state)) from error
    return find_archives(root, split, (".parquet", ".arrow"))
