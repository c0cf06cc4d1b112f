"""Labels of an image from the cells of a row: the rules that tables, parquet files, shards and text files share.

- **One label column**: ``sea|boat``, or a list of names. In a cell that is blank, ``?`` or ``nan``, every label is
  unknown; in a cell ``-``, or an empty list, every label is absent. A column ``unknown`` beside it may list unknown
  labels in the same way.
- **One column per label**: cells ``1`` (present), ``0`` (absent), blank, ``?`` or ``nan`` (unknown).
- **As in a manifest**: lists ``positives``, ``difficult`` and ``unknown`` of names.

A code -1 is refused: it means "absent" in some data sets and "unknown" in others.

The form is recognised from the columns: one column of names beside the image column, or columns of ones and zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from msrn.data.image_paths import missing_images, repeated_images
from msrn.data.manifest import Manifest, Record
from msrn.errors import DataError, Problem, did_you_mean
from msrn.labels.space import LabelSpace

__all__ = [
    "LABEL_COLUMNS",
    "Row",
    "Table",
    "class_names",
    "drop_empty",
    "manifest_of_rows",
    "pick_column",
    "split_tags",
]

LABEL_COLUMNS = ("positives", "labels", "label", "tags", "tag", "classes", "class")
PRESENT, ABSENT = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
UNKNOWN_CELLS = {"", "?", "nan", "na", "n/a", "#n/a", "<na>", "null"}
NO_LABEL = "-"
BESIDE = "unknown"
MINUS_ONE = "-1 means absent in some data sets and unknown in others: write 0, or leave the cell blank"
NOT_LABELLED = "leave the cell blank if nothing is known of the image; write - if it shows none of the labels"


@dataclass(frozen=True, slots=True)
class Row:
    """Cells of the row of one image, by column, and where the row is."""

    where: str
    cells: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one split, and what their columns hold.

    Fields: rows, one per image; image_column, whose cells are paths under ``root`` or names inside archives;
    label_column, None for a usual name such as ``labels`` or ``tags``, or else all of ``columns``; columns, all but the
    image column; delimiter, between the labels of one cell, None for the first of ``|``, ``;`` and ``,`` that occurs;
    root, split and source of the manifest; where, the data set as problems name it; header, where its columns are
    named.
    """

    rows: list[Row]
    image_column: str
    label_column: str | None
    columns: list[str]
    delimiter: str | None
    root: Path
    split: str
    source: str
    where: str
    header: str = ""


def manifest_of_rows(table: Table, labels: LabelSpace | None) -> Manifest:
    """Turn rows into a manifest, by the rules above.

    Args:
        table: the rows.
        labels: bind to these; None: the names found, in alphabetical order (columns: in the order of the table).

    Raises:
        DataError: as ``read_table``.
    """
    rows, columns, source, header = table.rows, table.columns, table.source, table.header or table.where
    if not columns:
        raise DataError("expected an image column and labels, got one column", header, "add a labels column")
    one = pick_column(table.label_column, LABEL_COLUMNS, columns, header, "label_column")
    if one is None and len(columns) == 1 and not all(_is_state(row.cells.get(columns[0])) for row in rows):
        one = columns[0]
    # The manifest form holds lists; a column that is only named "positives" may as well be a label.
    in_lists = one == "positives" and any(isinstance(row.cells.get(one), list) for row in rows)
    if one == "positives" and not in_lists and table.label_column is None:
        one = pick_column(None, LABEL_COLUMNS[1:], columns, header, "label_column")
    problems: list[Problem] = []
    if in_lists:
        states = [_from_lists(row, problems) for row in rows]
    elif one is not None:
        beside = next((name for row in rows for name in row.cells if name.lower() == BESIDE and name != one), None)
        states = _from_names(rows, one, beside, table.delimiter, problems)
    else:
        states = [_from_columns(row, columns, problems) for row in rows]
    names = columns if one is None else sorted({name for state in states for name in _named(state)})
    problems += _unknown_labels(names, labels, rows, states, header)
    if one is None and labels is not None:
        hint = "add the column, and leave cells blank where the label is unknown"
        lacking = [f"label {name!r} of the label set has no column" for name in labels if name not in names]
        problems += [Problem(message, header, hint) for message in lacking]
    space = labels or (LabelSpace(names) if names and not problems else None)
    images = [_image(row, table.image_column, problems) for row in rows]
    places = [row.where for row in rows]
    problems += repeated_images(images, places)
    problems += missing_images(table.root, [pair for pair in zip(images, places, strict=True) if pair[0]])
    if not rows:
        problems.append(Problem(f"{source} holds no images", table.where))
    elif space is None and not problems:
        problems.append(Problem(f"{source} names no label at all", table.where, f"{one!r} is blank everywhere"))
    if problems or space is None:
        raise DataError.of(problems, f"{source} is broken")
    records = tuple(
        Record(image, positives, difficult, space.names if unknown is None else unknown)
        for image, (positives, difficult, unknown) in zip(images, states, strict=True)
    )
    return Manifest(records, space, table.split, table.root, source)


