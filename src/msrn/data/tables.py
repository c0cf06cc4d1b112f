"""How are tables read? CSV, TSV or JSON lines: an image column, and labels in one of two forms.

- **One label column**: ``beach/01.jpg,sea|boat``. A cell that is blank or ``nan`` says nothing is known of any label;
  a cell ``-`` says there is none of them.
- **One column per label**: cells ``1`` (present), ``0`` (absent), blank or ``nan`` (unknown).

Which form it is shows in the table: one column of names beside the image column, or columns of ones and zeros.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from msrn.data.records import Manifest, Record, missing_images, repeated_images
from msrn.errors import DataError, Problem, did_you_mean
from msrn.labels.space import LabelSpace

__all__ = ["read_table"]

IMAGE_COLUMNS = ("image", "filename", "file_name", "file", "filepath", "path", "image_path", "img")
LABEL_COLUMNS = ("labels", "label", "tags", "tag", "classes", "class")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
PRESENT, ABSENT = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
NONE_OF_THEM = "-"


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    cells: dict[str, Any]


def read_table(
    path: str | Path,
    labels: LabelSpace | None = None,
    *,
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
) -> Manifest:
    """Read a CSV, TSV or JSON lines file of labelled pictures.

    Args:
        path: the table. Without a header, the first column holds pictures and the second labels.
        labels: bind to these; None: the names found, in alphabetical order (columns: in the table's order).
        root: what picture paths start from; None: the table's folder. Paths may not leave it.
        image_column: None: a usual name such as ``image`` or ``path``, or the first column.
        label_column: None: a usual name such as ``labels`` or ``tags``, or all other columns.
        delimiter: between the labels of one cell; None: the first of ``|``, ``;`` and ``,`` that occurs.

    Raises:
        DataError: everything that is wrong, by file and line: missing pictures, unknown labels, pictures named twice,
            values that are none of those above, an empty table.
    """
    path = Path(path)
    folder = Path(root) if root else path.parent
    columns, rows = _read_rows(path, folder)
    image_column = _pick(image_column, IMAGE_COLUMNS, columns, path, "image_column") or columns[0]
    others = [column for column in columns if column != image_column]
    if not others:
        raise DataError("expected an image column and labels, got one column", f"{path}, line 1", "add a labels column")
    one = _pick(label_column, LABEL_COLUMNS, others, path, "label_column")
    if one is None and len(others) == 1 and not all(_is_state(row.cells.get(others[0])) for row in rows):
        one = others[0]
    problems: list[Problem] = []
    if one is not None:
        states = [_from_names(row, one, delimiter or _delimiter(rows, one), problems) for row in rows]
        names = sorted({name for positives, _ in states for name in positives})
    else:
        states = [_from_columns(row, others, problems) for row in rows]
        names = others
    problems += _unknown_labels(names, labels, rows, states, str(path))
    if one is None and labels is not None:
        hint = "add the column; leave its cells blank where nobody knows"
        lost = [f"label {name!r} of the label set has no column" for name in labels if name not in names]
        problems += [Problem(message, f"{path}, line 1", hint) for message in lost]
    space = labels or (LabelSpace(names) if names and not problems else None)
    images = [_image(row, image_column, problems) for row in rows]
    places = [row.where for row in rows]
    problems += repeated_images(images, places)
    problems += missing_images(folder, [pair for pair in zip(images, places, strict=True) if pair[0]])
    if not rows:
        problems.append(Problem("the table holds no pictures", str(path)))
    elif space is None and not problems:
        problems.append(Problem("the table names no label at all", str(path), f"column {one!r} is blank everywhere"))
    if problems or space is None:
        raise DataError.of(problems, f"the table {path.name} is broken")
    records = tuple(
        Record(image, positives, (), space.names if unknown is None else unknown)
        for image, (positives, unknown) in zip(images, states, strict=True)
    )
    return Manifest(records, space, path.stem, folder, path.name)


State = tuple[tuple[str, ...], tuple[str, ...] | None]
"""Positive labels, and unknown ones; None: all are unknown."""


def _read_rows(path: Path, folder: Path) -> tuple[list[str], list[_Row]]:
    """Column names and rows, each with its place in the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        hint = "expected a CSV, TSV or JSONL file in UTF-8"
        raise DataError(f"cannot read the table: {told}", str(path), hint) from error
    if path.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
        return _json_rows(path, text)
    return _delimited_rows(path, text, folder)


def _json_rows(path: Path, text: str) -> tuple[list[str], list[_Row]]:
    rows, columns, problems = [], dict[str, None](), []
    # Not splitlines(): it also breaks at characters that a name may hold (U+0085, U+2028).
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            cells = json.loads(line)
        except ValueError as error:
            problems.append(Problem(f"expected one JSON object a line: {error}", where))
            continue
        if not isinstance(cells, dict):
            problems.append(Problem(f"expected a JSON object, got {type(cells).__name__}", where))
            continue
        columns |= dict.fromkeys(cells)
        rows.append(_Row(where, cells))
    if problems:
        raise DataError.of(problems, f"the table {path.name} is broken")
    if not rows:
        raise DataError("the table holds no pictures", str(path))
    return list(columns), rows


def _delimited_rows(path: Path, text: str, folder: Path) -> tuple[list[str], list[_Row]]:
    first = text.lstrip().split("\n", 1)[0]
    # The separator is one that the first line holds; a comma wins, for cells may hold the others.
    separator = "\t" if path.suffix.lower() == ".tsv" else next((mark for mark in ",\t;" if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        hint = "is a quotation mark left open?"
        raise DataError(f"expected CSV: {error}", f"{path}, line {reader.line_num}", hint) from error
    if not lines:
        raise DataError("the table holds no pictures", str(path), "expected an image column and labels")
    header = [cell.strip() for cell in lines[0][1]]
    if any(cell.lower().endswith(IMAGE_SUFFIXES) for cell in header) or not missing_images(folder, [(header[0], "")]):
        if len(header) != 2:
            hint = "add a header that names the columns"
            raise DataError(f"a table of {len(header)} columns needs a header", f"{path}, line 1", hint)
        header = ["image", "labels"]
    else:
        lines = lines[1:]
    if len(set(header)) != len(header):
        raise DataError(f"column names must be unique, got {', '.join(header)}", f"{path}, line 1")
    rows, problems = [], []
    for number, cells in lines:
        where = f"{path}, line {number}"
        if len(cells) != len(header):
            hint = "quote cells that hold the separator"
            problems.append(Problem(f"expected {len(header)} cells, got {len(cells)}", where, hint))
            continue
        rows.append(_Row(where, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    if problems:
        raise DataError.of(problems, f"the table {path.name} is broken")
    return header, rows


def _pick(asked: str | None, usual: Iterable[str], columns: list[str], path: Path, option: str) -> str | None:
    if asked is not None and asked not in columns:
        hint = did_you_mean(asked, columns) or f"columns: {', '.join(columns)}"
        raise DataError(f"there is no column {asked!r} ({option})", f"{path}, line 1", hint)
    by_lower = {column.lower(): column for column in reversed(columns)}
    return asked or next((by_lower[name] for name in usual if name in by_lower), None)


def _delimiter(rows: list[_Row], column: str) -> str:
    cells = [str(row.cells.get(column, "")) for row in rows if not isinstance(row.cells.get(column), list)]
    return next((mark for mark in ("|", ";", ",") if any(mark in cell for cell in cells)), "|")


def _from_names(row: _Row, column: str, delimiter: str, problems: list[Problem]) -> State:
    cell = row.cells.get(column)
    if _blank(cell):
        return (), None
    if isinstance(cell, list):
        if not all(isinstance(name, str) for name in cell):
            problems.append(Problem(f"column {column!r}: expected a list of names, got {cell!r}", row.where))
            return (), ()
        names = [name.strip() for name in cell]
    else:
        names = [name.strip() for name in str(cell).split(delimiter)]
    names = [name for name in names if name and name != NONE_OF_THEM]
    if len(set(names)) != len(names):
        problems.append(Problem(f"column {column!r} names a label twice: {cell!r}", row.where, "name it once"))
    return tuple(dict.fromkeys(names)), ()


def _from_columns(row: _Row, columns: list[str], problems: list[Problem]) -> State:
    positives, unknown = [], []
    for column in columns:
        cell = row.cells.get(column)
        text = str(cell).strip().lower()
        if _blank(cell):
            unknown.append(column)
        elif text in PRESENT:
            positives.append(column)
        elif text not in ABSENT:
            message = f"column {column!r}: expected 1, 0 or nothing (unknown), got {cell!r}"
            problems.append(Problem(message, row.where, "other codings must be brought to these first"))
    return tuple(positives), tuple(unknown)


def _blank(cell: Any) -> bool:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return True
    return isinstance(cell, str) and cell.strip().lower() in {"", "nan", "na", "null"}


def _unknown_labels(
    names: list[str], labels: LabelSpace | None, rows: list[_Row], states: list[State], path: str
) -> list[Problem]:
    if labels is None:
        return []
    strange = {name for name in names if name not in labels}
    hints = {name: did_you_mean(name, labels.names) or f"the label set has {len(labels)} names" for name in strange}
    found = [
        Problem(f"label {name!r} is not in the label set", row.where, hints[name])
        for row, (positives, _) in zip(rows, states, strict=True)
        for name in positives
        if name in strange
    ]
    silent = sorted(strange - {name for positives, _ in states for name in positives})
    where = f"{path}, line 1"
    return found + [Problem(f"label {name!r} is not in the label set", where, hints[name]) for name in silent]


def _is_state(cell: Any) -> bool:
    return _blank(cell) or str(cell).strip().lower() in PRESENT | ABSENT


def _image(row: _Row, column: str, problems: list[Problem]) -> str:
    image = str(row.cells.get(column) or "")
    if not image:
        problems.append(Problem(f"column {column!r} names no picture", row.where))
    elif ".." in PurePosixPath(image).parts:
        message = f"the picture path {image!r} leaves the folder of the table"
        problems.append(Problem(message, row.where, "set data.root to a folder that holds all pictures"))
        return ""
    return image
