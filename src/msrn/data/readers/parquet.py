"""How are parquet files with pictures in them read, and the folders that Hugging Face's ``datasets`` saves?

The picture column holds the files' bytes; the label column names, lists of names, or class numbers whose names stand
in the schema. Pictures stay where they are: a record names file, column and row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from msrn.data.archives import arrow
from msrn.data.archives.containers import find_containers
from msrn.data.manifest import Manifest
from msrn.data.readers.table import IMAGE_COLUMNS
from msrn.data.rows import LABEL_COLUMNS, Row, class_names, manifest_of_rows, pick_column
from msrn.errors import DataError, Problem, did_you_mean, reason
from msrn.labels.space import LabelSpace

__all__ = ["parquet_files", "read_parquet"]


def parquet_files(root: str | Path, split: str) -> list[Path]:
    """The parquet or arrow files of a split: a saved folder's own, or those that ``find_containers`` finds.

    Raises:
        DataError: there are none, or a saved folder's list of them is damaged.
    """
    for folder in (Path(root) / split, Path(split)):
        state = folder / "state.json"
        if state.is_file():
            try:
                said = json.loads(state.read_text(encoding="utf-8"))
                if said.get("_indices_data_files"):
                    raise ValueError("rows were chosen without being written; call flatten_indices() before saving")
                # Other files of the folder may be caches of rows as they once were.
                return [folder / Path(entry["filename"]).name for entry in said["_data_files"]]
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"the saved data set cannot be read: {reason(error)}", str(state)) from error
    return find_containers(root, split, (".parquet", ".arrow"))


def read_parquet(
    files: Sequence[Path],
    labels: LabelSpace | None = None,
    *,
    root: str | Path | None = None,
    split: str = "",
    image_column: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
) -> Manifest:
    """Read parquet or arrow files of one split; the pictures are not read.

    Args:
        files: all with the same columns.
        labels: bind to these; None: the class names of the schema in their order, or else the names found in
            alphabetical order.
        root: what picture names start from; None: the files' common folder.
        split: the manifest's.
        image_column: None: a usual name such as ``image``, or the first column of pictures.
        label_column: None: a usual name such as ``labels``, the one column of classes, or all columns but the
            pictures, one per label.
        delimiter: as in tables.

    Raises:
        DataError: everything that is wrong, by file and row. DependencyError: pyarrow is missing.
    """
    folder = Path(root) if root else Path(os.path.commonpath([path.parent for path in files]))
    columns = [arrow.columns_of(path) for path in files]
    first, where = columns[0], str(files[0])
    for path, other in zip(files, columns, strict=True):
        if (other.names, other.classes) != (first.names, first.classes):
            raise DataError("expected the same columns and classes in all files", str(path), f"compare {where}")
    image = pick_column(image_column, IMAGE_COLUMNS, first.pictures, where, "image_column")
    if image is None and not first.pictures:
        told = f"no column holds the bytes of pictures; there are {', '.join(first.names)}"
        raise DataError(told, where, "of files that only name pictures make a CSV table")
    image = image or first.pictures[0]
    others = [name for name in first.names if name not in first.pictures]
    if label_column and label_column not in others:
        hint = did_you_mean(label_column, others) or f"columns: {', '.join(others)}"
        raise DataError(f"there is no column {label_column!r} (label_column)", where, hint)
    one = label_column or pick_column(None, LABEL_COLUMNS, others, where, "label_column")
    if one is None and len(first.classes) == 1:
        one = next(iter(first.classes))
    asked = [one] if one else others
    if one:  # what is unknown may stand in a column beside it, and a manifest's form has difficult labels too
        beside = ("difficult", "unknown") if one == "positives" else ("unknown",)
        asked += [name for name in others if name.lower() in beside and name != one]
    rows: list[Row] = []
    problems: list[Problem] = []
    for path, there in zip(files, columns, strict=True):
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        values = {column: arrow.cells(path, column) for column in asked}
        for row in range(there.rows):
            place = f"{path}, row {row}"
            said = {column: cells[row] for column, cells in values.items()}
            if one:
                said = {key: class_names(cell, first.classes.get(key), place, problems) for key, cell in said.items()}
            rows.append(Row(place, {IMAGE: f"{name}::{image}/{row}", **said}))
    if problems:
        raise DataError.of(problems, "class numbers have no names")
    if labels is None and one in first.classes:
        labels = LabelSpace(first.classes[one])
    return manifest_of_rows(
        rows,
        labels,
        image_column=IMAGE,
        label_column=one,
        columns=asked,
        delimiter=delimiter,
        root=folder,
        split=split or files[0].stem,
        source=f"{files[0].name}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
        where=where,
    )


IMAGE = "\0image"
"""Key of the picture's name among a row's cells; no column is called so."""