def drop_empty(manifest: Manifest) -> Manifest:
    """The manifest without images that are known to show none of the labels.

    Raises:
        DataError: no image is left.
    """
    records = tuple(r for r in manifest.records if r.positives or r.difficult or r.unknown)
    if not records:
        hint = "pass --data.reader.empty keep"
        raise DataError("no image shows a label, and images without one are dropped", manifest.source, hint)
    dropped = len(manifest) - len(records)
    return replace(manifest, records=records, source=f"{manifest.source}, images without labels dropped ({dropped})")


State = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...] | None]
"""Positive, difficult and unknown labels; None: all are unknown."""


def class_names(cell: Any, names: Sequence[str] | None, where: str, problems: list[Problem]) -> Any:
    """A cell of one or several class numbers as names; other cells unchanged. A single -1 means not labelled: None."""
    numbers = cell if isinstance(cell, list) else [cell]
    if not numbers or not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        return cell
    if cell == -1:
        return None
    if names is None or not all(0 <= number < len(names) for number in numbers):
        expected = f"numbers from 0 to {len(names) - 1}" if names else "names, because no class names are known"
        problems.append(Problem(f"expected {expected}, got {cell!r}", where))
        return []
    return [names[number] for number in numbers]


def split_tags(text: str, delimiter: str) -> list[str] | None:
    """The tags of a text, on lines and between delimiters, each once; None if there are none."""
    # Not splitlines(): it also breaks at characters that a name may hold (U+0085, U+2028).
    lines = text.replace("\r", "\n").split("\n")
    tags = dict.fromkeys(tag.strip() for line in lines for tag in line.split(delimiter))
    return [tag for tag in tags if tag] or None


def pick_column(asked: str | None, usual: Iterable[str], columns: Sequence[str], where: str, option: str) -> str | None:
    """The column that is asked for, or else the first usual one that exists.

    Raises:
        DataError: the column that is asked for does not exist.
    """
    if asked is not None and asked not in columns:
        hint = did_you_mean(asked, columns) or f"columns: {', '.join(columns)}"
        raise DataError(f"there is no column {asked!r} ({option})", where, hint)
    by_lower = {column.lower(): column for column in reversed(columns)}
    return asked or next((by_lower[name] for name in usual if name in by_lower), None)


def _delimiter(rows: list[Row], column: str) -> str:
    cells = [str(row.cells.get(column, "")) for row in rows if not isinstance(row.cells.get(column), list)]
    return next((mark for mark in ("|", ";", ",") if any(mark in cell for cell in cells)), "|")


def _from_names(
    rows: list[Row], column: str, beside: str | None, delimiter: str | None, problems: list[Problem]
) -> list[State]:
    """The form of one label column; the column ``beside`` lists unknown labels."""
    marks = {name: delimiter or _delimiter(rows, name) for name in (column, beside) if name}
    states = []
    for row in rows:
        positives = _names(row, column, marks[column], problems)
        unknown = _names(row, beside, marks[beside], problems) if beside else None
        if codes := [name for name in unknown or () if name.lower() in PRESENT | ABSENT]:
            problems.append(Problem(f"column {beside!r}: expected names of labels, got {codes[0]!r}", row.where))
            unknown = None
        states.append(_state(row, column, (positives, (), unknown), problems))
    return states


def _names(row: Row, column: str, delimiter: str, problems: list[Problem]) -> tuple[str, ...] | None:
    """The label names of a cell; None if it is blank."""
    cell = row.cells.get(column)
    if _blank(cell):
        return None
    if isinstance(cell, list):
        if not all(isinstance(name, str) for name in cell):
            problems.append(Problem(f"column {column!r}: expected a list of names, got {cell!r}", row.where))
            return ()
        names = [name.strip() for name in cell]
    elif str(cell).strip() == "-1":
        problems.append(Problem(f"column {column!r}: expected names of labels, got -1", row.where, NOT_LABELLED))
        return ()
    else:
        names = [name.strip() for name in str(cell).split(delimiter)]
        if "?" in names:
            message = f"column {column!r}: expected names of labels, got '?' among them"
            problems.append(Problem(message, row.where, "list the unknown labels in a column 'unknown'"))
    names = [name for name in names if name and name != NO_LABEL]
    if len(set(names)) != len(names):
        problems.append(Problem(f"column {column!r} names a label twice: {cell!r}", row.where, "name it once"))
    return tuple(dict.fromkeys(names))


def _from_lists(row: Row, problems: list[Problem]) -> State:
    """The form of a manifest."""
    lists = [row.cells.get(column) for column in ("positives", "difficult", "unknown")]
    if not all(_is_list_of_names(names) for names in lists if names is not None):
        message = "expected positives, difficult and unknown to be lists of label names"
        problems.append(Problem(message, row.where))
        return (), (), ()
    positives, difficult, unknown = (None if names is None else tuple(names) for names in lists)
    return _state(row, "positives", (positives, difficult, unknown), problems)


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _state(row: Row, column: str, names: tuple[tuple[str, ...] | None, ...], problems: list[Problem]) -> State:
    """Positive, difficult and unknown labels, checked; where the positives are None, all labels are unknown."""
    positives, difficult, unknown = names
    if positives is None:
        if difficult or unknown:
            message = f"labels are listed as {'difficult' if difficult else 'unknown'}, but {column!r} is blank"
            problems.append(Problem(message, row.where, "write - or an empty list there if none is present"))
        return (), (), None
    named = (*positives, *(difficult or ()), *(unknown or ()))
    if len(set(named)) != len(named):
        problems.append(Problem("a label is named twice", row.where, "name it once"))
    return positives, difficult or (), unknown or ()


def _from_columns(row: Row, columns: list[str], problems: list[Problem]) -> State:
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
            hint = MINUS_ONE if text in {"-1", "-1.0"} else "convert other codings to these first"
            problems.append(Problem(message, row.where, hint))
    return tuple(positives), (), tuple(unknown)


def _named(state: State) -> tuple[str, ...]:
    positives, difficult, unknown = state
    return positives + difficult + (unknown or ())


def _blank(cell: Any) -> bool:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return True
    return isinstance(cell, str) and cell.strip().lower() in UNKNOWN_CELLS


def _unknown_labels(
    names: list[str], labels: LabelSpace | None, rows: list[Row], states: list[State], header: str
) -> list[Problem]:
    if labels is None:
        return []
    strange = {name for name in names if name not in labels}
    hints = {name: did_you_mean(name, labels.names) or f"the label set has {len(labels)} names" for name in strange}
    found = [
        Problem(f"label {name!r} is not in the label set", row.where, hints[name])
        for row, (positives, _, _) in zip(rows, states, strict=True)
        for name in positives
        if name in strange
    ]
    silent = sorted(strange - {name for positives, _, _ in states for name in positives})
    return found + [Problem(f"label {name!r} is not in the label set", header, hints[name]) for name in silent]


def _is_state(cell: Any) -> bool:
    return _blank(cell) or str(cell).strip().lower() in PRESENT | ABSENT


def _image(row: Row, column: str, problems: list[Problem]) -> str:
    image = str(row.cells.get(column) or "")
    if not image:
        problems.append(Problem(f"column {column!r} names no image", row.where))
    elif ".." in PurePosixPath(image).parts:  # member names of archives are checked when the archive is indexed
        message = f"the image path {image!r} leaves the folder of the table"
        problems.append(Problem(message, row.where, "set data.root to a folder that holds all images"))
        return ""
    return image
